"""A recording through the policy and the monitor, on simulated time; no command leaves.

Refuses to start where a controller, a driver, a twin or an executor listens, or a robot publishes.
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, Shutdown
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = FindPackageShare("dfm_vla_ros")
ARGUMENTS = (
    ("bag", "", "folder of a rosbag2 recording, or its .mcap file"),
    ("rate", "1.0", "recorded per real second"),
    ("namespace", "", "of every node and topic"),
    ("use_sim_time", "true", "true: follow the recording's time on /clock"),
    (
        "params_file",
        PathJoinSubstitution([PACKAGE, "config", "dual_arm.yaml"]),
        "parameters of policy and monitor; one file per robot",
    ),
    ("use_monitor", "true", "false: the policy alone"),
    ("use_rviz", "false", "true: show robot, plans and cameras in RViz"),
    ("log_level", "info", "debug, info, warn, error or fatal"),
)
# Chunks of a replay have a name of their own: no executor anywhere hears them.
AWAY = [("action_chunk", "replay/action_chunk")]


def node(executable: str, **options: object) -> Node:
    """Return a node of this package; when it ends, all end."""
    clock = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    parameters = [*options.pop("parameters", []), {"use_sim_time": clock}]
    return Node(
        package="dfm_vla_ros",
        executable=executable,
        name=executable,
        namespace=LaunchConfiguration("namespace"),
        parameters=parameters,
        ros_arguments=["--log-level", LaunchConfiguration("log_level")],
        output="screen",
        sigterm_timeout="15",
        on_exit=Shutdown(reason=f"{executable} ended"),
        **options,
    )


def generate_launch_description() -> LaunchDescription:
    bag = {
        "bag": ParameterValue(LaunchConfiguration("bag"), value_type=str),
        "rate": ParameterValue(LaunchConfiguration("rate"), value_type=float),
    }
    file = LaunchConfiguration("params_file")
    shown = ParameterValue(LaunchConfiguration("use_rviz"), value_type=bool)
    rviz = IncludeLaunchDescription(
        PathJoinSubstitution([PACKAGE, "launch", "rviz.launch.py"]),
        launch_arguments={
            name: LaunchConfiguration(name) for name in ("namespace", "use_sim_time", "log_level")
        }.items(),
        condition=IfCondition(LaunchConfiguration("use_rviz")),
    )
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, default, description in ARGUMENTS
            ),
            node("play_node", parameters=[bag]),
            node("policy_node", parameters=[file], remappings=AWAY),
            node(
                "monitor_node",
                parameters=[file, {"publish_tf": shown}],
                remappings=AWAY,
                condition=IfCondition(LaunchConfiguration("use_monitor")),
            ),
            rviz,
        ]
    )
