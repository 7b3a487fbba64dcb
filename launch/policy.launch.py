"""The policy and the executor, for a twin or a robot that is already there."""

from launch.actions import DeclareLaunchArgument, Shutdown
from launch.conditions import IfCondition
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
        "params_file",
        PathJoinSubstitution([PACKAGE, "config", "dual_arm.yaml"]),
        "parameters of both nodes; one file per robot",
    ),
    (
        "autostart",
        "true",
        "true: the nodes configure and activate themselves; false: they wait for "
        "'ros2 lifecycle set'",
    ),
    ("use_monitor", "false", "true: plans, refinement and refusals as markers and a picture"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
)


def generate_launch_description() -> LaunchDescription:
    overrides = {
        name: ParameterValue(LaunchConfiguration(name), value_type=bool)
        for name in ("use_sim_time", "autostart")
    }
    nodes = [
        Node(
            package="dfm_vla_ros",
            executable=name,
            name=name,
            namespace=LaunchConfiguration("namespace"),
            parameters=[LaunchConfiguration("params_file"), overrides],
            ros_arguments=[
                "--log-level",
                LaunchConfiguration("log_level"),
                "--enclave",
                f"/dfm_vla_ros/{name}",
            ],
            output="screen",
            # Braking and freeing torch may take longer than launch's 5 s on busy cores.
            sigterm_timeout="15",
            # SIGINT to the other: an executor that is left brakes and holds before it ends.
            on_exit=Shutdown(reason=f"{name} ended"),
        )
        for name in ("policy_node", "executor_node")
    ]
    # Looks on: its end ends nothing, and it is no lifecycle node.
    monitor = Node(
        package="dfm_vla_ros",
        executable="monitor_node",
        name="monitor_node",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            LaunchConfiguration("params_file"),
            {"use_sim_time": overrides["use_sim_time"]},
        ],
        ros_arguments=[
            "--log-level",
            LaunchConfiguration("log_level"),
            "--enclave",
            "/dfm_vla_ros/monitor_node",
        ],
        output="screen",
        condition=IfCondition(LaunchConfiguration("use_monitor")),
    )
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, default, description in ARGUMENTS
    ]
    return LaunchDescription([*declared, *nodes, monitor])
