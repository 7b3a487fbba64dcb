"""Everything on the twin: sim.launch.py and policy.launch.py with the same arguments."""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
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
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]
    passed = {name: LaunchConfiguration(name) for name, _, _ in ARGUMENTS}
    included = [
        IncludeLaunchDescription(
            PathJoinSubstitution([PACKAGE, "launch", f"{part}.launch.py"]),
            launch_arguments=passed.items(),
        )
        for part in ("sim", "policy")
    ]
    return LaunchDescription([*declared, *included])
