"""RViz: the robot, its cameras and its frames, of one namespace."""

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = FindPackageShare("dfm_vla_ros")
ARGUMENTS = (
    ("namespace", "", "of every node and topic"),
    ("use_sim_time", "false", "true: follow /clock"),
    (
        "rviz_config",
        PathJoinSubstitution([PACKAGE, "rviz", "dual_arm.rviz"]),
        "what is shown; topics in it are relative to the namespace",
    ),
    ("log_level", "info", "debug, info, warn, error or fatal"),
)


def generate_launch_description() -> LaunchDescription:
    clock = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, default, description in ARGUMENTS
            ),
            Node(
                package="rviz2",
                executable="rviz2",
                namespace=LaunchConfiguration("namespace"),
                arguments=["--display-config", LaunchConfiguration("rviz_config")],
                parameters=[{"use_sim_time": clock}],
                remappings=[("/tf", "tf"), ("/tf_static", "tf_static")],
                ros_arguments=["--log-level", LaunchConfiguration("log_level")],
                output="screen",
            ),
        ]
    )
