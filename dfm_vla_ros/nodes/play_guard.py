"""Who would move a robot if a recording were played here."""

from __future__ import annotations

from collections.abc import Collection

from rclpy.node import Node

from dfm_vla_ros.robot.joints import ARMS

COMMANDS = (
    *(f"{arm}_arm_controller/joint_trajectory" for arm in ARMS),
    "both_arms_controller/joint_trajectory",
    *(f"{arm}_arm/joint_command" for arm in ARMS),
)
"""Topics that a robot follows."""
CHUNKS = "action_chunk"
"""What an executor makes commands of."""


def danger(node: Node, played: Collection[str]) -> str:
    """Return who must not be here while a recording is played, or an empty text.

    That is whoever listens to commands or chunks (a controller, a driver, a twin, an executor),
    whoever publishes commands, and whoever publishes what is played (a robot).

    Args:
        node: asks the graph; its own publishers do not count.
        played: topics that it plays, relative or absolute.
    """
    own = (node.get_name(), node.get_namespace())
    for topic in (*COMMANDS, CHUNKS):
        name = node.resolve_topic_name(topic)
        for found in node.get_subscriptions_info_by_topic(name):
            who = f"{found.node_namespace.rstrip('/')}/{found.node_name}"
            return f"{who} listens to {name}: a robot could move; end it, or use another domain"
    for topic in (*COMMANDS, CHUNKS, *played):
        name = node.resolve_topic_name(topic)
        for found in node.get_publishers_info_by_topic(name):
            if (found.node_name, found.node_namespace) == own:
                continue
            who = f"{found.node_namespace.rstrip('/')}/{found.node_name}"
            return f"{who} publishes {name}: a robot is running; end it, or use another domain"
    return ""
