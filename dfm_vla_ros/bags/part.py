"""Frames without a gap between them, and the episode that they make."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.bags.observations import Step
from dfm_vla_ros.bags.spool import Spool
from dfm_vla_ros.data.episodes import Episode
from dfm_vla_ros.observing.sources import Array
from dfm_vla_ros.policy.types import Observation
from dfm_vla_ros.robot.joints import JOINT_NAMES


class CommandTrack:
    """What was commanded when, from the start of a part on."""

    def __init__(self) -> None:
        """Know no command."""
        self._times: list[float] = []
        self._positions: list[Array] = []

    def put(self, at_s: float, positions: Array) -> None:
        """Add a command (D,); time only grows."""
        if self._times and at_s <= self._times[-1]:
            return
        self._times.append(at_s)
        self._positions.append(positions)

    def clear(self, keep: int = 0) -> None:
        """Forget all but the newest ``keep``."""
        first = len(self._times) - keep
        del self._times[:first], self._positions[:first]

    def at(self, times: NDArray[np.float64]) -> Array:
        """Return (N, D) on the lines between commands; NaN after the newest."""
        if not self._times:
            return np.full((len(times), len(JOINT_NAMES)), np.nan)
        positions = np.array(self._positions)
        columns = [np.interp(times, self._times, column, right=np.nan) for column in positions.T]
        return np.stack(columns, axis=1)


class Part:
    """Grows frame by frame."""

    def __init__(self, name: str, folder: Path) -> None:
        """Begin a part of the bag ``name``; images wait in ``folder``."""
        self._name, self._spool = name, Spool(folder)
        self._times: list[float] = []
        self._positions: list[Array] = []
        self._commanded: list[Array] = []
        self.key = ""
        """Says which frames these are: bag, moment and content of the first."""
        self.first: Step | None = None
        self.last: Step | None = None
        self.keeps_images = True

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._times)

    def begin(self, step: Step, seen: Observation) -> None:
        """Name the part after its first frame, which is still to be added."""
        digest = hashlib.sha256(seen.positions.tobytes())
        for camera in sorted(seen.images):
            digest.update(np.ascontiguousarray(seen.images[camera]).data)
        self.first = step
        self.key = f"{self._name}@{step.stamp_ns}-{digest.hexdigest()[:12]}"

    def add(self, step: Step, seen: Observation) -> None:
        """Append a frame."""
        self._times.append(step.at_s)
        self._positions.append(seen.positions)
        self._commanded.append(seen.commanded)
        self.last = step
        if self.keeps_images:
            self._spool.append(seen.images)

    def labels(self, commands: CommandTrack, period_s: float) -> Array:
        """Return (T, D): what was commanded one period after the frame before.

        T is smaller than the number of frames if the commands end early.
        """
        after = commands.at(np.array(self._times[:-1]) + period_s)
        finite = np.isfinite(after).all(axis=1)
        known = len(after) if finite.all() else int(np.argmin(finite))
        return np.concatenate([np.array(self._commanded[:1]), after[:known]])

    def episode(self, targets: Array, **what: Any) -> Episode:
        """Return the episode of the frames with ``targets``; ``what`` are its other fields."""
        length = len(targets)
        return Episode(
            images=self._spool.images(length),
            positions=np.array(self._positions[:length]),
            commanded=np.array(self._commanded[:length]),
            targets=targets,
            **what,
        )

    def close(self) -> None:
        """Let go of the images."""
        self._spool.close()
