"""ros2_control: the controllers of both arms and their joint states.

The hardware is the one that topic robot_description names: mock components as shipped.
"""

from launch.actions import DeclareLaunchArgument, Shutdown
from launch.conditions import IfCondition, UnlessCondition
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
        "controllers_file",
        PathJoinSubstitution([PACKAGE, "config", "ros2_controllers.yaml"]),
        "parameters of the controller manager and the controllers",
    ),
    (
        "joined",
        "false",
        "true: one controller for both arms; start the executor with output joined_trajectory",
    ),
    ("log_level", "info", "debug, info, warn, error or fatal"),
)
SEPARATE = ("left_arm_controller", "right_arm_controller")
JOINED = ("both_arms_controller",)


def spawner(controllers: tuple[str, ...], condition: IfCondition | None = None) -> Node:
    """Load and activate controllers, all of them or none; then end."""
    return Node(
        package="controller_manager",
        executable="spawner",
        namespace=LaunchConfiguration("namespace"),
        arguments=[
            *controllers,
            "--activate-as-group",
            "--param-file",
            LaunchConfiguration("controllers_file"),
        ],
        condition=condition,
        output="screen",
    )


def generate_launch_description() -> LaunchDescription:
    joined = LaunchConfiguration("joined")
    clock = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, default, description in ARGUMENTS
            ),
            Node(
                package="controller_manager",
                executable="ros2_control_node",
                namespace=LaunchConfiguration("namespace"),
                parameters=[LaunchConfiguration("controllers_file"), {"use_sim_time": clock}],
                ros_arguments=["--log-level", LaunchConfiguration("log_level")],
                output="screen",
                on_exit=Shutdown(reason="the controller manager ended"),
            ),
            spawner(("joint_state_broadcaster",)),
            spawner(SEPARATE, UnlessCondition(joined)),
            spawner(JOINED, IfCondition(joined)),
        ]
    )
