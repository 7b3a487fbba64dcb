"""The names and the order of the joints: one place, used by every room."""

from __future__ import annotations

ARMS: tuple[str, ...] = ("left", "right")


def arm_joints(arm: str) -> tuple[str, ...]:
    """Return the seven commanded joints of one arm: joint1..joint6 [rad], then gripper [m].

    The gripper joint is the travel of one finger, 0 (closed) to 0.035 m (open); the opposite
    finger mimics it.
    """
    return (*(f"{arm}_joint{i}" for i in range(1, 7)), f"{arm}_gripper")


ARM_JOINTS: dict[str, tuple[str, ...]] = {arm: arm_joints(arm) for arm in ARMS}
JOINT_NAMES: tuple[str, ...] = sum(ARM_JOINTS.values(), ())
"""All 14 commanded joints, left arm first: the order of every (..., 14) array."""

CAMERAS: tuple[str, ...] = ("third", "left_wrist", "right_wrist")
"""Camera names; camera ``third`` publishes on ``third_camera/image_raw``, and so on."""
