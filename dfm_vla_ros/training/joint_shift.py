"""States beside those that were recorded, with the labels that lead back to the expert's path."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dfm_vla_ros.training.draws import Draws
from dfm_vla_ros.training.frames import Frames


class JointShift:
    """Moves measured and commanded arm joints alike; the clean targets stay.

    Without it a network knows the frames of a small data set by their commands: of 50
    demonstrations the held-out loss rises after a few epochs.
    """

    def __init__(self, frames: Frames, checkpoint: Any, deviation_rad: float) -> None:
        """Shift each joint by a Gaussian of ``deviation_rad``; grippers, which touch, stay."""
        self._frames, self._checkpoint = frames, checkpoint
        arms = np.array(["gripper" not in name for name in frames.joint_names])
        self._deviation = torch.from_numpy(deviation_rad * arms)

    def tokens(self, index: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return proprioception (B, 2 D) and action tokens (B, N) of frames ``index`` (B,)."""
        normal = draws.normal("joint shift", (len(self._deviation),))
        shift, rows = (normal * self._deviation).numpy(), index.numpy()
        frames, encode = self._frames, self._checkpoint.proprioception.encode
        commanded = frames.commanded[rows] + shift
        joints = [encode(frames.positions[rows] + shift), encode(commanded)]
        actions = self._checkpoint.action.encode(frames.targets[rows], commanded)
        return (
            torch.from_numpy(np.concatenate(joints, axis=1)),
            torch.from_numpy(actions.reshape(len(rows), -1)),
        )
