"""Chunks for the property tests: smooth, wild, extreme and corrupt, from a seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from robots import LIMITS, tokenizer

from dfm_vla_ros.robot.executor import JoinMode, Request
from dfm_vla_ros.robot.joints import JOINT_NAMES

TOKENIZER = tokenizer()
KINDS = ("stay", "smooth", "jitter", "fast", "wild", "bounds", "extreme")


def make(kind: str, seed: int, reference: np.ndarray, **changes: Any) -> Request:
    """Return a well-formed chunk."""
    rng = np.random.default_rng(seed)
    tokens = np.clip(_tokens(kind, rng, reference), 0, 255)
    made = Request(
        TOKENIZER.hash,
        JOINT_NAMES,
        8,
        tokens.astype(np.uint16).ravel(),
        reference.copy(),
        0.1,
        0.0,
    )
    return replace(made, **changes)


def _tokens(kind: str, rng: np.random.Generator, reference: np.ndarray) -> np.ndarray:
    steps = np.arange(1, 9)[:, None]
    if kind == "stay":
        return np.full((8, 14), 128)
    if kind == "smooth":
        return np.rint(128 + rng.normal(0, 4, 14) * steps)
    if kind == "jitter":
        return 128 + rng.integers(-3, 4, (8, 14))
    if kind == "fast":
        return np.rint(128 + rng.normal(0, 30, 14) * steps)
    if kind == "wild":
        return rng.integers(60, 200, (8, 14))
    if kind == "bounds":  # to a position limit, some joints, and back
        room = np.where(rng.random(14) < 0.5, LIMITS.lower, LIMITS.upper) - reference
        way = np.where(rng.random(14) < 0.4, np.clip(room / 5e-3, -110, 110), 0.0)
        return np.rint(128 + way * np.minimum(steps / rng.integers(1, 9), 1.0))
    return np.where(rng.random((8, 14)) < 0.5, 0, 255)


_NAN_AT_3 = np.where(np.arange(14) == 3, np.nan, 0.0)
CORRUPT: dict[str, dict[str, Any]] = {
    "hash": {"tokenizer_hash": "beef"},
    "joints": {"joint_names": JOINT_NAMES[::-1]},
    "no joints": {"joint_names": ()},
    "horizon": {"horizon": 7},
    "horizon 0": {"horizon": 0},
    "no tokens": {"tokens": np.zeros(0, np.uint16)},
    "too many tokens": {"tokens": np.zeros(113, np.uint16)},
    "negative tokens": {"tokens": np.full(112, -1)},
    "largest tokens": {"tokens": np.full(112, 65535, np.uint16)},
    "fractional tokens": {"tokens": np.full(112, np.nan)},
    "nan reference": {"reference": _NAN_AT_3},
    "infinite reference": {"reference": np.full(14, np.inf)},
    "huge reference": {"reference": np.full(14, 1e300)},
    "short reference": {"reference": np.zeros(13)},
    "square reference": {"reference": np.zeros((14, 1))},
    "zero period": {"control_period_s": 0.0},
    "negative period": {"control_period_s": -0.1},
    "nan period": {"control_period_s": np.nan},
    "nan observation": {"observation_s": np.nan},
    "infinite observation": {"observation_s": np.inf},
    "minus infinite observation": {"observation_s": -np.inf},
    "future observation": {"observation_s": 1e300},
    "past observation": {"observation_s": -1e300},
    "mode": {"mode": 4},
    "committed": {"committed_steps": 9, "mode": JoinMode.RTC},
    "negative committed": {"committed_steps": -1, "mode": JoinMode.RTC},
    "execute": {"execute_steps": 4294967295},
    "negative interval": {"expected_interval_s": -0.1, "mode": JoinMode.RTC},
    "nan interval": {"expected_interval_s": np.nan, "mode": JoinMode.RTC},
    "infinite interval": {"expected_interval_s": np.inf, "mode": JoinMode.RTC},
}
