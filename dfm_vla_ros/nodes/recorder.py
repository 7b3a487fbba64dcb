"""``recorder``: writes the graph's topics to a bag as they come over the wire, undecoded."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

from dfm_vla_ros.bags.storage import LATCHED, TOPICS
from dfm_vla_ros.bags.writing import BagWriter
from dfm_vla_ros.nodes.inputs import message_type
from dfm_vla_ros.nodes.lifecycle import Parameter, ParameterError, declare, run
from dfm_vla_ros.observing.cameras import TRANSPORTS
from dfm_vla_ros.observing.observer import JOINT_STATE
from dfm_vla_ros.observing.sources import ARM_TOPICS, COMMANDED, WHOLE
from dfm_vla_ros.robot.joints import CAMERAS

DEPTH = 200
"""Messages of a topic that may wait while the disk is slow."""
LATE = {**dict.fromkeys(ARM_TOPICS, JOINT_STATE), "/tf": "tf2_msgs/msg/TFMessage"}
LATE |= {"/tf_static": LATE["/tf"], "/diagnostics": "diagnostic_msgs/msg/DiagnosticArray"}
"""Recorded once somebody publishes them."""
ALWAYS_LATCHED = (*LATCHED, "/tf_static")
RATE_SAMPLES = 200


def usual_topics(transport: str) -> dict[str, str]:
    """Return what is recorded from the start: topic -> type; images as ``transport`` has them."""
    images = {f"{camera}_camera/{TRANSPORTS['raw'].suffix}": camera for camera in CAMERAS}
    chosen = TRANSPORTS[transport]
    return {
        f"{images[topic]}_camera/{chosen.suffix}" if topic in images else topic: (
            chosen.kind if topic in images else kind
        )
        for topic, kind in TOPICS.items()
    }


def needed(topics: Sequence[str]) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Return what ``dfm-vla convert`` cannot do without, of these topics.

    Returns:
        name -> ways to have it, each the topics that must speak.
    """
    cameras = {
        camera: tuple((topic,) for topic in topics if topic.startswith(f"{camera}_camera/image"))
        for camera in CAMERAS
    }
    joints = ((WHOLE,), tuple(ARM_TOPICS))
    return {
        **{f"{camera} camera": ways for camera, ways in cameras.items() if ways},
        **({"joint states": joints} if WHOLE in topics else {}),
        **({COMMANDED: ((COMMANDED,),)} if COMMANDED in topics else {}),
    }


def profile(latched: bool, publishers: Sequence[TopicEndpointInfo] = ()) -> QoSProfile:
    """Return how to listen, so that every publisher there is gets through."""
    offered = [info.qos_profile for info in publishers]
    reliable = all(q.reliability != ReliabilityPolicy.BEST_EFFORT for q in offered)
    durable = all(q.durability == DurabilityPolicy.TRANSIENT_LOCAL for q in offered)
    return QoSProfile(
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL
        if latched and durable
        else DurabilityPolicy.VOLATILE,
        history=HistoryPolicy.KEEP_LAST,
        depth=DEPTH,
    )


class TopicRates:
    """How often each topic speaks, and which are silent; steady time."""

    def __init__(self) -> None:
        self._came: dict[str, deque[float]] = {}
        self._began_s = time.monotonic()

    def note(self, topic: str) -> None:
        """A message came."""
        self._came.setdefault(topic, deque(maxlen=RATE_SAMPLES)).append(time.monotonic())

    def heard(self, topic: str) -> bool:
        """Return whether ``topic`` ever spoke."""
        return topic in self._came

    def silent_s(self, topic: str) -> float:
        """Return for how long nothing came [s]."""
        came = self._came.get(topic)
        return time.monotonic() - (came[-1] if came else self._began_s)

    def rate_hz(self, topic: str) -> float:
        """Return the rate over the last messages; it falls once they stop."""
        came = self._came.get(topic)
        if not came or len(came) < 2:
            return 0.0
        return (len(came) - 1) / max(time.monotonic() - came[0], came[-1] - came[0])


def missing(
    wanted: Mapping[str, tuple[tuple[str, ...], ...]], speaks: Callable[[str], bool]
) -> list[str]:
    """Return what is wanted and can be had in no way, because some topic of each is silent."""
    return [
        f"{name} ({' or '.join(' and '.join(way) for way in ways)})"
        for name, ways in wanted.items()
        if not any(all(speaks(topic) for topic in way) for way in ways)
    ]


PARAMETERS = (
    Parameter("folder", "", "of the bag; must not exist"),
    Parameter("topics", [""], "instead of what convert needs and the usual ones"),
    Parameter(
        "image_transport",
        "raw",
        "raw, or compressed: record image_raw/compressed",
        choices=tuple(TRANSPORTS),
    ),
    Parameter("duration", 0.0, "[s] then it ends; 0: when it is interrupted", (0.0, 86400.0)),
    Parameter("report", False, "print rates, size and what is silent"),
)
LOOK_S, TICK_S = 0.5, 0.1
SILENT_S = 2.0
"""Silence of something that convert needs is reported from here on [s]."""
CLEAR = "\r\x1b[K"
"""Clears the line of a terminal."""
LINES_S = 10.0
"""Between two lines where there is no terminal [s]."""


class Recorder(Node):
    """Subscribes without decoding; follows how publishers offer their topics."""

    def __init__(self) -> None:
        """Open the bag and subscribe."""
        super().__init__("recorder")
        self._values = values = declare(self, PARAMETERS)
        self.folder = Path(values["folder"])
        if not self.folder.name or self.folder.exists():
            raise ParameterError(
                f"folder is {str(self.folder)!r}; name one that does not exist yet"
            )
        usual = usual_topics(values["image_transport"])
        named = [topic for topic in values["topics"] if topic]
        known = {**usual, **LATE}
        start = {t: known[t] for t in named if t in known} if named else usual
        self._waiting = {t: "" for t in named if t not in known} if named else dict(LATE)
        self.needed = needed(list(start))
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.bag = BagWriter(self.folder, {}, ())
        self.rates = TopicRates()
        self._subscriptions_of: dict[str, tuple[bool, bool, Subscription]] = {}
        self._kinds: dict[str, str] = {}
        self._early: list[tuple[str, bytes]] = []
        self._began_s = self._printed_s = time.monotonic()
        self._warned: list[str] = []
        for topic, kind in start.items():
            self._record(topic, kind)
        self.bag.flush()
        # Not the node's clock: a signal is noticed when a callback is due, even without /clock.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(TICK_S, self._tick, clock=steady)
        self.create_timer(LOOK_S, self._look, clock=steady)

    def _record(self, topic: str, kind: str) -> None:
        """Add a topic to the bag and listen to it."""
        try:
            message_type(kind)
        except (ImportError, AttributeError) as error:
            self._say(f"{topic} is not recorded: there is no {kind}: {error}")
            return
        self.bag.add(self.resolve_topic_name(topic), kind, latched=topic in ALWAYS_LATCHED)
        self._kinds[topic] = kind
        self._listen(topic)

    def _listen(self, topic: str) -> None:
        """Subscribe, or subscribe anew if publishers offer less than is asked for."""
        publishers = self.get_publishers_info_by_topic(self.resolve_topic_name(topic))
        before = self._subscriptions_of.get(topic)
        wanted = profile(topic in ALWAYS_LATCHED, publishers)
        asked = (wanted.reliability, wanted.durability)
        if before is not None:
            if not publishers or before[:2] == asked:
                return
            self.destroy_subscription(before[2])
        subscription = self.create_subscription(
            message_type(self._kinds[topic]), topic, self._writer(topic), wanted, raw=True
        )
        self._subscriptions_of[topic] = (*asked, subscription)

    def _writer(self, topic: str) -> Callable[[bytes], None]:
        name = self.resolve_topic_name(topic)

        def write(serialized: bytes) -> None:
            self.rates.note(topic)
            now_ns = self.get_clock().now().nanoseconds
            if now_ns == 0:  # simulated time has not begun
                self._early.append((name, serialized))
                return
            for early in self._early:
                self.bag.write(*early, now_ns)
            self._early.clear()
            self.bag.write(name, serialized, now_ns)

        return write

    def _look(self) -> None:
        """Take up topics that are published by now; follow how they are."""
        if self._waiting:
            there = {name: kinds[0] for name, kinds in self.get_topic_names_and_types()}
            for topic, kind in list(self._waiting.items()):
                name = self.resolve_topic_name(topic)
                if name in there and self.count_publishers(name):
                    del self._waiting[topic]
                    self._record(topic, kind or there[name])
        for topic in self._kinds:
            self._listen(topic)

    def _tick(self) -> None:
        """Flush, report, end when it is time."""
        now_s = time.monotonic()
        self.bag.flush_if_due()
        if self._values["report"]:
            self._report(now_s)
        if 0 < self._values["duration"] <= now_s - self._began_s:
            signal.raise_signal(signal.SIGINT)

    def _report(self, now_s: float) -> None:
        silent = missing(self.needed, lambda topic: self.rates.silent_s(topic) <= SILENT_S)
        for name in silent:
            if name not in self._warned:
                self._say(f"silent: {name}")
        for name in self._warned:
            if name not in silent:
                self._say(f"heard: {name}")
        self._warned = silent
        terminal = sys.stdout.isatty()
        if now_s - self._printed_s < (1.0 if terminal else LINES_S):
            return
        self._printed_s = now_s
        line = self._line(now_s)
        if terminal:
            line = line[: shutil.get_terminal_size().columns - 1]
        print(f"{CLEAR if terminal else ''}{line}", end="" if terminal else "\n", flush=True)

    def _line(self, now_s: float) -> str:
        heard = [topic for topic in self._kinds if self.rates.rate_hz(topic) >= 1.0]
        rates = "  ".join(f"{topic} {self.rates.rate_hz(topic):.0f} Hz" for topic in heard)
        return f"{now_s - self._began_s:7.1f} s  {self.bag.size_bytes / 1e6:8.1f} MB  {rates}"

    def _say(self, text: str) -> None:
        print(f"{CLEAR if sys.stdout.isatty() else ''}{text}", flush=True)

    def unheard(self) -> list[str]:
        """Return what convert needs and never came."""
        return missing(self.needed, self.rates.heard)

    def close(self) -> None:
        """Finish the bag."""
        self.bag.close()


def main() -> int:
    """Record until SIGINT or SIGTERM."""
    return run(Recorder)


if __name__ == "__main__":
    sys.exit(main())
