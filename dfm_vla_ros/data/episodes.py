"""One demonstration in memory: what was seen, measured, commanded, and the clean targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError


class EpisodeError(DfmVlaError):
    """An episode whose parts do not fit together, or a spooled file that cannot be read."""


@dataclass(frozen=True)
class Episode:
    """T frames, one per control period; frame 0 is the start, at rest.

    Attributes:
        images: camera -> (T, H, W, 3) uint8, RGB.
        positions: (T, 14) measured joint positions [rad], grippers [m].
        commanded: (T, 14) the command in force at each frame, noise included.
        targets: (T, 14) the expert's clean target due at the time of each frame. The label for
            step k >= 1 at frame t is ``targets[min(t + k, T - 1)]``.
        task: name of the task.
        seed: of the layout (and of the noise).
        instruction: the task's sentence.
        success: whether the task was done.
        period_s: control period [s].
        poses: (T, P) where the objects are [m, and sines and cosines of angles]; None if unknown.
        pose_names: of the P columns.
        style: how it was done, where there are several ways, such as ``arm=far pace=1.5``.
    """

    images: dict[str, NDArray[np.uint8]]
    positions: NDArray[np.float64]
    commanded: NDArray[np.float64]
    targets: NDArray[np.float64]
    task: str
    seed: int
    instruction: str
    success: bool
    period_s: float
    poses: NDArray[np.float64] | None = None
    pose_names: tuple[str, ...] = ()
    style: str = ""

    def __post_init__(self) -> None:
        """Check that all parts have the same number of frames."""
        length = len(self.positions)
        parts = {"commanded": self.commanded, "targets": self.targets, **self.images}
        if self.poses is not None:
            parts["poses"] = self.poses
        if (0 if self.poses is None else self.poses.shape[1]) != len(self.pose_names):
            raise EpisodeError(
                f"poses {None if self.poses is None else self.poses.shape} do not have a column "
                f"for each of the {len(self.pose_names)} pose names; give both or neither"
            )
        for name, part in parts.items():
            if len(part) != length:
                raise EpisodeError(
                    f"{name} has {len(part)} frames, positions {length}; record all at each frame"
                )

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.positions)
