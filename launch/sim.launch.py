"""The twin and robot_state_publisher."""

from launch.actions import DeclareLaunchArgument, Shutdown
from launch.conditions import IfCondition
from launch.substitutions import Command, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = FindPackageShare("dfm_vla_ros")
ARGUMENTS = (
    ("namespace", "", "of every node and topic"),
    ("use_sim_time", "false", "true: the twin publishes /clock and the others follow it"),
    (
        "params_file",
        PathJoinSubstitution([PACKAGE, "config", "dual_arm.yaml"]),
        "parameters of the twin",
    ),
    ("log_level", "info", "debug, info, warn, error or fatal"),
    ("twin_joint_states", "joint_states", "topic of the twin's joints"),
    ("use_robot_state_publisher", "true", "false: no robot_description, no transforms of links"),
)


def generate_launch_description() -> LaunchDescription:
    urdf = PathJoinSubstitution([PACKAGE, "urdf", "dual_arm.urdf.xacro"])
    description = ParameterValue(Command(["xacro ", urdf]), value_type=str)
    clock = ParameterValue(LaunchConfiguration("use_sim_time"), value_type=bool)
    log_level = ["--log-level", LaunchConfiguration("log_level")]
    shared = {"namespace": LaunchConfiguration("namespace"), "output": "screen"}
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
                remappings=[("joint_states", LaunchConfiguration("twin_joint_states"))],
                ros_arguments=[*log_level, "--enclave", "/dfm_vla_ros/sim_node"],
                on_exit=Shutdown(reason="sim_node ended"),
                **shared,
            ),
            Node(
                package="robot_state_publisher",
                executable="robot_state_publisher",
                parameters=[{"robot_description": description, "use_sim_time": clock}],
                # Two robots in two namespaces have links of the same names.
                remappings=[("/tf", "tf"), ("/tf_static", "tf_static")],
                ros_arguments=log_level,
                condition=IfCondition(LaunchConfiguration("use_robot_state_publisher")),
                **shared,
            ),
        ]
    )
