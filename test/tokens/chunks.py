"""Chunks like those of demonstrations, and a tokenizer of each kind fitted on them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.tokens import ActionCodec
from dfm_vla_ros.tokens.loading import ACTION_KINDS

JOINTS = ("left", "right", "gripper")
HORIZON = 8


def chunks(count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return smooth targets (F, H, 3) and references (F, 3); the gripper opens and closes."""
    rng = np.random.default_rng(seed)
    reference = rng.uniform(-1, 1, (count, 3))
    time = np.arange(1, HORIZON + 1) / HORIZON
    speed, bend = rng.uniform(-0.4, 0.4, (2, count, 1, 3))
    targets = reference[:, None] + speed * time[:, None] + bend * time[:, None] ** 2
    switch = rng.integers(0, 2 * HORIZON, (count, 1))
    targets[..., 2] = np.where(np.arange(HORIZON) < switch, 0.035, 0.008)
    reference[:, 2] = targets[:, 0, 2]
    return targets, reference


def fitted(kind: str, **options: Any) -> ActionCodec:
    """Return a tokenizer of ``kind`` for such chunks; nothing of the data is out of its range."""
    targets, reference = chunks(2000, seed=0)
    given = {"uniform": {"quantile": 1.0}, "maat": {"quantile": 0.0}, "dct": {"quantile": 1.0}}
    fit = ACTION_KINDS[kind].fit
    return fit(targets, reference, JOINTS, ["gripper"], 0.1, **given.get(kind, {}) | options)
