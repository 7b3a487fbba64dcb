"""``play_node``: a recording as if it happened now, with /clock, and no command in it.

What sensors, task and executor said is published as it was; what would move a robot and what the
policy itself says is left out. The recorded goals are sent to the policy that runs here. It
refuses to start, and ends, where anything is that could move a robot.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.publisher import Publisher
from rosbags.typesys.store import Typestore
from rosgraph_msgs.msg import Clock as ClockMessage
from std_msgs.msg import String

from dfm_vla_ros.bags.reading import Bag, Message
from dfm_vla_ros.bags.records import EXECUTOR_STATUS, relative_topics
from dfm_vla_ros.bags.storage import POLICY_STATUS, TASK_STATUS, typestore
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.msg import PolicyStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import from_nanoseconds
from dfm_vla_ros.nodes.inputs import message_type
from dfm_vla_ros.nodes.lifecycle import Parameter, ParameterError, declare, run
from dfm_vla_ros.observing.cameras import TRANSPORTS
from dfm_vla_ros.observing.sources import ARM_TOPICS, COMMANDED, MEASURED
from dfm_vla_ros.robot.joints import ARMS, CAMERAS

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
    whoever publishes commands, and whoever else publishes what ``node`` plays (a robot).
    """
    own = _full_name(node.get_namespace(), node.get_name())
    for topic in (*COMMANDS, CHUNKS):
        name = node.resolve_topic_name(topic)
        for found in node.get_subscriptions_info_by_topic(name):
            who = _full_name(found.node_namespace, found.node_name)
            return f"{who} listens to {name}: a robot could move; end it, or use another domain"
    for topic in (*COMMANDS, CHUNKS, *played):
        name = node.resolve_topic_name(topic)
        for found in node.get_publishers_info_by_topic(name):
            who = _full_name(found.node_namespace, found.node_name)
            if who != own:
                return f"{who} publishes {name}: a robot is running; end it, or use another domain"
    return ""


def _full_name(namespace: str, name: str) -> str:
    return f"{namespace.rstrip('/')}/{name}"


PARAMETERS = (
    Parameter("bag", "", "folder of a rosbag2 recording, or its .mcap file"),
    Parameter("rate", 1.0, "recorded per real second", (0.05, 50.0)),
    Parameter("bag_namespace", "", "of the robot's topics in the bag; empty: found"),
    Parameter("wait_for_policy", True, "true: begin once a policy node is ready"),
    Parameter("patience", 120.0, "[s] for that", (1.0, 3600.0)),
)
LATCHED = (TASK_STATUS, EXECUTOR_STATUS)
PLAYED = (
    MEASURED,
    COMMANDED,
    *ARM_TOPICS,
    *LATCHED,
    *(f"{camera}_camera/{way.suffix}" for camera in CAMERAS for way in TRANSPORTS.values()),
    *(f"{camera}_camera/camera_info" for camera in CAMERAS),
)
"""What is played, where the bag has it; nothing else is."""
DISCOVERY_S = 2.0
"""From the start until whoever else is there has been discovered."""
LOOK_S, WAIT_S = 0.5, 0.1
TICK_S = 0.005
LEAST_CLOCK_NS = 10_000_000
BUSY = (PolicyStatus.RUNNING, PolicyStatus.WAITING)


class PlayRefused(DfmVlaError):
    """Playing could move a robot."""


class NoPolicy(DfmVlaError):
    """No policy node became ready in time."""


class PlayNode(Node):
    """Publishes what is due, and looks around."""

    def __init__(self) -> None:
        """Open the bag; publish nothing yet."""
        super().__init__("play_node")
        self._values = values = declare(self, PARAMETERS)
        if not values["bag"]:
            raise ParameterError("parameter bag is empty: name the folder of a recording")
        self._bag = Bag(Path(values["bag"]))
        wanted = (*PLAYED, POLICY_STATUS)
        found = relative_topics(self._bag, wanted, values["bag_namespace"])
        self._names = {absolute: relative for relative, absolute in found.items()}
        self._played = [name for name in PLAYED if name in found]
        if not self._played:
            held = ", ".join(sorted(self._bag.topics)) or "nothing"
            raise PlayRefused(f"{values['bag']} has nothing to play; it holds {held}")
        self._store: Typestore = typestore()
        self._messages: Iterator[Message] = self._bag.messages(set(self._names))
        self._next: Message | None = None
        self._topics: dict[str, Publisher] = {}
        self._ready = not values["wait_for_policy"]
        self._goal = ""
        self._began_s = self._looked_s = time.monotonic()
        self._zero: tuple[float, int] | None = None
        self._told_ns, self._again_s = 0, 0.0
        self.create_subscription(PolicyStatus, POLICY_STATUS, self._take_status, qos.STATUS)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(TICK_S, self._tick, clock=steady)

    def _take_status(self, status: PolicyStatus) -> None:
        self._ready = self._ready or status.state in (PolicyStatus.READY, *BUSY)

    def _tick(self) -> None:
        """Wait, look around, or publish what is due."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._look()
        if self._zero is not None:
            self._play(now_s)
        elif now_s - self._began_s >= DISCOVERY_S and now_s >= self._again_s:
            self._again_s = now_s + WAIT_S
            self._begin(now_s)

    def _look(self) -> None:
        """Refuse to be where a robot could move.

        Raises:
            PlayRefused: it could.
        """
        found = danger(self, self._played)
        if found:
            raise PlayRefused(f"not played: {found}")

    def _begin(self, now_s: float) -> None:
        """Let time stand at the beginning until the policy is ready, then let it run."""
        self._look()
        if not self._topics:
            self._make_topics()
        if self._next is None:
            raise PlayRefused(f"{self._values['bag']} holds no message of what is played")
        self._clock.publish(ClockMessage(clock=from_nanoseconds(self._next.received_ns)))
        waited_s = now_s - self._began_s
        if self._ready:
            # A moment, so that subscribers have found the new publishers.
            self._zero = (now_s + 1.0, self._next.received_ns)
        elif waited_s > self._values["patience"]:
            raise NoPolicy(
                f"no policy node became ready within {waited_s:.0f} s; see its log, or set "
                "wait_for_policy to false"
            )

    def _make_topics(self) -> None:
        for name in self._played:
            profile = qos.STATUS if name in LATCHED else qos.SENSOR_SOURCE
            kind = message_type(self._kind(name))
            self._topics[name] = self.create_publisher(kind, name, profile)
        self._clock = self.create_publisher(ClockMessage, "/clock", qos.SENSOR_SOURCE)
        self._instructions = self.create_publisher(String, "instruction", qos.COMMAND)
        self._next = next(self._messages, None)

    def _kind(self, name: str) -> str:
        (absolute,) = (each for each, relative in self._names.items() if relative == name)
        return self._bag.topics[absolute]

    def _play(self, now_s: float) -> None:
        """Publish all that is due by now."""
        began_s, first_ns = self._zero
        due_ns = first_ns + round((now_s - began_s) * self._values["rate"] * 1e9)
        while self._next is not None and self._next.received_ns <= due_ns:
            self._tell_time(self._next.received_ns)
            self._send(self._next)
            self._next = next(self._messages, None)
        if self._next is None:
            self.get_logger().info("the recording is over")
            signal.raise_signal(signal.SIGINT)
        elif due_ns >= first_ns and due_ns - self._told_ns >= LEAST_CLOCK_NS:
            self._tell_time(due_ns)

    def _tell_time(self, at_ns: int) -> None:
        if at_ns <= self._told_ns:
            return
        self._told_ns = at_ns
        self._clock.publish(ClockMessage(clock=from_nanoseconds(at_ns)))

    def _send(self, message: Message) -> None:
        name = self._names[message.topic]
        if name == POLICY_STATUS:
            self._repeat_goal(message.value)
            return
        data = self._store.serialize_cdr(message.value, message.kind)
        self._topics[name].publish(bytes(data))

    def _repeat_goal(self, status: Any) -> None:
        """Send the sentence that the recorded policy was given, once a goal."""
        goal = status.goal_id if status.state in BUSY else ""
        if goal and goal != self._goal:
            self._instructions.publish(String(data=status.instruction))
        self._goal = goal

    def close(self) -> None:
        """Say what was wrong with the bag."""
        for fault in self._bag.faults:
            self.get_logger().warning(fault.text(self._bag.start_ns))


def main() -> int:
    """Play until the end of the recording, SIGINT or SIGTERM."""
    return run(PlayNode)


if __name__ == "__main__":
    sys.exit(main())
