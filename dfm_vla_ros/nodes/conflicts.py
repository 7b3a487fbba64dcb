"""Who else publishes commands for these arms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rclpy.node import Node


def conflict(node: Node, topics: Sequence[str]) -> str:
    """Return who publishes on ``topics`` beside ``node``, or an empty text.

    ``node`` has one publisher on each. Subscribers, such as a recorder, are nobody's rivals.

    Args:
        node: asks the graph.
        topics: relative names.
    """
    own = (node.get_name(), node.get_namespace())
    for topic in topics:
        infos = node.get_publishers_info_by_topic(topic)
        names = Counter((info.node_name, info.node_namespace) for info in infos)
        names[own] -= 1
        rivals = sorted(key for key, count in names.items() if count > 0)
        if rivals:
            name, namespace = rivals[0]
            full = f"{namespace.rstrip('/')}/{name}"
            what = f"another {full}" if rivals[0] == own else full
            if "UNKNOWN" in name:  # DDS tells of a node later than of its publishers
                what = "a node whose name is not known yet"
            return (
                f"{what} publishes on {node.resolve_topic_name(topic)} too: end one of the two, "
                "only one may command an arm (one that was killed counts for up to 20 s)"
            )
    return ""
