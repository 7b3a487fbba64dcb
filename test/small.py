"""A small random checkpoint of the same classes as the shipped one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from dfm_vla_ros.model.checkpoint import Checkpoint, CheckpointConfig
from dfm_vla_ros.model.refiner import Refiner, RefinerConfig
from dfm_vla_ros.model.vision import FsqConfig, FsqTokenizer
from dfm_vla_ros.policy.types import Observation
from dfm_vla_ros.robot.joints import CAMERAS, JOINT_NAMES
from dfm_vla_ros.tokens.action import ActionTokenizer
from dfm_vla_ros.tokens.bins import PoseTokenizer, ProprioceptionTokenizer
from dfm_vla_ros.tokens.text import TextTokenizer

INSTRUCTION = "place the block on the plate"


def small_checkpoint(seed: int = 0, grouping: int = 14) -> Checkpoint:
    """Return a checkpoint of two thin layers, 32 px images and 64 bins, with random weights."""
    torch.manual_seed(seed)
    fsq = FsqConfig(image_size=32, hidden=8)
    joints = len(JOINT_NAMES)
    action = ActionTokenizer(
        JOINT_NAMES, np.full((8, joints), 0.002), np.full(joints, np.nan), 64, 0.1
    )
    bounds = np.full(joints, 3.2)
    proprioception = ProprioceptionTokenizer(JOINT_NAMES, -bounds, bounds, 256)
    text = TextTokenizer.fit([INSTRUCTION], length=6)
    sizes = RefinerConfig(
        views=3,
        grid=fsq.grid,
        levels=fsq.levels,
        text_vocabulary=text.vocabulary_size,
        text_length=6,
        proprioception_vocabulary=256,
        arms=2,
        horizon=8,
        action_dim=joints,
        action_vocabulary=64,
        grouping=grouping,
        merge=2,
        patch_width=4,
        width=16,
        layers=2,
        heads=2,
        cosines=8,
    )
    config = CheckpointConfig(sizes, fsq, CAMERAS, {"place_block": INSTRUCTION})
    refiner = Refiner(sizes).eval()
    with torch.no_grad():
        refiner.head.weight *= 50.0  # opinions strong enough to move the median
    return Checkpoint(config, refiner, FsqTokenizer(fsq).eval(), action, proprioception, text)


def random_observation(seed: int = 0, size: int = 32) -> Observation:
    """Return an observation with random images and joints."""
    rng = np.random.default_rng(seed)
    images = {c: rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for c in CAMERAS}
    joints = rng.uniform(-0.5, 0.5, (2, len(JOINT_NAMES)))
    return Observation(images, joints[0], joints[1], INSTRUCTION)


POSES = ("pot.x", "pot.y", "pot.cos_yaw")


def pose_checkpoint(seed: int = 0, names: tuple[str, ...] = POSES) -> Checkpoint:
    """Return such a checkpoint that sees object poses instead of images."""
    like = small_checkpoint(seed)
    bounds = np.ones(len(names))
    poses = PoseTokenizer(names, -bounds, bounds, 512)
    sizes = replace(like.config.refiner, views=0, poses=len(names), pose_vocabulary=512)
    config = replace(like.config, refiner=sizes, image_tokenizer=None, cameras=(), poses=names)
    torch.manual_seed(seed)
    refiner = Refiner(sizes).eval()
    with torch.no_grad():
        refiner.head.weight *= 50.0
        refiner.pose_embedding.weight *= 10.0  # or three numbers among 39 would not show
    return Checkpoint(config, refiner, None, like.action, like.proprioception, like.text, poses)
