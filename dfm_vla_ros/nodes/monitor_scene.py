"""What the monitor knows: the newest plan, where the grippers went, who says what; no node."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.nodes.monitor_drawing import ShownPlan
from dfm_vla_ros.observing.sources import EpisodeWatch
from dfm_vla_ros.robot.joints import ARMS, JOINT_NAMES
from dfm_vla_ros.robot.model import TIPS, RobotModel, arm_confidence, tip_paths
from dfm_vla_ros.tokens import ActionCodec
from dfm_vla_ros.tokens.specification import TokenizerError

Array = NDArray[np.float64]

TRAIL_PERIOD_S = 0.05
POLICY_STATES = ("loading", "ready", "running", "waiting", "inactive")
EXECUTOR_STATES = ("waits for joint states", "holding", "executing", "inactive", "stopped")
POLICY_TROUBLE, EXECUTOR_TROUBLE = (3, 4), (0, 3, 4)


class MonitorScene:
    """Takes messages, rclpy's or a bag's.

    Attributes:
        plan: of the newest chunk; None after a hold and before the first.
        plan_is_new: set with each change of ``plan``; whoever has shown it unsets it.
        problem: why chunks cannot be drawn; empty if they can.
    """

    def __init__(self, tokenizer: ActionCodec, robot: RobotModel, trail_s: float) -> None:
        """Draw chunks of ``tokenizer``; remember where the grippers went for ``trail_s`` [s]."""
        self._tokenizer, self._robot, self._trail_s = tokenizer, robot, trail_s
        self.plan: ShownPlan | None = None
        self.plan_is_new = False
        self.problem = ""
        self._shown: tuple[str, int] | None = None
        self._held = ("", 0)
        self._trail: deque[tuple[float, Array]] = deque()
        self._episode = EpisodeWatch()
        self._policy: Any = None
        self._executor: Any = None
        self._task: Any = None
        self._inference_s = 0.0

    def take_chunk(self, message: Any) -> None:
        """Take an ActionChunk; a trace of the same chunk, before or after, says more."""
        if message.hold:
            self._held = (message.goal_id, message.chunk_id)
            self._show(None, None)
            return
        self._inference_s = message.inference_time
        if self._shown == (message.goal_id, message.chunk_id):
            return
        tokens = np.asarray(message.tokens, dtype=np.int64)[None]
        self._take(message, tokens, None)

    def take_trace(self, message: Any) -> None:
        """Take a PolicyTrace; one may come after the hold that ended its chunk."""
        if message.goal_id == self._held[0] and message.chunk_id <= self._held[1]:
            return
        rows = len(message.times)
        try:
            tokens = np.asarray(message.tokens, dtype=np.int64).reshape(rows, -1)
            confidence = np.asarray(message.confidence).reshape(tokens.shape)
        except ValueError as error:
            self.problem = f"a trace of {rows} steps does not hold as many rows: {error}"
            return
        self._take(message, tokens, confidence)

    def take_policy(self, status: Any) -> None:
        """Take a PolicyStatus."""
        self._policy = status

    def take_executor(self, status: Any) -> None:
        """Take an ExecutorStatus."""
        self._executor = status

    def take_task(self, status: Any) -> None:
        """Take a TaskStatus; a reset ends the way that the grippers went."""
        self._task = status
        if self._episode.is_new(status.task, status.seed, status.elapsed):
            self._trail.clear()
            self._show(None, None)

    def take_joints(self, positions: Array, stamp_s: float) -> None:
        """Take measured joints (D,) of ``stamp_s`` [s]."""
        if self._trail and stamp_s < self._trail[-1][0]:
            self._trail.clear()  # the clock has gone backward
        if self._trail and stamp_s - self._trail[-1][0] < TRAIL_PERIOD_S:
            return
        self._trail.append((stamp_s, self._robot.points(positions)))
        while self._trail[0][0] < stamp_s - self._trail_s:
            self._trail.popleft()

    @property
    def trail(self) -> Array:
        """(T, A, 3) [m]: where the grippers were, oldest first."""
        if not self._trail:
            return np.empty((0, len(TIPS), 3))
        return np.stack([points for _, points in self._trail])

    @property
    def progress(self) -> float:
        """The task's progress, 0 if nobody reports one."""
        return 0.0 if self._task is None else float(self._task.progress)

    def lines(self) -> list[tuple[str, bool]]:
        """Return what is said of instruction, task, policy, executor and monitor.

        Always as many lines in one order; each with whether it tells of trouble.
        """
        return [
            self._goal_line(),
            self._task_line(),
            self._policy_line(),
            self._executor_line(),
            (self.problem, True),
        ]

    def _goal_line(self) -> tuple[str, bool]:
        instruction = "" if self._policy is None else self._policy.instruction
        return (f'"{instruction}"' if instruction else "no goal", False)

    def _task_line(self) -> tuple[str, bool]:
        task = self._task
        if task is None:
            return ("", False)
        done = ", success" if task.success else ""
        return (f"{task.task}: {task.progress:.0%} after {task.elapsed:.1f} s{done}", False)

    def _policy_line(self) -> tuple[str, bool]:
        status = self._policy
        if status is None:
            return ("policy: not heard of", True)
        text = f"policy {_name(POLICY_STATES, status.state)}, {status.chunks} chunks"
        if self._inference_s:
            text += f", inference {1e3 * self._inference_s:.0f} ms"
        if status.message:
            text += f": {status.message}"
        return (text, status.state in POLICY_TROUBLE)

    def _executor_line(self) -> tuple[str, bool]:
        status = self._executor
        if status is None:
            return ("executor: not heard of", True)
        text = f"executor {_name(EXECUTOR_STATES, status.state)}"
        reasons = [part for part in (status.stop_reason, status.message) if part]
        if status.time_scale > 1.005:
            text += f", slowed {status.time_scale:.2f} times"
        if reasons:
            text += f": {'; '.join(reasons)}"
        return (text, bool(reasons) or status.state in EXECUTOR_TROUBLE)

    def _take(self, message: Any, tokens: NDArray, confidence: NDArray | None) -> None:
        """Make the plan of the last row; the others are the fan."""
        self.problem = self._mismatch(message)
        if self.problem:
            return
        reference = np.asarray(message.reference_positions, dtype=np.float64)
        try:
            paths = tip_paths(self._tokenizer, self._robot, tokens, reference)
        except TokenizerError as error:
            self.problem = f"a chunk cannot be drawn: {error}"
            return
        horizon = self._tokenizer.horizon
        sure = np.full((horizon, len(ARMS)), np.nan)
        if confidence is not None:
            sure = arm_confidence(self._tokenizer, confidence[-1:])[0]
        committed = min(int(message.committed_steps), horizon)
        plan = ShownPlan(paths[-1], sure, committed, paths)
        self._show(plan, (message.goal_id, message.chunk_id))

    def _mismatch(self, message: Any) -> str:
        """Return why these tokens are not the tokenizer's, or an empty text."""
        if message.tokenizer_hash != self._tokenizer.hash:
            return (
                f"chunks are of tokenizer {message.tokenizer_hash[:12] or 'unknown'}, loaded is "
                f"{self._tokenizer.hash[:12]}: give the monitor the policy's checkpoint"
            )
        if tuple(message.joint_names) != JOINT_NAMES:
            return f"chunks are of other joints: {', '.join(message.joint_names)}"
        if len(message.reference_positions) != len(JOINT_NAMES):
            return f"a chunk has {len(message.reference_positions)} reference positions"
        return ""

    def _show(self, plan: ShownPlan | None, chunk: tuple[str, int] | None) -> None:
        self.plan, self._shown, self.plan_is_new = plan, chunk, True


def _name(names: Sequence[str], state: int) -> str:
    return names[state] if 0 <= state < len(names) else f"in state {state}"
