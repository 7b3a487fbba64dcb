"""Objects a little beside where they were: a small data set is not known by heart."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfm_vla_ros.training.config import ConfigError
from dfm_vla_ros.training.draws import Draws
from dfm_vla_ros.training.frames import Frames

ARM_M = 0.1
"""A shift of so much turns an object by a radian: what its edge moves by then."""
PARTS = ("x", "y", "cos_yaw", "sin_yaw")


class PoseShift:
    """Moves each object in the plane and turns it, as a measurement that errs would."""

    def __init__(self, frames: Frames, checkpoint: Any, deviation_m: float) -> None:
        """Shift x and y of each object by a Gaussian of ``deviation_m``.

        Raises:
            ConfigError: the poses are not x, y, cos_yaw and sin_yaw of objects.
        """
        assert frames.poses is not None
        self._frames, self._checkpoint, self._deviation_m = frames, checkpoint, deviation_m
        self._columns = np.array(
            [
                [_column(frames.pose_names, f"{owner}.{part}") for part in PARTS]
                for owner in dict.fromkeys(n.rpartition(".")[0] for n in frames.pose_names)
            ]
        )

    def tokens(self, index: Tensor, draws: Draws) -> Tensor:
        """Return poses (B, P) of frames ``index`` (B,) as tokens; absent objects stay."""
        normal = draws.normal("pose shift", (len(self._columns), 3)).numpy()
        shift = self._deviation_m * normal * (1.0, 1.0, 1 / ARM_M)
        poses = self._frames.poses[index.numpy()].copy()
        x, y, cos, sin = self._columns.T
        there = np.hypot(poses[:, cos], poses[:, sin]) > 0
        shift *= there[:, :, None]
        poses[:, x] += shift[:, :, 0]
        poses[:, y] += shift[:, :, 1]
        turn_cos, turn_sin = np.cos(shift[:, :, 2]), np.sin(shift[:, :, 2])
        before = poses[:, cos].copy(), poses[:, sin].copy()
        poses[:, cos] = before[0] * turn_cos - before[1] * turn_sin
        poses[:, sin] = before[0] * turn_sin + before[1] * turn_cos
        return torch.from_numpy(self._checkpoint.poses.encode(poses))


def _column(names: tuple[str, ...], name: str) -> int:
    if name not in names:
        raise ConfigError(
            f"augmentation.pose_shift_m needs a pose {name}; there are {list(names)}: set 0"
        )
    return names.index(name)
