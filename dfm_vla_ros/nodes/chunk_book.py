"""What became of the chunks, over every life of the executor within one process."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

import numpy as np

from dfm_vla_ros.robot.chunks import Verdict
from dfm_vla_ros.robot.progress import Account

WINDOW_S = 5.0


class Rate:
    """Counts events of the last seconds."""

    def __init__(self) -> None:
        """Begin now."""
        self._began_s = time.monotonic()
        self._times: deque[float] = deque()

    def add(self) -> None:
        """An event happened."""
        self._times.append(time.monotonic())
        self._drop()

    def hz(self) -> float:
        """Return events per second over the window [Hz]."""
        self._drop()
        return len(self._times) / max(1e-3, min(WINDOW_S, time.monotonic() - self._began_s))

    def _drop(self) -> None:
        oldest_s = time.monotonic() - WINDOW_S
        while self._times and self._times[0] < oldest_s:
            self._times.popleft()


class ChunkBook:
    """Counts what comes and what is refused; adds what the executor says of the rest."""

    def __init__(self) -> None:
        """Begin with nothing received."""
        self.received = 0
        self.refusals: Counter[Verdict] = Counter()
        self.rate = Rate()
        self._earlier = Account()
        self._latencies_s: deque[float] = deque(maxlen=200)
        self.late = 0
        """Plans whose first point had passed when they were published."""

    def receive(self) -> None:
        """A chunk came."""
        self.received += 1
        self.rate.add()

    def publish(self, latency_s: float, late_s: float) -> None:
        """A chunk's plan went out so long after its observation and after its first point."""
        self._latencies_s.append(latency_s)
        self.late += late_s > 0

    def close(self, account: Account) -> None:
        """The executor that gave ``account`` is gone: what was pending never began."""
        total = self.total(account)
        superseded = total.superseded + total.pending
        self._earlier = Account(executed=total.executed, superseded=superseded)

    def total(self, account: Account) -> Account:
        """Return the account of all lives; refusals and receipts are those counted here."""
        return Account(
            received=self.received,
            executed=self._earlier.executed + account.executed,
            refused=sum(self.refusals.values()),
            superseded=self._earlier.superseded + account.superseded,
            pending=account.pending,
        )

    def values(self, account: Account) -> dict[str, Any]:
        """Return what diagnostics show."""
        total = self.total(account)
        shown: dict[str, Any] = {
            "rate [Hz]": self.rate.hz(),
            "received": total.received,
            "executed": total.executed,
            "refused": total.refused,
            "superseded": total.superseded,
            "pending": total.pending,
            "published after their first point": self.late,
        }
        if self._latencies_s:
            median, high = np.percentile(self._latencies_s, [50, 95])
            shown["observation to command, median [s]"] = float(median)
            shown["observation to command, 95th percentile [s]"] = float(high)
        for verdict, count in sorted(self.refusals.items()):
            shown[f"refused {verdict.name}"] = count
        return shown
