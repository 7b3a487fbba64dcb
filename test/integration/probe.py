"""A graph under test and a probe in the test's own process."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from dfm_vla_ros.msg import ActionChunk, ExecutorStatus
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from dfm_vla_ros.graph.client import GraphClient
from dfm_vla_ros.graph.processes import Children
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.messages import doubles
from dfm_vla_ros.nodes.qos import own_domain
from dfm_vla_ros.robot.joints import ARMS, JOINT_NAMES
from dfm_vla_ros.tokens.action import ActionTokenizer

PATIENCE_S = 60.0
HOME = np.array([0.0, 1.455, -0.729, 0.0, 0.931, 0.0, 0.035] * 2)


class Graph:
    """Nodes in processes, a client, and every message of the topics that matter."""

    def __init__(
        self, nodes: tuple[str, ...], checkpoint: Path, logs: Path, parameters: Mapping[str, Any]
    ) -> None:
        """Start ``nodes``; ``parameters`` are named ``<node>__<parameter>``."""
        self._stack = ExitStack()
        domain = self._stack.enter_context(own_domain())
        self.children = self._stack.enter_context(Children(domain, logs))
        trained = {"policy_node", "executor_node"}
        for node in nodes:
            given = {"checkpoint": checkpoint} if node in trained else {}
            known = {k.partition("__")[2]: v for k, v in parameters.items() if k.startswith(node)}
            self.children.start_node(node, {**given, **known})
        self.client = self._stack.enter_context(
            GraphClient(domain, use_sim_time=False, check=lambda: None)
        )
        self.node = self.client.node
        self.checkpoint = checkpoint
        self.tokenizer = ActionTokenizer.load(checkpoint)
        self.trajectories: dict[str, list[JointTrajectory]] = {arm: [] for arm in ARMS}
        self.commanded: list[JointState] = []
        self.measured: list[JointState] = []
        self.chunks: list[ActionChunk] = []
        for arm in ARMS:
            topic = f"{arm}_arm_controller/joint_trajectory"
            self._keep(JointTrajectory, topic, self.trajectories[arm])
        self._keep(JointState, "commanded_joint_states", self.commanded)
        self._keep(JointState, "joint_states", self.measured)
        self._keep(ActionChunk, "action_chunk", self.chunks)
        self._chunk_topic = self.node.create_publisher(ActionChunk, "action_chunk", qos.COMMAND)

    def _keep(self, kind: type, topic: str, kept: list[Any]) -> None:
        self.node.create_subscription(kind, topic, kept.append, 50)

    def play_joint_states(self) -> None:
        """Be a robot that stands still at HOME."""
        topic = self.node.create_publisher(JointState, "joint_states", qos.SENSOR_SOURCE)

        def publish() -> None:
            message = JointState(name=list(JOINT_NAMES), position=doubles(HOME))
            message.header.stamp = self.node.get_clock().now().to_msg()
            topic.publish(message)

        self.node.create_timer(0.02, publish)

    @property
    def executor_status(self) -> ExecutorStatus:
        """The newest; an empty one before the first."""
        return self.client.statuses.get("executor_node/status", ExecutorStatus())

    def chunk(self, token: int = 40, **changes: Any) -> ActionChunk:
        """Return a good chunk of now that moves every joint a little, with ``changes``."""
        joints = len(JOINT_NAMES)
        now = self.node.get_clock().now().to_msg()
        message = ActionChunk(
            observation_stamp=now,
            chunk_id=1,
            tokenizer_hash=self.tokenizer.hash,
            joint_names=list(JOINT_NAMES),
            reference_positions=doubles(HOME),
            control_period=0.1,
            horizon=8,
            tokens=[token] * (8 * joints),
        )
        message.header.stamp = now
        for field, value in changes.items():
            setattr(message, field, value)
        return message

    def send(self, message: ActionChunk | bytes) -> ExecutorStatus:
        """Publish a chunk (or its bytes) and return the status that counts it."""
        before = self.executor_status.received
        self._chunk_topic.publish(message)
        self.until(lambda: self.executor_status.received == before + 1, "count of the chunk")
        return self.executor_status

    def until(self, condition: Any, what: str, timeout_s: float = PATIENCE_S) -> None:
        """Serve callbacks until ``condition`` holds, or fail."""
        self.client.until(condition, timeout_s, what)

    def wait_matched(self, policies: int = 0) -> None:
        """Wait until a chunk sent now would arrive, and a chunk or a trajectory be seen."""
        topics = [f"{arm}_arm_controller/joint_trajectory" for arm in ARMS]

        def is_matched() -> bool:
            return (
                self.node.count_subscribers("action_chunk") >= 2
                and self.node.count_publishers("action_chunk") >= 1 + policies
                and all(self.node.count_publishers(topic) for topic in topics)
            )

        self.until(is_matched, "matching endpoints")

    def close(self) -> None:
        """End everything."""
        self._stack.close()
