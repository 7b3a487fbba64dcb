"""The executor node's parameters, and what is built from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter as Set

from dfm_vla_ros.nodes import inputs
from dfm_vla_ros.nodes.lifecycle import AUTOSTART, Parameter
from dfm_vla_ros.nodes.outputs import OUTPUTS
from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.collision import CollisionModel
from dfm_vla_ros.robot.collision_scene import Distances
from dfm_vla_ros.robot.executor import Executor
from dfm_vla_ros.robot.limits import DEFAULT_SETTINGS as DEFAULT
from dfm_vla_ros.robot.limits import PlanSettings
from dfm_vla_ros.robot.model import (
    ARM_ACCELERATION,
    ARM_JERK,
    GRIPPER_ACCELERATION,
    GRIPPER_JERK,
    RobotModel,
)
from dfm_vla_ros.tokens import load_action_tokenizer

SPEED = Parameter(
    "speed", 1.0, "share of full speed, from the next chunk on", (0.05, 1.0), dynamic=True
)

PARAMETERS = (
    Parameter("checkpoint", "", "checkpoint folder with the action tokenizer; empty: the shipped"),
    Parameter("robot_description", "", "URDF text: limits, shapes; empty: the shipped dual arm"),
    Parameter("lead", DEFAULT.lead_s, "[s] from stamp to first point", (0.001, 0.1)),
    Parameter("minimum_gap", DEFAULT.minimum_gap_s, "[s] steps due sooner drop", (0.01, 0.5)),
    Parameter("limit_margin", DEFAULT.margin_rad, "[rad] kept from position limits", (0.0, 0.5)),
    Parameter("maximum_jump", DEFAULT.jump_rad, "[rad] to the first target", (0.0, 3.2)),
    Parameter(
        "maximum_time_scale", DEFAULT.largest_time_scale, "slowest, as a factor", (1.0, 100.0)
    ),
    Parameter("slowest_speed", DEFAULT.slowest_speed, "share, to bridge inference", (0.05, 1.0)),
    Parameter("arm_acceleration", ARM_ACCELERATION, "[rad/s^2] limit", (0.1, 1000.0)),
    Parameter("gripper_acceleration", GRIPPER_ACCELERATION, "[m/s^2] limit", (0.1, 1000.0)),
    Parameter("arm_jerk", ARM_JERK, "[rad/s^3] limit", (1.0, 1e6)),
    Parameter("gripper_jerk", GRIPPER_JERK, "[m/s^3] limit", (1.0, 1e6)),
    Parameter("maximum_joint_state_age", 0.5, "[s] older: brake, refuse chunks", (0.02, 10.0)),
    Parameter(
        "maximum_chunk_age", DEFAULT.maximum_chunk_age_s, "[s] of its observation", (0.1, 60.0)
    ),
    Parameter("command_rate", 100.0, "[Hz] of commanded_joint_states", (1.0, 500.0)),
    SPEED,
    Parameter("publish_commands", True, "false: dry run, plans and reports, commands nothing"),
    Parameter("minimum_distance", 0.01, "[m] between the arms; 0: no collision check", (0.0, 0.5)),
    Parameter("table_press", 0.06, "[m] that fingers may be sent below the table", (0.0, 0.5)),
    Parameter("table_height", 0.0, "[m] of the table's top in base_link", (-2.0, 2.0)),
    Parameter("heartbeat_timeout", 0.0, "[s] of silence that stop the arms; 0: off", (0.0, 60.0)),
    Parameter(
        "output",
        "trajectories",
        "trajectories, joined_trajectory or joint_states",
        choices=OUTPUTS,
    ),
    Parameter("stream_rate", 200.0, "[Hz] of the output joint_states", (10.0, 1000.0)),
    Parameter("stream_velocities", True, "false: the output joint_states holds positions only"),
    *inputs.PARAMETERS,
    Parameter("start_stopped", False, "true: nothing moves before ~/resume is called"),
    AUTOSTART,
)


def check_speed(given: Sequence[Set]) -> SetParametersResult:
    """Refuse a speed that is no number: no range excludes it."""
    for parameter in given:
        if parameter.name == SPEED.name and not math.isfinite(parameter.value):
            reason = f"speed is {parameter.value}; allowed is {SPEED.bounds}"
            return SetParametersResult(successful=False, reason=reason)
    return SetParametersResult(successful=True)


def make_executor(values: Mapping[str, Any]) -> Executor:
    """Load tokenizer, limits and collision model; return the library's executor.

    Raises:
        DfmVlaError: one of them is unusable.
    """
    folder = Path(values["checkpoint"] or resource_path("checkpoints/default"))
    robot = RobotModel(values["robot_description"])
    limits = robot.limits(
        arm_acceleration=values["arm_acceleration"],
        gripper_acceleration=values["gripper_acceleration"],
        arm_jerk=values["arm_jerk"],
        gripper_jerk=values["gripper_jerk"],
    )
    settings = PlanSettings(
        lead_s=values["lead"],
        minimum_gap_s=values["minimum_gap"],
        margin_rad=values["limit_margin"],
        jump_rad=values["maximum_jump"],
        largest_time_scale=values["maximum_time_scale"],
        slowest_speed=values["slowest_speed"],
        maximum_chunk_age_s=values["maximum_chunk_age"],
    )
    distance_m = values["minimum_distance"]
    clearance = (
        CollisionModel(
            robot,
            distance_m,
            values["table_height"],
            Distances(fingers_m=-values["table_press"]),
        )
        if distance_m
        else None
    )
    return Executor(
        load_action_tokenizer(folder),
        limits,
        settings,
        values["maximum_joint_state_age"],
        clearance,
        dry_run=not values["publish_commands"],
    )
