"""Messages from the library's values and back: trajectories, requests, traces, images."""

from __future__ import annotations

import math
from array import array

import numpy as np
from builtin_interfaces.msg import Duration, Time
from cv_bridge import CvBridge, CvBridgeError
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, Image
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.msg import ActionChunk, PolicyTrace
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import NANOSECONDS
from dfm_vla_ros.observing import cameras
from dfm_vla_ros.observing.cameras import Rgb
from dfm_vla_ros.policy.types import Trace
from dfm_vla_ros.robot.chunks import Request
from dfm_vla_ros.robot.progress import Trajectory


class TrajectoryMalformed(DfmVlaError):
    """A trajectory whose points differ in size, or hold fields that are not followed."""


def doubles(values: NDArray[np.float64]) -> array:
    """Return ``values`` as the array that a float64[] field takes without a check per element."""
    return array("d", np.ascontiguousarray(values, dtype=np.float64).tobytes())


def to_message(trajectory: Trajectory, stamp: Time) -> JointTrajectory:
    """Return the message that starts at ``stamp``."""
    message = JointTrajectory(joint_names=list(trajectory.joint_names))
    message.header.stamp = stamp
    for row, seconds in enumerate(trajectory.times_s):
        point = JointTrajectoryPoint()
        point.positions = doubles(trajectory.positions[row])
        if trajectory.velocities is not None:
            point.velocities = doubles(trajectory.velocities[row])
        sec, nanosec = divmod(round(float(seconds) * NANOSECONDS), NANOSECONDS)
        point.time_from_start = Duration(sec=sec, nanosec=nanosec)
        message.points.append(point)
    return message


def from_message(message: JointTrajectory) -> Trajectory:
    """Return the trajectory in a message.

    Raises:
        TrajectoryMalformed: points are missing, some have other sizes than the joint names, or
            some have accelerations or efforts.
    """
    joints, points = len(message.joint_names), message.points
    if not points:
        raise TrajectoryMalformed("the trajectory has no points")
    with_velocities = len(points[0].velocities) > 0
    for index, point in enumerate(points):
        for field in ("accelerations", "effort"):
            if len(getattr(point, field)):
                raise TrajectoryMalformed(
                    f"point {index} has {field}, which this controller does not follow; leave "
                    f"{field} empty"
                )
        sizes = (len(point.positions), len(point.velocities))
        if sizes != (joints, joints if with_velocities else 0):
            raise TrajectoryMalformed(
                f"point {index} has {sizes[0]} positions and {sizes[1]} velocities for {joints} "
                "joints; give every point as many of both, or no velocities at all"
            )
    durations = [point.time_from_start for point in points]
    return Trajectory(
        tuple(message.joint_names),
        np.array([d.sec + d.nanosec / NANOSECONDS for d in durations]),
        np.array([point.positions for point in points], dtype=np.float64),
        np.array([point.velocities for point in points], dtype=np.float64)
        if with_velocities
        else None,
    )


def request(message: ActionChunk, observation_s: float) -> Request:
    """Return the request of ``message``, unchecked; it was observed at ``observation_s``."""
    return Request(
        message.tokenizer_hash,
        tuple(message.joint_names),
        message.horizon,
        np.array(message.tokens, dtype=np.int64),
        np.array(message.reference_positions, dtype=np.float64),
        message.control_period,
        observation_s,
        message.mode,
        message.committed_steps,
        message.execute_steps,
        message.expected_interval,
        message.goal_id,
        message.chunk_id,
    )


class TraceTopic:
    """Publishes PolicyTrace."""

    def __init__(self, node: LifecycleNode) -> None:
        """Publish on ``~/trace``."""
        self._topic = node.create_lifecycle_publisher(PolicyTrace, "~/trace", qos.EVERY_COMMAND)

    @property
    def wanted(self) -> bool:
        """Whether a chunk that begins now should be traced: somebody subscribes."""
        return self._topic.get_subscription_count() > 0

    def publish(self, trace: Trace, chunk: ActionChunk) -> None:
        """Publish the trace that ``chunk`` came of."""
        self._topic.publish(_trace_message(trace, chunk))


def _trace_message(trace: Trace, chunk: ActionChunk) -> PolicyTrace:
    # Tokens rather than paths: they are exact, and whoever shows them works out what they mean.
    message = PolicyTrace(
        observation_stamp=chunk.observation_stamp,
        goal_id=chunk.goal_id,
        chunk_id=chunk.chunk_id,
        tokenizer_hash=chunk.tokenizer_hash,
        joint_names=chunk.joint_names,
        reference_positions=chunk.reference_positions,
        control_period=chunk.control_period,
        horizon=chunk.horizon,
        committed_steps=chunk.committed_steps,
        committed=trace.committed.tolist(),
        kinds=list(trace.kinds),
        times=doubles(trace.times),
        tokens=array("H", np.ascontiguousarray(trace.tokens, np.uint16).tobytes()),
        targets=array("H", np.ascontiguousarray(trace.targets, np.uint16).tobytes()),
        jumped=trace.jumped.ravel().tolist(),
        confidence=array("f", np.ascontiguousarray(trace.confidence, np.float32).tobytes()),
    )
    message.header.stamp = chunk.header.stamp
    return message


_BRIDGE = CvBridge()


def to_rgb(message: Image) -> Rgb:
    """Return an image as (H, W, 3) uint8 RGB, by cv_bridge where it can.

    Its builds differ in the encodings that they know; some take padded rows for pixels, fail at
    big-endian images or have no place for a second plane. Such images are decoded as those of a
    bag are, and the result is the same to the bit (test/nodes/test_images.py).

    Raises:
        ImageRefused: unknown encoding, or a size that is not that of the bytes.
    """
    encoding = cameras.encoding_of(message)
    row = message.width * encoding.channels * encoding.bits // 8
    if not encoding.planar and not message.is_bigendian and message.step == row:
        try:
            return _BRIDGE.imgmsg_to_cv2(message, "rgb8")
        except (CvBridgeError, KeyError):  # this build does not know the encoding
            pass
    return cameras.to_rgb(message)


def fill(message: Image, pixels: Rgb) -> None:
    """Put ``pixels`` (H, W, 3) RGB into ``message``.

    One copy; cv_bridge hands over bytes, each of which the message would check.
    """
    message.height, message.width = pixels.shape[:2]
    message.encoding, message.step = "rgb8", 3 * message.width
    data = array("B")
    data.frombytes(np.ascontiguousarray(pixels))
    message.data = data


def camera_info(frame_id: str, width: int, height: int, field_of_view_deg: float) -> CameraInfo:
    """Return the intrinsics of a pinhole camera with this vertical field of view."""
    focal = height / 2 / math.tan(math.radians(field_of_view_deg) / 2)
    centre = ((width - 1) / 2, (height - 1) / 2)
    info = CameraInfo(width=width, height=height, distortion_model="plumb_bob")
    info.header.frame_id = frame_id
    info.d = [0.0] * 5
    info.k = [focal, 0.0, centre[0], 0.0, focal, centre[1], 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [focal, 0.0, centre[0], 0.0, 0.0, focal, centre[1], 0.0, 0.0, 0.0, 1.0, 0.0]
    return info
