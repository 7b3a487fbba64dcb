"""Everything on the twin: sim and policy; if asked, ros2_control with mock arms and RViz."""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.substitutions import IfElseSubstitution, LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

PACKAGE = FindPackageShare("dfm_vla_ros")
ARGUMENTS = (
    ("namespace", "", "of every node and topic"),
    ("use_sim_time", "false", "true: the twin publishes /clock and all nodes follow it"),
    (
        "params_file",
        PathJoinSubstitution([PACKAGE, "config", "dual_arm.yaml"]),
        "parameters of all nodes; one file per robot",
    ),
    (
        "autostart",
        "true",
        "true: policy and executor configure and activate themselves; false: they wait for "
        "'ros2 lifecycle set'",
    ),
    ("log_level", "info", "debug, info, warn, error or fatal"),
    (
        "use_mock_hardware",
        "false",
        "true: ros2_control with mock arms follows the executor and publishes joint_states; "
        "the twin mirrors it for the cameras",
    ),
    ("use_rviz", "false", "true: show robot, cameras, frames and the monitor's plans in RViz"),
    ("use_monitor", "false", "true: plans, refinement and refusals as markers and a picture"),
    (
        "use_robot_state_publisher",
        "true",
        "false: no robot_description, no transforms of links; mock hardware and RViz need them",
    ),
)


def include(part: str, condition: IfCondition | None = None, **arguments: object) -> object:
    """Include a launch file of this package with these arguments."""
    return IncludeLaunchDescription(
        PathJoinSubstitution([PACKAGE, "launch", f"{part}.launch.py"]),
        launch_arguments=arguments.items(),
        condition=condition,
    )


def generate_launch_description() -> LaunchDescription:
    given = {name: LaunchConfiguration(name) for name, _, _ in ARGUMENTS}
    shared = {name: given[name] for name in ("namespace", "use_sim_time", "log_level")}
    mock = given["use_mock_hardware"]
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=default, description=description)
                for name, default, description in ARGUMENTS
            ),
            include(
                "sim",
                params_file=given["params_file"],
                use_robot_state_publisher=given["use_robot_state_publisher"],
                twin_joint_states=IfElseSubstitution(mock, "twin/joint_states", "joint_states"),
                **shared,
            ),
            include("control", IfCondition(mock), **shared),
            include(
                "policy",
                params_file=given["params_file"],
                autostart=given["autostart"],
                use_monitor=given["use_monitor"],
                **shared,
            ),
            include("rviz", IfCondition(given["use_rviz"]), **shared),
        ]
    )
