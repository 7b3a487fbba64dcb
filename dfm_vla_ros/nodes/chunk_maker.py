"""Makes the chunks of the current goal, joins them to the running one, and holds."""

from __future__ import annotations

import threading
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode

from dfm_vla_ros.msg import ActionChunk
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.executor_watch import ExecutorWatch
from dfm_vla_ros.nodes.goals import Goal
from dfm_vla_ros.nodes.inference import Inference
from dfm_vla_ros.nodes.policy_parameters import MODES
from dfm_vla_ros.nodes.stamps import TimeBase
from dfm_vla_ros.nodes.submission import Submission
from dfm_vla_ros.nodes.trace_topic import TraceTopic
from dfm_vla_ros.nodes.trajectories import doubles
from dfm_vla_ros.nodes.watch import Watch
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.realtime import Continuation, Pace
from dfm_vla_ros.policy.types import Chunk
from dfm_vla_ros.robot.chunks import JoinMode

SEED_STRIDE = 1_000_003


class ChunkMaker:
    """Looks when it is time, infers on the inference thread, publishes straight from there.

    ``_lock`` guards what both threads decide by: which goal is current, and how many holds there
    were. A chunk that was begun before a hold or for an older goal is dropped, so a hold is the
    last message of its goal.
    """

    def __init__(
        self,
        node: LifecycleNode,
        values: Mapping[str, Any],
        time_base: TimeBase,
        watch: Watch,
        executor: ExecutorWatch,
        inference: Inference,
        wake: Callable[[], None],
    ) -> None:
        """Publish on ``action_chunk``; ``wake`` lets the node's thread see what came of a call."""
        self._node, self._values, self._time = node, values, time_base
        self._watch, self._executor, self._inference = watch, executor, inference
        self._wake = wake
        self._topic = node.create_lifecycle_publisher(
            ActionChunk, "action_chunk", qos.EVERY_COMMAND
        )
        self._trace = TraceTopic(node)
        self._lock = threading.Lock()
        self._holds = 0
        self._moving = False
        self._mode = MODES[values["mode"]]
        self._policy: Policy | None = None
        self.goal: Goal | None = None
        """The current one; only the node's thread changes it."""
        self.times: deque[float] = deque(maxlen=100)
        """Of the last policy calls whose chunks were published [s]."""
        self.published = self.dropped = self.failed = 0

    def prepare(self, policy: Policy) -> None:
        """Make chunks with ``policy`` from now on.

        Raises:
            RealtimeError: ``execute_steps`` exceeds the horizon.
        """
        steps = self._values["execute_steps"] or policy.execute_steps
        pace = Pace(self._mode, steps, policy.horizon, policy.control_period_s)
        self._pace, self._policy, self._decoding = pace, policy, policy.decoding
        self._begin_anew()
        self.times.clear()

    def _begin_anew(self) -> None:
        """Continue no chunk published so far: at first, and after a hold."""
        start_t0 = self._values["warm_start"] or None
        self._continuation = Continuation(self._policy.tokenizer, self._mode, start_t0)

    def forget(self) -> None:
        """Let go of the policy."""
        with self._lock:
            self._policy = None

    def serve(self, goal: Goal) -> Goal | None:
        """Make chunks for ``goal``; return the goal that it takes over from."""
        with self._lock:
            old, self.goal = self.goal, goal
        return old

    def end(self) -> None:
        """Make no chunk more for the current goal; hold is its last message."""
        with self._lock:
            goal, self.goal = self.goal, None
            if goal is not None:
                self._hold(goal)

    def pause(self) -> None:
        """Hold until the next chunk, once: the observations are unusable."""
        with self._lock:
            if self.goal is not None and (self._moving or not self._inference.idle):
                self._hold(self.goal)

    def _hold(self, goal: Goal) -> None:
        self._holds += 1
        self._moving = False
        self._begin_anew()
        now = self._node.get_clock().now().to_msg()
        message = ActionChunk(
            observation_stamp=now, chunk_id=goal.chunks, goal_id=goal.id, hold=True
        )
        message.instruction = goal.instruction
        self._publish(message)

    def start_if_due(self) -> None:
        """Start an inference if a new chunk is due; called at each third view."""
        goal, at_s = self.goal, self._watch.image_stamp_s
        if goal is None or not self._inference.idle:
            return
        if self._watch.complaint() or self._executor.complaint() or not self._is_due(goal, at_s):
            return
        observation = self._watch.observation(goal.instruction)
        with self._lock:
            holds = self._holds
            guidance = self._continuation.guidance(
                self._executor.progress, at_s, observation.commanded, self._pace.arrival_s(at_s)
            )
            self._pace.looked(at_s)
        seed = self._values["seed"] * SEED_STRIDE + goal.submissions
        goal.submissions += 1
        sources = self._watch.sources
        stamps_s = {name: sources[f"{name}_camera"].stamp_s for name in self._policy.cameras}
        traced = self._trace.wanted
        look = Submission(goal, holds, at_s, observation, stamps_s, seed, guidance, traced)

        def publish(done: Future[Chunk]) -> None:
            self._on_chunk(look, done)

        minimum_s = self._values["minimum_inference_time"]
        self._inference.submit(observation, seed, guidance, minimum_s, publish, traced)

    def _is_due(self, goal: Goal, at_s: float) -> bool:
        """Return whether to look at the image of ``at_s``; a new goal does not wait."""
        if goal.submissions == 0 and self._mode != JoinMode.SYNCHRONOUS:
            return True
        with self._lock:
            return self._pace.due(at_s, self._executor.progress)

    def _on_chunk(self, look: Submission, done: Future[Chunk]) -> None:
        """Publish a chunk straight from the inference thread: no wait for the node's thread."""
        try:
            self._publish_chunk(look, done.result())
        except Exception as error:  # noqa: BLE001 - the thread would swallow it
            self.failed += 1
            look.goal.failure = str(error) or type(error).__name__
        self._wake()

    def _publish_chunk(self, look: Submission, chunk: Chunk) -> None:
        goal = look.goal
        with self._lock:
            if goal is not self.goal or look.holds != self._holds:
                self.dropped += 1
                return
            message = self._message(chunk)
            look.describe(message, self._time)
            goal.chunks += 1
            goal.inference_s = chunk.inference_s
            message.chunk_id = goal.chunks
            now_s = self._time.from_nanoseconds(self._node.get_clock().now().nanoseconds)
            self._continuation.remember(goal.id, goal.chunks, chunk)
            self._pace.sent(goal.id, goal.chunks, now_s)
            message.expected_interval = self._pace.expected_interval_s
            self._publish(message)
            self._moving = True
        self.published += 1
        self.times.append(chunk.inference_s)
        if chunk.trace is not None:
            self._trace.publish(chunk.trace, message)

    def _message(self, chunk: Chunk) -> ActionChunk:
        policy = self._policy
        return ActionChunk(
            reference_positions=doubles(chunk.reference),
            control_period=policy.control_period_s,
            horizon=policy.horizon,
            tokens=array("H", chunk.tokens.astype(np.uint16).tobytes()),
            refinement_steps=policy.refinement_steps,
            validation_steps=policy.validation_steps,
            evaluations=chunk.evaluations,
            inference_time=chunk.inference_s,
            committed_steps=chunk.committed_steps,
            execute_steps=self._pace.request_steps,
            decoding=self._decoding,
        )

    def _publish(self, message: ActionChunk) -> None:
        """Publish with what is the same in every chunk."""
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.checkpoint_hash = self._policy.checkpoint_hash
        message.tokenizer_hash = self._policy.tokenizer.hash
        message.joint_names = list(self._policy.tokenizer.joint_names)
        message.mode = int(self._mode)
        self._topic.publish(message)
