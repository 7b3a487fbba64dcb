"""Policy and executor on two AgileX PiPER arms, whose drivers (piper_ros) already run.

One driver in namespace left_arm, one in right_arm; other topics by the arguments.
"""

from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import SetRemap
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = FindPackageShare("dfm_vla_ros")
PASSED = (
    ("namespace", "", "of both nodes, of both drivers and of the cameras"),
    ("use_sim_time", "false", "true: follow /clock"),
    (
        "params_file",
        PathJoinSubstitution([PACKAGE, "config", "piper.yaml"]),
        "parameters of both nodes",
    ),
    ("autostart", "true", "false: the nodes wait for 'ros2 lifecycle set'"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
)
TOPICS = (
    ("left_states", "left_arm/joint_states", "left_arm/joint_states_single"),
    ("right_states", "right_arm/joint_states", "right_arm/joint_states_single"),
    ("left_command", "left_arm/joint_command", "left_arm/joint_ctrl_single"),
    ("right_command", "right_arm/joint_command", "right_arm/joint_ctrl_single"),
    ("third_image", "third_camera/image_raw", "camera_f/color/image_raw"),
    ("left_wrist_image", "left_wrist_camera/image_raw", "camera_l/color/image_raw"),
    ("right_wrist_image", "right_wrist_camera/image_raw", "camera_r/color/image_raw"),
)
"""Argument, topic of the nodes, topic of the robot: relative, so it follows the namespace."""


def remappings() -> list[SetRemap]:
    """Return the rules for all nodes of the group, compressed images included."""
    rules = []
    for argument, topic, _ in TOPICS:
        rules.append(SetRemap(topic, LaunchConfiguration(argument)))
        if argument.endswith("image"):
            compressed = [LaunchConfiguration(argument), "/compressed"]
            rules.append(SetRemap(f"{topic}/compressed", compressed))
    return rules


def generate_launch_description() -> LaunchDescription:
    policy = IncludeLaunchDescription(
        PathJoinSubstitution([PACKAGE, "launch", "policy.launch.py"]),
        launch_arguments={name: LaunchConfiguration(name) for name, _, _ in PASSED}.items(),
    )
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, default, description in PASSED
            ),
            *(
                DeclareLaunchArgument(
                    name, default_value=default, description=f"the robot's {topic}"
                )
                for name, topic, default in TOPICS
            ),
            GroupAction([*remappings(), policy]),
        ]
    )
