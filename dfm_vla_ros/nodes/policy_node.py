"""``policy_node``: a language goal and the newest observation in, chunks of action tokens out."""

from __future__ import annotations

import sys
import threading
import time
from array import array
from pathlib import Path

import numpy as np
from rclpy.clock import Clock, ClockType

from dfm_vla_ros.msg import ActionChunk, PolicyStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import StampBase
from dfm_vla_ros.nodes.goals import Goal, GoalRun, InstructionTopic, Result
from dfm_vla_ros.nodes.health import Diagnostics
from dfm_vla_ros.nodes.inference import InferenceThread
from dfm_vla_ros.nodes.inputs import ExecutorHealth, LiveObserver
from dfm_vla_ros.nodes.lifecycle import ManagedNode, run
from dfm_vla_ros.nodes.messages import TraceTopic, doubles
from dfm_vla_ros.nodes.policy_parameters import (
    MODES,
    PARAMETERS,
    check_device,
    choice,
    loading_options,
    observer_settings,
)
from dfm_vla_ros.nodes.policy_status import PolicyReports, PolicyStatusTopic
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.realtime import RealtimeSession
from dfm_vla_ros.policy.session import PolicyCall
from dfm_vla_ros.policy.types import Chunk
from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.chunks import Request

TICK_S = 0.02
"""How late a source that fell silent is noticed, at most [s]."""
LAST_WORDS_S = 0.15
SEED_STRIDE = 1_000_003
"""Between the first seeds of two values of the parameter ``seed``."""


class PolicyNode(ManagedNode):
    """Serves ``execute_instruction`` and publishes ``action_chunk``.

    Life: configure loads the checkpoint on the inference thread and warms it up; activate begins
    to accept goals; deactivate ends the goal with a hold; cleanup frees the checkpoint.

    While a goal runs, each image of the third view may start a policy call (`_on_image`). The
    inference thread makes the chunk and publishes it itself (`_make_chunk`). Every 20 ms, and
    whenever something happened, `GoalRun` looks whether the goal has ended or has to wait.

    ``_lock`` guards what both threads decide by: the current goal and the session. A chunk that
    was begun before a hold or for an older goal is dropped, so a hold is the last message of its
    goal.

    Attributes:
        goal: the current one; only the node's thread changes it.
        session: numbers the calls and chunks; None without a checkpoint.
        failed: policy calls that raised.
    """

    def __init__(self) -> None:
        """Subscribe and serve; load nothing yet."""
        super().__init__("policy_node", PARAMETERS)
        check_device(self.values["device"])
        self._mode = MODES[choice(self.values, "mode", MODES)]
        loading_options(self.values)
        settings = observer_settings(self.values)
        self._time, self._lock = StampBase(), threading.Lock()
        self._moving = False
        self.goal: Goal | None = None
        self.session: RealtimeSession | None = None
        self.failed = 0
        self.inference = InferenceThread(self.get_logger().error)
        self._chunks = self.create_lifecycle_publisher(
            ActionChunk, "action_chunk", qos.EVERY_COMMAND
        )
        self._trace = TraceTopic(self)
        self._wake = self.create_guard_condition(self._look)
        self.status = PolicyStatusTopic(self)
        self.observer = LiveObserver(self, self._time, settings, self._on_image)
        self.executor_health = ExecutorHealth(self, self._time, self._look)
        self._goals = GoalRun(self, self._wake.trigger)
        self._instruction = InstructionTopic(self, self._goals.offer)
        self._diagnostics = Diagnostics(self, PolicyReports(self).collect, "dual_arm")
        self.create_timer(TICK_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        if self.values["autostart"]:
            self.status.set(PolicyStatus.LOADING, "loading the checkpoint")
        else:
            self.status.publish()

    # Life

    def configure(self) -> None:
        """Load the checkpoint and warm it up, in the inference thread.

        Raises:
            DfmVlaError: the checkpoint or a parameter of its use is no good.
        """
        self.status.set(PolicyStatus.LOADING, "loading the checkpoint")
        start_t0 = self.values["warm_start"] or None
        try:
            guided = self.values["mode"] == "rtc"
            self.wait(self.inference.load(self._load, start_t0 if guided else None))
            policy = self.inference.policy
            steps = self.values["execute_steps"] or policy.execute_steps
            self.session = RealtimeSession(policy.tokenizer, self._mode, steps, start_t0)
            self._decoding = policy.decoding
        except Exception:
            self.status.set(PolicyStatus.INACTIVE, "the checkpoint cannot be used, see the log")
            raise
        self.status.name(policy)
        self.status.set(PolicyStatus.INACTIVE, "activate the node")

    def _load(self) -> Policy:
        folder = self.values["checkpoint"] or resource_path("checkpoints/default")
        return Policy.load(Path(folder), **loading_options(self.values))

    def activate(self) -> None:
        """Accept goals, of what is seen from now on."""
        self.observer.forget_sizes()
        self._goals.wait_clock()

    def deactivate(self) -> None:
        """End the goal: no chunk comes after its hold, though the inference thread may go on."""
        why = "the node is shutting down" if self.interrupted() else "the node was deactivated"
        self._goals.end(Result.CANCELED, why)
        self.status.set(PolicyStatus.INACTIVE, "activate the node")

    def cleanup(self) -> None:
        """Free the checkpoint."""
        self.inference.unload()
        self.session = None
        self.status.name(None)
        self.status.set(PolicyStatus.INACTIVE, "configure and activate the node")

    def close(self) -> None:
        """End the goal, let results leave, take down what serves goals, then clean up."""
        if self.active:
            self.trigger_deactivate()
        if self.executor is not None:
            self._say_last_words()
        super().close()
        self.inference.stop()

    def _say_last_words(self) -> None:
        """Serve callbacks until the results of all goals have left; take none at the end."""
        began_s, server = time.monotonic(), self._goals.server
        while (passed_s := time.monotonic() - began_s) < 3 * LAST_WORDS_S:
            server.closing = passed_s > LAST_WORDS_S
            self.executor.spin_once(timeout_sec=0.01)
            if passed_s > 2 * LAST_WORDS_S and server.open == 0:
                break
        server.destroy()
        self._instruction.destroy()

    # Goals

    def _look(self) -> None:
        self._goals.look()

    def serve(self, goal: Goal) -> Goal | None:
        """Make chunks for ``goal`` from now on; return the goal that it takes over from."""
        with self._lock:
            old, self.goal = self.goal, goal
            self.session.begin(goal.id, self.values["seed"] * SEED_STRIDE)
        return old

    def end_goal(self) -> None:
        """Make no chunk more for the current goal; a hold is its last message."""
        with self._lock:
            goal, self.goal = self.goal, None
            if goal is not None:
                self._hold(goal)

    def pause(self) -> None:
        """Hold until the next chunk, once: the observations are unusable."""
        with self._lock:
            if self.goal is not None and (self._moving or not self.inference.idle):
                self._hold(self.goal)

    def _hold(self, goal: Goal) -> None:
        self.session.hold()
        self._moving = False
        message = ActionChunk(
            observation_stamp=self.get_clock().now().to_msg(),
            chunk_id=goal.chunks,
            goal_id=goal.id,
            hold=True,
            instruction=goal.instruction,
        )
        self._publish(message)

    # Chunks

    def problem(self) -> str:
        """Return why no chunk can be made or executed now, or an empty text."""
        return self.observer.problem(self.observer.now()) or self.executor_health.problem()

    def _on_image(self) -> None:
        """Start a policy call if a chunk is due; called at each image of the third view."""
        goal, at_s = self.goal, self.observer.image_stamp_s
        if goal is None or not self.inference.idle or self.problem():
            return
        with self._lock:
            progress = self.executor_health.progress
            if not self.session.due(at_s, progress):
                return
            observation = self.observer.observation(goal.instruction)
            call = self.session.ask(observation, at_s, progress)
        self.inference.submit(self._make_chunk, goal, call, self._trace.wanted)

    def _make_chunk(self, goal: Goal, call: PolicyCall, trace: bool) -> None:
        """Call the policy and publish its chunk, on the inference thread."""
        try:
            chunk = self.inference.act(call, self.values["minimum_inference_time"], trace)
            self._publish_chunk(goal, call, chunk)
        except Exception as error:  # noqa: BLE001 - the thread would swallow it
            self.failed += 1
            goal.failure = str(error) or type(error).__name__
        self._wake.trigger()

    def _publish_chunk(self, goal: Goal, call: PolicyCall, chunk: Chunk) -> None:
        with self._lock:
            now_s = self._time.from_nanoseconds(self.get_clock().now().nanoseconds)
            request = self.session.accept(call, chunk, now_s)
            if request is None:
                return
            goal.chunks, goal.inference_s = request.chunk_id, chunk.inference_s
            message = self._message(request, call, chunk)
            self._publish(message)
            self._moving = True
        if chunk.trace is not None:
            self._trace.publish(chunk.trace, message)

    def _message(self, request: Request, call: PolicyCall, chunk: Chunk) -> ActionChunk:
        """Return what the executor is asked, and all that the chunk was made from."""
        observation, policy = call.observation, self.inference.policy
        message = ActionChunk(
            reference_positions=doubles(request.reference),
            control_period=request.control_period_s,
            horizon=request.horizon,
            tokens=_packed(request.tokens),
            refinement_steps=policy.decoder.refinement_steps,
            validation_steps=policy.decoder.validation_steps,
            evaluations=chunk.evaluations,
            inference_time=chunk.inference_s,
            committed_steps=request.committed_steps,
            execute_steps=request.execute_steps,
            expected_interval=request.expected_interval_s,
            decoding=self._decoding,
            goal_id=request.goal_id,
            chunk_id=request.chunk_id,
            instruction=observation.instruction,
            observation_stamp=self._time.stamp(request.observation_s),
            cameras=list(policy.cameras),
            image_stamps=[
                self._time.stamp(observation.image_stamps_s[camera]) for camera in policy.cameras
            ],
            measured_positions=doubles(observation.positions),
            seed=call.seed,
        )
        if call.guidance is not None and call.guidance.start_t0 is not None:
            message.warm_start = call.guidance.start_t0
            message.guidance_tokens = _packed(call.guidance.tokens)
        return message

    def _publish(self, message: ActionChunk) -> None:
        """Publish with what is the same in every chunk."""
        policy = self.inference.policy
        message.header.stamp = self.get_clock().now().to_msg()
        message.checkpoint_hash = policy.checkpoint_hash
        message.tokenizer_hash = policy.tokenizer.hash
        message.joint_names = list(policy.tokenizer.joint_names)
        message.mode = int(self._mode)
        self._chunks.publish(message)


def _packed(tokens: np.ndarray) -> array:
    """Return tokens as the array that a uint16[] field takes without a check per element."""
    return array("H", tokens.astype(np.uint16).tobytes())


def main() -> int:
    """Run the node."""
    return run(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
