"""Changed versions of images, each a function of (seed, episode, version) alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfm_vla_ros.training.config import AugmentationConfig, ConfigError
from dfm_vla_ros.training.frames import Frames
from dfm_vla_ros.training.trainable import Draws, stream

Images = NDArray[np.uint8]
OTHERS = ("variants", "code_dropout", "joint_shift_rad", "pose_shift_m")
"""Keys that do not change an image."""


def version_name(config: AugmentationConfig, seed: int, version: int) -> str:
    """Return what tells apart the cached codes of version 0 (clean), 1, 2, ..."""
    if version == 0:
        return "clean"
    kept = {k: v for k, v in asdict(config).items() if k not in OTHERS}
    return f"{stream(seed, version, sorted(kept.items())):016x}"


def changed(images: Images, config: AugmentationConfig, *identity: object) -> Images:
    """Return ``images`` (T, H, W, 3) with other brightness, contrast and place, frame by frame.

    Args:
        images: of one camera and episode.
        config: the largest changes.
        identity: what the changes follow from, such as seed, episode, camera and version.
    """
    rng = np.random.default_rng(stream("augmentation", *identity))
    gain = 1 + config.contrast * rng.uniform(-1, 1, len(images))
    offset = 255 * config.brightness * rng.uniform(-1, 1, len(images)) / 2
    reach = config.shift_px
    moves = rng.integers(-reach, reach + 1, (len(images), 2))
    out = np.empty_like(images)
    for place, (image, move) in enumerate(zip(images, moves, strict=True)):
        light = (image.astype(np.float32) - 127.5) * gain[place] + 127.5 + offset[place]
        out[place] = shifted(np.rint(np.clip(light, 0, 255)).astype(np.uint8), *move)
    return out


def shifted(image: Images, down: int, right: int) -> Images:
    """Return ``image`` (H, W, 3) moved; its edges repeat."""
    rows = np.clip(np.arange(image.shape[0]) - down, 0, image.shape[0] - 1)
    columns = np.clip(np.arange(image.shape[1]) - right, 0, image.shape[1] - 1)
    return image[rows[:, None], columns[None]]


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
