"""What an observation must keep, the same live and from a bag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dfm_vla_ros.observing.sources import Bounds
from dfm_vla_ros.robot.joints import CAMERAS

TRIGGER = "third"
"""The camera whose images start inferences, and frames of a data set."""
MEASURED, COMMANDED = "joint_states", "commanded_joint_states"
SOURCES = (*(f"{camera}_camera" for camera in CAMERAS), MEASURED, COMMANDED)

AGE_S, SKEW_S = 0.5, 0.2
TRACKING_RAD = 0.5
FROZEN_TIMEOUT_S, FROZEN_MOTION_RAD = 1.0, 0.05


def urdf_names() -> dict[str, Any]:
    """Return the setting of a robot that publishes all joints at once, named as in the URDF."""
    return {"arm_joint_states": False, "arm_joint_names": [""], "gripper_scale": 1.0}


def default_bounds() -> dict[str, Bounds]:
    """Return what each of SOURCES must keep; all skews are counted from the triggering one."""
    bounds = {source: Bounds(AGE_S, SKEW_S) for source in SOURCES}
    bounds[f"{TRIGGER}_camera"] = Bounds(AGE_S)
    return bounds


@dataclass(frozen=True)
class ObserverSettings:
    """What an observation must keep.

    Attributes:
        bounds: of each of SOURCES.
        tracking_rad: largest distance of an arm joint from its command [rad].
        frozen_timeout_s: how long a picture may repeat while arms move; 0: for ever [s].
        frozen_motion_rad: what counts as moving [rad].
        transport: of images, a key of ``cameras.TRANSPORTS``; or one for each camera.
        joint_states: how joints come, the values of ``nodes.joint_states.PARAMETERS``.
        commands: whether anyone says what is commanded; else the measured joints count for it.
    """

    bounds: Mapping[str, Bounds] = field(default_factory=default_bounds)
    tracking_rad: float = TRACKING_RAD
    frozen_timeout_s: float = FROZEN_TIMEOUT_S
    frozen_motion_rad: float = FROZEN_MOTION_RAD
    transport: str | Mapping[str, str] = "raw"
    joint_states: Mapping[str, Any] = field(default_factory=urdf_names)
    commands: bool = True

    def transport_of(self, camera: str) -> str:
        """Return how the images of ``camera`` come."""
        return self.transport if isinstance(self.transport, str) else self.transport[camera]
