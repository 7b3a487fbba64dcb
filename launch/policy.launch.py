"""The policy and the executor, for a twin or a robot that is already there."""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = FindPackageShare("dfm_vla_ros")
ARGUMENTS = (
    ("namespace", "", "of every node and topic"),
    ("use_sim_time", "false", "follow /clock"),
    (
        "params_file",
        PathJoinSubstitution([PACKAGE, "config", "dual_arm.yaml"]),
        "parameters of both nodes",
    ),
    ("log_level", "info", "debug, info, warn, error or fatal"),
)


def generate_launch_description() -> LaunchDescription:
    overrides = {
        "use_sim_time": ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool),
    }
    nodes = [
        Node(
            package="dfm_vla_ros",
            executable=name,
            name=name,
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("params_file"), overrides],
            arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
            output="screen",
        )
        for name in ("policy_node", "executor_node")
    ]
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]
    return LaunchDescription([*declared, *nodes])
