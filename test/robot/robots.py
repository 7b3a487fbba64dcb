"""What the tests of this folder share: limits, a home posture, an action tokenizer."""

from __future__ import annotations

import numpy as np

from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.robot.limits import JointLimits
from dfm_vla_ros.tokens.action import ActionTokenizer

ARM_LOWER = [-2.618, 0.0, -2.967, -1.745, -1.22, -2.0944, 0.0]
ARM_UPPER = [2.618, 3.14, 0.0, 1.745, 1.22, 2.0944, 0.035]
ARM_SPEED = [5.0, 5.0, 5.0, 5.0, 5.0, 3.0, 1.0]

LIMITS = JointLimits(
    names=JOINT_NAMES,
    lower=np.array(ARM_LOWER * 2),
    upper=np.array(ARM_UPPER * 2),
    velocity=np.array(ARM_SPEED * 2),
    acceleration=np.full(14, 60.0),
    jerk=np.array(([1500.0] * 6 + [1000.0]) * 2),
    prismatic=np.array(([False] * 6 + [True]) * 2),
)
HOME = np.array([0.0, 1.57, -1.57, 0.0, 0.0, 0.0, 0.035] * 2)
REST = np.zeros(14)
DUE = np.arange(1, 9) * 0.1


def tokenizer(vocabulary_size: int = 256) -> ActionTokenizer:
    """Return one with 5 mrad bins (0.5 mm for the grippers) for 8 steps of 0.1 s."""
    widths = np.tile(np.where(LIMITS.prismatic, 5e-4, 5e-3), (8, 1))
    middle = np.full(len(JOINT_NAMES), np.nan)
    return ActionTokenizer(JOINT_NAMES, widths, middle, vocabulary_size, 0.1)
