"""piper.launch.py with the topics of AgileX Cobot Magic: /puppet, /master, /camera_{f,l,r}."""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = FindPackageShare("dfm_vla_ros")
ARGUMENTS = (
    ("namespace", "", "of both nodes, of the drivers and of the cameras"),
    ("use_sim_time", "false", "true: follow /clock"),
    (
        "params_file",
        PathJoinSubstitution([PACKAGE, "config", "cobot_magic.yaml"]),
        "parameters of both nodes",
    ),
    ("autostart", "true", "false: the nodes wait for 'ros2 lifecycle set'"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
)
TOPICS = {
    "left_states": "puppet/joint_left",
    "right_states": "puppet/joint_right",
    "left_command": "master/joint_left",
    "right_command": "master/joint_right",
}


def generate_launch_description() -> LaunchDescription:
    passed = {name: LaunchConfiguration(name) for name, _, _ in ARGUMENTS}
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, default, description in ARGUMENTS
            ),
            IncludeLaunchDescription(
                PathJoinSubstitution([PACKAGE, "launch", "piper.launch.py"]),
                launch_arguments={**passed, **TOPICS}.items(),
            ),
        ]
    )
