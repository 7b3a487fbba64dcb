"""What the twin refuses."""

from __future__ import annotations

from dfm_vla_ros.errors import DfmVlaError


class UnknownTask(DfmVlaError):
    """The task's name is not one of the twin's."""


class CommandRefused(DfmVlaError):
    """A position command is not finite, of the wrong size or outside the joint limits."""


class OutOfReach(DfmVlaError):
    """Inverse kinematics does not reach a pose."""


class TrajectoryRefused(DfmVlaError):
    """A trajectory that a joint_trajectory_controller would reject."""


class UnknownSetting(DfmVlaError):
    """A variation, phrasing, perturbation or demonstrator that does not exist."""
