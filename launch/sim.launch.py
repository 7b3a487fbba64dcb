"""The twin and robot_state_publisher."""

from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import Command, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = FindPackageShare("dfm_vla_ros")
ARGUMENTS = (
    ("namespace", "", "of every node and topic"),
    ("use_sim_time", "false", "true: the twin publishes /clock and all nodes follow it"),
    (
        "params_file",
        PathJoinSubstitution([PACKAGE, "config", "dual_arm.yaml"]),
        "parameters of all nodes",
    ),
    ("log_level", "info", "debug, info, warn, error or fatal"),
    ("use_robot_state_publisher", "true", "false: no transforms of the links"),
)


def generate_launch_description() -> LaunchDescription:
    urdf = PathJoinSubstitution([PACKAGE, "urdf", "dual_arm.urdf.xacro"])
    description = ParameterValue(Command(["xacro ", urdf]), value_type=str)
    clock = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    shared = {
        "namespace": LaunchConfiguration("namespace"),
        "arguments": ["--ros-args", "--log-level", LaunchConfiguration("log_level")],
        "output": "screen",
    }
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description_)
                for name, default, description_ in ARGUMENTS
            ),
            Node(
                package="dfm_vla_ros",
                executable="sim_node",
                name="sim_node",
                parameters=[LaunchConfiguration("params_file"), {"publish_clock": clock}],
                **shared,
            ),
            Node(
                package="robot_state_publisher",
                executable="robot_state_publisher",
                parameters=[{"robot_description": description, "use_sim_time": clock}],
                condition=IfCondition(LaunchConfiguration("use_robot_state_publisher")),
                **shared,
            ),
        ]
    )
