"""``policy_node``: a language goal and the newest observation in, chunks of action tokens out."""

from __future__ import annotations

import re
import statistics
import sys
import threading
import time
from array import array
from collections import deque
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import torch
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from dfm_vla_ros.action import ExecuteInstruction
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.msg import ActionChunk, PolicyStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.goals import Goal, GoalServer, Result
from dfm_vla_ros.nodes.inference import Inference
from dfm_vla_ros.nodes.parameters import Parameter, ParameterError, declare
from dfm_vla_ros.nodes.run import run
from dfm_vla_ros.nodes.stamps import TimeBase
from dfm_vla_ros.nodes.trajectories import doubles
from dfm_vla_ros.nodes.watch import Bounds, Watch
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.types import Chunk
from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.joints import CAMERAS

PARAMETERS = (
    Parameter("checkpoint", "", "checkpoint folder; empty: the shipped one"),
    Parameter("device", "cpu", "cpu, cuda or cuda:N"),
    Parameter("threads", 1, "CPU threads of torch", (1, 64)),
    Parameter("refinement_steps", 0, "instead of the checkpoint's; 0: its own", (0, 1000)),
    Parameter("execute_steps", 0, "control periods between chunks; 0: the checkpoint's", (0, 64)),
    Parameter("seed", 0, "of the refinement: same observations, same tokens", (0, 2**31)),
    Parameter("maximum_age", 0.5, "[s] of an image or joint message", (0.05, 60.0)),
    Parameter("maximum_tracking_error", 0.5, "[rad] between command and joint", (0.01, 7.0)),
    Parameter("stale_timeout", 5.0, "[s] without fresh observations abort a goal", (0.1, 600.0)),
    Parameter("default_timeout", 60.0, "[s] of a goal that names none", (0.1, 86400.0)),
    Parameter("longest_instruction", 512, "[bytes]", (1, 65536)),
)

TICK_S, FEEDBACK_S = 0.05, 0.2
LAST_WORDS_S = 0.2
STAMP_TOLERANCE_S = 0.01
"""A replan may start this much early: image stamps jitter."""
SEED_STRIDE = 1_000_003


class PolicyNode(Node):
    """Serves the action; the inference thread makes and publishes the chunks.

    ``_lock`` guards ``_goal``: the inference thread publishes only for the goal that is current.
    """

    def __init__(self) -> None:
        """Subscribe, serve, and start loading the checkpoint."""
        super().__init__("policy_node")
        self._values = declare(self, PARAMETERS)
        check_device(self._values["device"])
        self._time = TimeBase()
        self._lock = threading.Lock()
        self._goal: Goal | None = None
        self._times: deque[float] = deque(maxlen=100)
        self._status = PolicyStatus(state=PolicyStatus.LOADING, message="loading the checkpoint")
        self._watch = Watch(self, self._time, CAMERAS, self._bounds(), self._start_if_due)
        self._chunks = self.create_publisher(ActionChunk, "action_chunk", qos.COMMAND)
        self._status_topic = self.create_publisher(PolicyStatus, "~/status", qos.STATUS)
        self._server = GoalServer(self, self._on_goal, lambda: self._wake.trigger())
        self._wake = self.create_guard_condition(self._look)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(TICK_S, self._look, clock=steady)
        self.create_timer(1.0, self._publish_status, clock=steady)
        self._publish_status()
        self._loading: Future | None = None
        self._inference = Inference(self._load, self._on_loaded)

    def _bounds(self) -> Bounds:
        return Bounds(self._values["maximum_age"], self._values["maximum_tracking_error"])

    # Loading

    def _load(self) -> Policy:
        folder = self._values["checkpoint"] or resource_path("checkpoints/default")
        return Policy.load(
            Path(folder),
            device=self._values["device"],
            threads=self._values["threads"],
            refinement_steps=self._values["refinement_steps"] or None,
        )

    def _on_loaded(self, loading: Future) -> None:
        """Let the node's own thread look at what came of it (inference thread)."""
        self._loading = loading
        self._wake.trigger()

    def _finish_loading(self) -> None:
        policy: Policy = self._loading.result()  # raises what loading raised: the process ends
        if self.get_clock().now().nanoseconds == 0:
            # A goal taken now would be over as soon as the clock starts.
            self._set_state(PolicyStatus.LOADING, "use_sim_time is true and /clock is silent")
            return
        self._loading = None
        self._status.checkpoint_hash = policy.checkpoint_hash
        self._status.tokenizer_hash = policy.tokenizer.hash
        self._set_state(PolicyStatus.READY, "")

    # Goals

    def _on_goal(self, handle: ServerGoalHandle) -> None:
        """Take over a new goal, or end it at once with the reason."""
        now_s = self._watch.now().ros_s
        timeout_s = handle.request.timeout or self._values["default_timeout"]
        goal = Goal(handle, now_s, now_s + timeout_s)
        code, message = self._objection(goal.instruction, timeout_s)
        if code != Result.NONE:
            self._conclude(goal, code, message)
            return
        with self._lock:
            old, self._goal = self._goal, goal
        if old is not None:
            self._conclude(old, Result.PREEMPTED, "a newer goal took over")
        self.get_logger().info(f"goal: {goal.instruction!r}, {timeout_s:.0f} s")
        self._look()

    def _objection(self, instruction: str, timeout_s: float) -> tuple[int, str]:
        """Return why a goal cannot be started, as error code and text."""
        if self._status.state == PolicyStatus.LOADING:
            return Result.NOT_READY, f"{self._status.message}: wait for status READY"
        size, largest = len(instruction.encode()), self._values["longest_instruction"]
        if not 0 < size <= largest or not instruction.strip():
            return Result.BAD_INSTRUCTION, f"{size} bytes long, allowed is 1 .. {largest}"
        if not (np.isfinite(timeout_s) and timeout_s > 0):
            return Result.BAD_INSTRUCTION, f"timeout is {timeout_s} s; give a positive number"
        try:
            self._inference.policy.check_instruction(instruction)
        except DfmVlaError as error:
            return Result.BAD_INSTRUCTION, str(error)
        return Result.NONE, ""

    def _look(self) -> None:
        """See whether the goal has ended, and say how it goes."""
        if self._loading is not None:
            self._finish_loading()
        goal = self._goal
        if goal is None:
            return
        now = self._watch.now()
        if goal.handle.is_cancel_requested:
            self._end(goal, Result.CANCELED, "cancelled")
        elif self._watch.succeeded_since(goal.accepted_s):
            self._end(goal, Result.NONE, "")
        elif goal.failure:
            self._end(goal, Result.INFERENCE_FAILED, goal.failure)
        elif now.ros_s >= goal.deadline_s:
            self._end(goal, Result.TIMEOUT, f"not done within {now.ros_s - goal.accepted_s:.1f} s")
        else:
            self._watch_sources(goal, now.steady_s)

    def _watch_sources(self, goal: Goal, steady_s: float) -> None:
        """Report what the goal waits for; abort it when it has waited too long."""
        complaint = self._watch.complaint()
        if not complaint:
            goal.waiting_since_s = None
            self._set_state(PolicyStatus.RUNNING, "")
        else:
            goal.waiting_since_s = goal.waiting_since_s or steady_s
            if steady_s - goal.waiting_since_s > self._values["stale_timeout"]:
                self._end(goal, Result.STALE_OBSERVATION, complaint)
                return
            self._set_state(PolicyStatus.WAITING, complaint)
        if steady_s - goal.feedback_s > FEEDBACK_S:
            goal.feedback_s = steady_s
            self._send_feedback(goal, complaint)

    def _send_feedback(self, goal: Goal, message: str) -> None:
        goal.handle.publish_feedback(
            ExecuteInstruction.Feedback(
                chunks=goal.chunks,
                elapsed=self._watch.now().ros_s - goal.accepted_s,
                progress=self._watch.progress(),
                inference_time=goal.inference_s,
                message=message,
            )
        )

    def _end(self, goal: Goal, code: int, message: str) -> None:
        """End the current goal: no chunk is published for it from here on."""
        with self._lock:
            self._goal = None
        self._conclude(goal, code, message)
        self._set_state(PolicyStatus.READY, "")

    def _conclude(self, goal: Goal, code: int, message: str) -> None:
        duration_s = self._watch.now().ros_s - goal.accepted_s
        result = Result(
            error_code=code, error_msg=message, chunks=goal.chunks, duration=duration_s
        )
        self.get_logger().info(f"goal ended after {duration_s:.1f} s: {message or 'success'}")
        self._server.finish(goal.handle, result)

    # Chunks

    def _start_if_due(self) -> None:
        """Start an inference if a new chunk is due; called at each third view."""
        goal = self._goal
        if goal is None or not self._inference.idle or self._watch.complaint():
            return
        at_s = self._watch.image_stamp_s
        if goal.last_observation_s is not None:
            due_s = goal.last_observation_s + self._execute_s() - STAMP_TOLERANCE_S
            if at_s < due_s:
                return
        observation = self._watch.observation(goal.instruction)
        seed = self._values["seed"] * SEED_STRIDE + goal.submissions
        goal.submissions += 1
        goal.last_observation_s = at_s
        self._inference.submit(observation, seed, lambda done: self._on_chunk(goal, at_s, done))

    def _execute_s(self) -> float:
        policy = self._inference.policy
        return (self._values["execute_steps"] or policy.execute_steps) * policy.control_period_s

    def _on_chunk(self, goal: Goal, observation_s: float, done: Future[Chunk]) -> None:
        """Publish a chunk straight from the inference thread: no wait for the node's thread."""
        try:
            self._publish_chunk(goal, observation_s, done.result())
        except Exception as error:  # noqa: BLE001 - the thread would swallow it
            goal.failure = f"{type(error).__name__}: {error}"
        self._wake.trigger()

    def _publish_chunk(self, goal: Goal, observation_s: float, chunk: Chunk) -> None:
        message = self._message(chunk, observation_s)
        message.goal_id, message.instruction = goal.id, goal.instruction
        with self._lock:
            if goal is not self._goal:
                return
            goal.chunks += 1
            goal.inference_s = chunk.inference_s
            message.chunk_id = goal.chunks
            message.header.stamp = self.get_clock().now().to_msg()
            self._chunks.publish(message)
        self._times.append(chunk.inference_s)

    def _message(self, chunk: Chunk, observation_s: float) -> ActionChunk:
        policy = self._inference.policy
        return ActionChunk(
            observation_stamp=self._time.stamp(observation_s),
            checkpoint_hash=policy.checkpoint_hash,
            tokenizer_hash=self._status.tokenizer_hash,
            joint_names=list(policy.tokenizer.joint_names),
            reference_positions=doubles(chunk.reference),
            control_period=policy.control_period_s,
            horizon=policy.horizon,
            tokens=array("H", chunk.tokens.astype(np.uint16).tobytes()),
            refinement_steps=policy.refinement_steps,
            validation_steps=policy.validation_steps,
            evaluations=chunk.evaluations,
            inference_time=chunk.inference_s,
        )

    # Status

    def _set_state(self, state: int, message: str) -> None:
        status = self._status
        changed = (status.state, status.message) != (state, message)
        status.state, status.message = state, message
        if changed:
            self._publish_status()

    def _publish_status(self) -> None:
        goal, status = self._goal, self._status
        status.header.stamp = self.get_clock().now().to_msg()
        status.instruction = goal.instruction if goal else ""
        status.goal_id = goal.id if goal else ""
        status.chunks = goal.chunks if goal else 0
        times = list(self._times)
        status.inference_time_median = statistics.median(times) if times else 0.0
        self._status_topic.publish(status)

    def close(self) -> None:
        """End the running goal, publish no chunk more, then stop the inference thread."""
        if self._goal is not None:
            self._end(self._goal, Result.CANCELED, "the node is shutting down")
            until_s = time.monotonic() + LAST_WORDS_S
            while time.monotonic() < until_s:  # the result leaves through callbacks
                self.executor.spin_once(timeout_sec=0.01)
        self._inference.stop()


def check_device(device: str) -> None:
    """Refuse a device that torch would refuse only when everything else is loaded.

    Raises:
        ParameterError: it is none, or this machine lacks it.
    """
    if device == "cpu":
        return
    kind = re.fullmatch(r"cuda(?::(\d+))?", device)
    if kind is None:
        raise ParameterError(f"parameter device: {device!r} is none; give cpu, cuda or cuda:N")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(kind.group(1) or 0) >= found:
        raise ParameterError(
            f"parameter device: {device!r} is not there; torch finds {found} CUDA devices"
        )


def main() -> int:
    """Run the node."""
    return run(PolicyNode)


if __name__ == "__main__":
    sys.exit(main())
