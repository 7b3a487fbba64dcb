"""Control steps counted over time, the phase of a chunk, and what became of all chunks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Progress:
    """The phase of the chunk being followed: its step k is due at step_zero + k step_period.

    Attributes:
        goal_id, chunk_id: the newest chunk accepted.
        step_zero_s: when none of its steps was due yet [s].
        step_period_s: between its steps as executed [s]; 0: it is no longer followed.
        last_step: where its motion rests; if no longer followed, how many steps were executed.
    """

    goal_id: str
    chunk_id: int
    step_zero_s: float
    step_period_s: float
    last_step: int

    def at(self, t_s: float) -> float:
        """Return the steps executed at ``t_s``, in [0, last_step]; last_step if not followed."""
        if self.step_period_s == 0:
            return float(self.last_step)
        steps = (t_s - self.step_zero_s) / self.step_period_s
        return float(np.clip(steps, 0.0, self.last_step))

    def ended(self, t_s: float) -> Progress:
        """Return the same chunk, no longer followed from ``t_s`` on."""
        if self.step_period_s == 0:
            return self
        return replace(self, step_zero_s=t_s, step_period_s=0.0, last_step=int(self.at(t_s)))


class StepCount:
    """Phi(t): control steps executed until t, piecewise linear, remembered for a while.

    It rises by one a step period while a chunk's motion runs and is flat otherwise.
    """

    def __init__(self, memory_s: float = 10.0) -> None:
        """Begin at 0; forget what is older than ``memory_s`` before the newest change."""
        self._memory_s = memory_s
        self._times = np.zeros(1)
        self._steps = np.zeros(1)

    def at(self, t_s: float) -> float:
        """Return Phi at ``t_s``, as it is planned if that is ahead."""
        return float(np.interp(t_s, self._times, self._steps))

    def when(self, steps: float) -> float | None:
        """Return when Phi reaches ``steps``, which lies ahead [s]; None: the plan ends before."""
        if steps > self._steps[-1] + 1e-9:
            return None
        return float(np.interp(steps, self._steps, self._times))

    def run(self, start_s: float, steps: float, step_period_s: float) -> None:
        """From ``start_s`` on count ``steps`` more, one a ``step_period_s``, then none."""
        begin = self.at(start_s)
        keep = (self._times < start_s) & (self._times >= start_s - self._memory_s)
        oldest_s = start_s - self._memory_s
        times = [oldest_s, *self._times[keep], start_s]
        counts = [self.at(oldest_s), *self._steps[keep], begin]
        if steps > 0:
            times.append(start_s + steps * step_period_s)
            counts.append(begin + steps)
        self._times, self._steps = np.array(times), np.array(counts)

    def stop(self, t_s: float) -> None:
        """Count nothing from ``t_s`` on."""
        self.run(t_s, 0.0, 0.0)


@dataclass(frozen=True)
class Account:
    """What became of the chunks: received = executed + refused + superseded + pending.

    Attributes:
        received: all.
        executed: their motion began.
        refused: whole.
        superseded: accepted, but replaced or stopped before their motion began.
        pending: 0 or 1, accepted, motion not begun.
    """

    received: int = 0
    executed: int = 0
    refused: int = 0
    superseded: int = 0
    pending: int = 0


class Ledger:
    """Keeps the account."""

    def __init__(self) -> None:
        """Begin with nothing received."""
        self._account = Account()
        self._begins_s = np.inf

    def at(self, now_s: float) -> Account:
        """Return the account once a chunk whose first point has passed counts as executed."""
        if self._account.pending and now_s >= self._begins_s:
            self._move("pending", "executed")
        return self._account

    def accept(self, begins_s: float, now_s: float) -> None:
        """A chunk was accepted; its motion begins at ``begins_s``."""
        self.supersede(now_s)
        self._add("pending")
        self._begins_s = begins_s

    def refuse(self) -> None:
        """A chunk was refused."""
        self._add("refused")

    def supersede(self, now_s: float) -> None:
        """What was pending, if its motion has not begun by ``now_s``, never begins."""
        if self.at(now_s).pending:
            self._move("pending", "superseded")

    def _add(self, kind: str) -> None:
        account = self._account
        counts = {"received": account.received + 1, kind: getattr(account, kind) + 1}
        self._account = replace(account, **counts)

    def _move(self, source: str, target: str) -> None:
        account = self._account
        moved = {source: getattr(account, source) - 1, target: getattr(account, target) + 1}
        self._account = replace(account, **moved)
