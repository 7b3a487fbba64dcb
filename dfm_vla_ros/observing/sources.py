"""The newest message of each source, joint states above all; settings and time; no ROS."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.robot.freshness import Freshness, Moment
from dfm_vla_ros.robot.joints import ARM_JOINTS, ARMS, CAMERAS, JOINT_NAMES

Array = NDArray[np.float64]
Value = TypeVar("Value")

LARGEST_EXTRAPOLATION_S = 0.05
RATE_SAMPLES = 30


@dataclass(frozen=True)
class Bounds:
    """What a source must keep.

    Attributes:
        age_s: largest age of its newest message [s].
        skew_s: largest distance of its stamp from the third view's [s].
    """

    age_s: float
    skew_s: float = np.inf


class Source(Freshness, Generic[Value]):
    """One topic: its newest value, when that was made and when it came."""

    def __init__(self, name: str, bounds: Bounds) -> None:
        """Know nothing of topic ``name`` yet."""
        super().__init__(bounds.age_s)
        self.name, self.bounds = name, bounds
        self.fault = ""
        """Why the newest message was not taken; empty if it was."""
        self.refused = 0
        """Messages that were not taken."""

    def put(self, value: Value, stamp_s: float, now: Moment) -> None:
        """Take in a message made at ``stamp_s`` of ROS time."""
        self.value, self.fault = value, ""
        self.renew(stamp_s, now.steady_s)
        self._arrivals.append(now.steady_s)

    def refuse(self, fault: str) -> None:
        """Take a message for missing: it is unusable."""
        self.fault = fault
        self.refused += 1

    def align(self, skew_s: float) -> None:
        """Remember how long after the newest third view this source's message was made [s]."""
        self._skew_s = skew_s

    def clear(self) -> None:
        """Forget the value: it is of another episode."""
        super().clear()
        self.value: Value | None = None
        self._skew_s = 0.0
        self._arrivals: deque[float] = deque(maxlen=RATE_SAMPLES)

    def rate_hz(self, now: Moment) -> float:
        """Return the rate of the last messages; it falls once they stop."""
        if len(self._arrivals) < 2:
            return 0.0
        since_s = max(now.steady_s - self._arrivals[-1] - self.bounds.age_s, 0.0)
        return (len(self._arrivals) - 1) / (self._arrivals[-1] - self._arrivals[0] + since_s)

    def problem(self, now: Moment) -> str:
        """Return what is wrong with this source, or an empty text."""
        if self.fault:
            return f"{self.name}: {self.fault}"
        if self.value is None:
            return f"{self.name}: no message yet"
        stale = super().problem(now)
        if stale:
            return f"{self.name} is {stale}"
        if abs(self._skew_s) > self.bounds.skew_s:
            side = "newer" if self._skew_s > 0 else "older"
            return (
                f"{self.name} is {abs(self._skew_s):.2f} s {side} than the third view, allowed is "
                f"{self.bounds.skew_s} s"
            )
        return ""


class JointTrack:
    """The last joint messages, to know the joints at the moment an image was taken."""

    def __init__(self, length: int = 50) -> None:
        """Keep ``length`` messages."""
        self._samples: deque[tuple[float, Array, Array]] = deque(maxlen=length)

    def put(self, stamp_s: float, positions: Array, velocities: Array) -> None:
        """Add a message; one that is older than the newest means that time jumped back."""
        if self._samples and stamp_s < self._samples[-1][0]:
            self._samples.clear()
        self._samples.append((stamp_s, positions, velocities))

    def clear(self) -> None:
        """Forget everything."""
        self._samples.clear()

    def distance_s(self, stamp_s: float) -> float:
        """Return how long after ``stamp_s`` the nearest message was made [s]; infinite without."""
        after_s = (sample_s - stamp_s for sample_s, _, _ in self._samples)
        return min(after_s, key=abs, default=np.inf)

    def at(self, stamp_s: float) -> Array:
        """Return the positions (D,) at ``stamp_s`` [s].

        Between two messages the line between them, after the newest its velocity carried on (for
        the few milliseconds that a message takes), before the oldest the oldest.
        """
        after: tuple[float, Array] | None = None
        for sample_s, positions, velocities in reversed(self._samples):
            if sample_s > stamp_s:
                after = (sample_s, positions)
                continue
            if after is None:
                ahead_s = min(stamp_s - sample_s, LARGEST_EXTRAPOLATION_S)
                return positions + velocities * ahead_s
            share = (stamp_s - sample_s) / (after[0] - sample_s)
            return positions + share * (after[1] - positions)
        assert after is not None, "ask only after the first message"
        return after[1]


def ordered(names: list[str], values: Array, wanted: tuple[str, ...]) -> Array | None:
    """Return ``values`` in the order of ``wanted``, found by name.

    None if a name is missing or there twice, or if there are not as many values as names.
    """
    if len(names) != len(values):
        return None
    if tuple(names) == wanted:
        return np.array(values, dtype=np.float64)
    at = {name: index for index, name in enumerate(names)}
    if len(at) < len(names) or any(name not in at for name in wanted):
        return None
    return np.array([values[at[name]] for name in wanted], dtype=np.float64)


WHOLE = "joint_states"
ARM_TOPICS = {f"{arm}_arm/joint_states": arm for arm in ARMS}
"""Where each arm's driver sends its own."""


class JointNamesError(DfmVlaError):
    """The names of an arm's joints are not seven different ones."""


@dataclass
class Header:
    """std_msgs/Header as far as it is needed.

    Attributes:
        stamp: builtin_interfaces/Time.
    """

    stamp: Any


@dataclass
class JointMessage:
    """A sensor_msgs/JointState of both arms, put together from two."""

    header: Header
    name: list[str] = field(default_factory=list)
    position: list[float] = field(default_factory=list)
    velocity: list[float] = field(default_factory=list)


class ArmNames:
    """How one arm's driver names its joints and measures its gripper."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Take ``arm_joint_names``, seven or none, and ``gripper_scale``.

        Raises:
            JointNamesError: the names are not seven different ones.
        """
        names = [name for name in values["arm_joint_names"] if name]
        if names and (len(names) != 7 or len(set(names)) != 7):
            raise JointNamesError(
                f"parameter arm_joint_names: {names} are {len(set(names))} different names; give "
                "7, joints 1 to 6 and the gripper, or none"
            )
        self.names = {arm: tuple(names) or ARM_JOINTS[arm] for arm in ARMS}
        self.gripper_scale = float(values["gripper_scale"])


class ArmJoiner:
    """Joins the messages of two arms.

    Each message of one arm goes out with the newest of the other and the older stamp of the two,
    so a silent arm makes both old.
    """

    def __init__(self, arms: ArmNames) -> None:
        """Know no message yet."""
        self._arms = arms
        self._newest: dict[str, Any] = {}

    def clear(self) -> None:
        """Forget both arms: the clock jumped or the robot was put elsewhere."""
        self._newest.clear()

    def join(self, arm: str, message: Any) -> JointMessage | None:
        """Return both arms' joints with ``message`` as the newest; None before the other's."""
        self._newest[arm] = message
        if len(self._newest) < len(ARMS):
            return None
        stamps = [state.header.stamp for state in self._newest.values()]
        joined = JointMessage(Header(min(stamps, key=lambda stamp: (stamp.sec, stamp.nanosec))))
        for side in ARMS:
            _translate(self._newest[side], self._arms, side, joined)
        return joined


def _translate(message: Any, arms: ArmNames, arm: str, into: JointMessage) -> None:
    """Append one arm's joints to ``into`` under our names; a missing joint is left out."""
    at = {name: index for index, name in enumerate(message.name)}
    for own, foreign in zip(ARM_JOINTS[arm], arms.names[arm], strict=True):
        index = at.get(foreign)
        if index is None or index >= len(message.position):
            continue
        scale = arms.gripper_scale if own == ARM_JOINTS[arm][-1] else 1.0
        into.name.append(own)
        into.position.append(message.position[index] / scale)
        moving = index < len(message.velocity)
        into.velocity.append(message.velocity[index] / scale if moving else 0.0)


class Joints:
    """Takes joint states, measured or commanded, in any order of names."""

    def __init__(self, name: str, bounds: Bounds) -> None:
        """Know no position yet."""
        self.source: Source[Array] = Source(name, bounds)
        self.track = JointTrack()

    def take(self, message: Any, stamp_s: float, now: Moment) -> bool:
        """Take a message made at ``stamp_s``; return whether it is usable."""
        positions = ordered(message.name, message.position, JOINT_NAMES)
        if positions is None:
            self.source.refuse(f"joints are missing or there twice; it holds {list(message.name)}")
            return False
        if not np.isfinite(positions).all():
            joint = int(np.argmin(np.isfinite(positions)))
            self.source.refuse(f"{JOINT_NAMES[joint]} is {positions[joint]}, not finite")
            return False
        self.source.put(positions, stamp_s, now)
        self.track.put(stamp_s, positions, _velocities(message))
        return True

    def clear(self) -> None:
        """Forget everything."""
        self.source.clear()
        self.track.clear()


def _velocities(message: Any) -> Array:
    """Return (D,) velocities [rad/s]; those that are missing or not finite are 0."""
    velocities = ordered(message.name, message.velocity, JOINT_NAMES)
    if velocities is None:
        return np.zeros(len(JOINT_NAMES))
    return np.where(np.isfinite(velocities), velocities, 0.0)


NANOSECONDS = 1_000_000_000


class TimeBase:
    """Converts between stamps and seconds since the first stamp it saw."""

    def __init__(self) -> None:
        """Take the first stamp to come as the origin."""
        self._origin_ns: int | None = None

    def seconds(self, stamp: Any) -> float:
        """Return ``stamp``, a builtin_interfaces/Time, as seconds since the origin."""
        return self.from_nanoseconds(stamp.sec * NANOSECONDS + stamp.nanosec)

    def from_nanoseconds(self, ns: int) -> float:
        """Return a clock reading [ns] as seconds since the origin."""
        if self._origin_ns is None and ns > 0:  # 0: simulated time has not begun
            self._origin_ns = ns
        return (ns - (self._origin_ns or 0)) / NANOSECONDS

    def to_nanoseconds(self, seconds: float) -> int:
        """Return the clock reading [ns] of ``seconds`` since the origin."""
        return (self._origin_ns or 0) + round(seconds * NANOSECONDS)


def nanoseconds(stamp: Any) -> int:
    """Return a stamp as nanoseconds."""
    return stamp.sec * NANOSECONDS + stamp.nanosec


class EpisodeWatch:
    """Compares consecutive TaskStatus messages; the first one is no reset."""

    def __init__(self) -> None:
        """Know no episode yet."""
        self._episode: tuple[str, int] | None = None
        self._elapsed_s = 0.0

    def is_new(self, task: str, seed: int, elapsed_s: float) -> bool:
        """Return whether this status belongs to another episode than the one before."""
        before, elapsed_before = self._episode, self._elapsed_s
        self._episode, self._elapsed_s = (task, seed), elapsed_s
        if before is None:
            return False
        return before != (task, seed) or elapsed_s < elapsed_before


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
