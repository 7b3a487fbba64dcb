"""JointTrajectory messages from plans and back."""

from __future__ import annotations

from array import array

import numpy as np
from builtin_interfaces.msg import Duration, Time
from numpy.typing import NDArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.nodes.stamps import NANOSECONDS
from dfm_vla_ros.robot.reference import Trajectory


class TrajectoryMalformed(DfmVlaError):
    """A message whose points do not agree in size or hold what is not followed."""


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
