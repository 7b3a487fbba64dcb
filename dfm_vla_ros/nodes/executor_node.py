"""``executor_node``: action chunks in, one joint trajectory per arm out; never loads torch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from dfm_vla_ros.msg import ActionChunk, ExecutorStatus, TaskStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.episodes import EpisodeWatch
from dfm_vla_ros.nodes.parameters import Parameter, declare
from dfm_vla_ros.nodes.run import run
from dfm_vla_ros.nodes.stamps import TimeBase
from dfm_vla_ros.nodes.trajectories import doubles, to_message
from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.description import robot_description
from dfm_vla_ros.robot.executor import ChunkRefused, Executor, Request
from dfm_vla_ros.robot.joints import ARMS
from dfm_vla_ros.robot.limits import ARM_ACCELERATION, GRIPPER_ACCELERATION, JointLimits
from dfm_vla_ros.robot.plan import DEFAULT_SETTINGS as DEFAULT
from dfm_vla_ros.robot.plan import Plan, PlanSettings
from dfm_vla_ros.tokens.action import ActionTokenizer

PARAMETERS = (
    Parameter("checkpoint", "", "checkpoint folder with the action tokenizer; empty: the shipped"),
    Parameter("robot_description", "", "URDF with the joint limits; empty: the shipped dual arm"),
    Parameter("lead", DEFAULT.lead_s, "[s] from stamp to first point", (0.001, 0.1)),
    Parameter("minimum_gap", DEFAULT.minimum_gap_s, "[s] steps due sooner drop", (0.01, 0.5)),
    Parameter("limit_margin", DEFAULT.margin_rad, "[rad] kept from position limits", (0.0, 0.5)),
    Parameter("maximum_jump", DEFAULT.jump_rad, "[rad] to the first target", (0.0, 3.2)),
    Parameter(
        "maximum_time_scale", DEFAULT.largest_time_scale, "slowest, as a factor", (1.0, 100.0)
    ),
    Parameter("arm_acceleration", ARM_ACCELERATION, "[rad/s^2] limit", (0.1, 1000.0)),
    Parameter("gripper_acceleration", GRIPPER_ACCELERATION, "[m/s^2] limit", (0.1, 1000.0)),
    Parameter("maximum_joint_state_age", 0.5, "[s] older refuses chunks", (0.02, 10.0)),
    Parameter("command_rate", 100.0, "[Hz] of commanded_joint_states", (1.0, 500.0)),
)


class ExecutorNode(Node):
    """Plans chunks, publishes both trajectories or neither, and says what it commands."""

    def __init__(self) -> None:
        """Load tokenizer and limits; wait for joint states."""
        super().__init__("executor_node")
        values = declare(self, PARAMETERS)
        self._chunk_executor = _make_executor(values)
        self._time = TimeBase()
        self._joint_fault = ""
        self._episode = EpisodeWatch()
        self._status = ExecutorStatus(tokenizer_hash=self._chunk_executor.tokenizer.hash)
        self._commanded = JointState(name=list(self._chunk_executor.limits.names))
        self._make_topics()
        # Not the node's clock: without /clock it stands still, and a signal would go unnoticed.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1 / values["command_rate"], self._tick, clock=steady)
        self.create_timer(1.0, self._publish_status, clock=steady)
        self._publish_status()

    def _make_topics(self) -> None:
        self._trajectories = {
            arm: self.create_publisher(
                JointTrajectory, f"{arm}_arm_controller/joint_trajectory", qos.COMMAND
            )
            for arm in ARMS
        }
        self._commanded_topic = self.create_publisher(
            JointState, "commanded_joint_states", qos.SENSOR_SOURCE
        )
        self._status_topic = self.create_publisher(ExecutorStatus, "~/status", qos.STATUS)
        self.create_subscription(ActionChunk, "action_chunk", self._on_chunk, qos.COMMAND)
        self.create_subscription(JointState, "joint_states", self._on_joint_states, qos.SENSOR)
        self.create_subscription(TaskStatus, "task_status", self._on_task_status, qos.STATUS)

    def _now_s(self) -> float:
        return self._time.from_nanoseconds(self.get_clock().now().nanoseconds)

    def _on_joint_states(self, message: JointState) -> None:
        stamp_s = self._time.seconds(message.header.stamp)
        try:
            self._chunk_executor.measure(message.name, message.position, stamp_s)
            self._joint_fault = ""
        except ChunkRefused as refusal:
            # The status tells of chunks only; the next one is refused for old joint states.
            if self._joint_fault != str(refusal):
                self._joint_fault = str(refusal)
                self.get_logger().warning(f"not taken: {refusal}")

    def _on_task_status(self, message: TaskStatus) -> None:
        if self._episode.is_new(message.task, message.seed, message.elapsed):
            self._chunk_executor.reset(self._time.seconds(message.header.stamp))

    def _on_chunk(self, message: ActionChunk) -> None:
        self._status.received += 1
        try:
            made = self._chunk_executor.receive(self._request(message), self._now_s())
        except ChunkRefused as refusal:
            self._status.refused += 1
            self._refuse(refusal)
            return
        self._publish(made)
        self._report(message, made)

    def _request(self, message: ActionChunk) -> Request:
        return Request(
            message.tokenizer_hash,
            tuple(message.joint_names),
            message.horizon,
            np.array(message.tokens, dtype=np.int64),
            np.array(message.reference_positions, dtype=np.float64),
            message.control_period,
            self._time.seconds(message.observation_stamp),
        )

    def _publish(self, made: Plan) -> None:
        stamp = self._time.stamp(made.stamp_s)
        # Both are ready before the first goes out: both arms move, or neither.
        messages = [(arm, to_message(made.trajectories[arm], stamp)) for arm in ARMS]
        for arm, message in messages:
            self._trajectories[arm].publish(message)

    def _report(self, message: ActionChunk, made: Plan) -> None:
        status = self._status
        status.executed += 1
        status.error_code, status.message = ExecutorStatus.OK, ""
        status.chunk_id = message.chunk_id
        status.observation_stamp = message.observation_stamp
        status.published_stamp = self.get_clock().now().to_msg()
        status.inference_time = message.inference_time
        status.time_scale = made.time_scale
        self._publish_status()

    def _refuse(self, refusal: ChunkRefused) -> None:
        """Say why; the arms go on with what they had."""
        self.get_logger().warning(f"refused: {refusal}")
        self._status.error_code, self._status.message = int(refusal.verdict), str(refusal)
        self._publish_status()

    def _tick(self) -> None:
        """Publish what is commanded now."""
        now = self.get_clock().now()
        commanded = self._chunk_executor.sample(self._time.from_nanoseconds(now.nanoseconds))
        if commanded is not None:
            message = self._commanded
            message.header.stamp = now.to_msg()
            message.position, message.velocity = (doubles(values) for values in commanded)
            self._commanded_topic.publish(message)
        if self._state() != self._status.state:
            self._publish_status()

    def _state(self) -> int:
        now_s = self._now_s()
        if self._chunk_executor.sample(now_s) is None:
            return ExecutorStatus.WAITING
        moving = self._chunk_executor.executing(now_s)
        return ExecutorStatus.EXECUTING if moving else ExecutorStatus.HOLDING

    def _publish_status(self) -> None:
        self._status.header.stamp = self.get_clock().now().to_msg()
        self._status.state = self._state()
        self._status_topic.publish(self._status)


def _make_executor(values: dict) -> Executor:
    """Build the library's executor from the node's parameters."""
    folder = Path(values["checkpoint"] or resource_path("checkpoints/default"))
    limits = JointLimits.from_urdf(
        values["robot_description"] or robot_description(),
        arm_acceleration=values["arm_acceleration"],
        gripper_acceleration=values["gripper_acceleration"],
    )
    settings = PlanSettings(
        lead_s=values["lead"],
        minimum_gap_s=values["minimum_gap"],
        margin_rad=values["limit_margin"],
        jump_rad=values["maximum_jump"],
        largest_time_scale=values["maximum_time_scale"],
    )
    tokenizer = ActionTokenizer.load(folder)
    return Executor(tokenizer, limits, settings, values["maximum_joint_state_age"])


def main() -> int:
    """Run the node."""
    return run(ExecutorNode)


if __name__ == "__main__":
    sys.exit(main())
