"""What a bag says of every chunk: what it was made from, what came out, what became of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.bags.observations import Playback, Step
from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.storage import CHUNKS, POLICY_STATUS, TASK_STATUS
from dfm_vla_ros.bags.topics import TopicChoice, Topics, find_topics
from dfm_vla_ros.errors import BagError
from dfm_vla_ros.observing.cameras import TRANSPORTS
from dfm_vla_ros.observing.sources import (
    ARM_TOPICS,
    COMMANDED,
    MEASURED,
    Bounds,
    ObserverSettings,
    default_bounds,
    nanoseconds,
    ordered,
)
from dfm_vla_ros.robot.joints import CAMERAS, JOINT_NAMES

Array = NDArray[np.float64]

PERIOD_NS = 20_000_000
"""Joint states that come faster are thinned to this."""
GAP_FACTOR = 3.0
"""Silence of so many usual periods is a gap."""
LEAST_GAP_S = 0.25
LOOK_S = 0.4
"""Between two looks at a bag without chunks, as the shipped policy looks."""
EXECUTOR_STATUS = "executor_node/status"
WANTED = (
    CHUNKS,
    TASK_STATUS,
    EXECUTOR_STATUS,
    POLICY_STATUS,
    MEASURED,
    COMMANDED,
    *ARM_TOPICS,
    *(f"{camera}_camera/{way.suffix}" for camera in CAMERAS for way in TRANSPORTS.values()),
)
"""Topics that a replay reads."""


class JointSeries:
    """Joint states in the order of ``robot.joints``, thinned."""

    def __init__(self) -> None:
        """Hold none."""
        self._stamps: list[int] = []
        self._rows: list[Array] = []
        self.unusable = 0
        """Messages that lack a joint or hold what is not finite."""

    def take(self, message: Any) -> None:
        """Add a JointState."""
        stamp_ns = nanoseconds(message.header.stamp)
        if self._stamps and 0 <= stamp_ns - self._stamps[-1] < PERIOD_NS:
            return
        row = ordered(list(message.name), message.position, JOINT_NAMES)
        if row is None or not np.isfinite(row).all():
            self.unusable += 1
            return
        self._stamps.append(stamp_ns)
        self._rows.append(row)

    def at(self, stamps_ns: NDArray[np.int64], within_ns: int = 200_000_000) -> Array:
        """Return (T, D) at the stamps, linear between messages.

        NaN where the nearest message is further than ``within_ns``.
        """
        found = np.full((len(stamps_ns), len(JOINT_NAMES)), np.nan)
        if not self._rows:
            return found
        order = np.argsort(self._stamps, kind="stable")
        known = np.array(self._stamps)[order]
        rows = np.array(self._rows)[order]
        origin = known[0]
        before = np.clip(np.searchsorted(known, stamps_ns, side="right") - 1, 0, len(known) - 1)
        after = np.minimum(before + 1, len(known) - 1)
        nearest = np.minimum(abs(stamps_ns - known[before]), abs(known[after] - stamps_ns))
        times = (stamps_ns - origin) * 1e-9
        inside = nearest <= within_ns
        for joint, column in enumerate(rows.T):
            values = np.interp(times, (known - origin) * 1e-9, column)
            found[inside, joint] = values[inside]
        return found


@dataclass
class Rate:
    """How the messages of one topic came; gaps from stamp to stamp [ns]."""

    messages: int
    rate_hz: float
    longest_gap_s: float
    gaps: list[tuple[int, int]]
    backward: int


class TopicRates:
    """Stamps of every topic."""

    def __init__(self) -> None:
        """Know no topic."""
        self._stamps: dict[str, list[int]] = {}

    def take(self, topic: str, stamp_ns: int) -> None:
        """Note a message."""
        self._stamps.setdefault(topic, []).append(stamp_ns)

    @property
    def span_ns(self) -> tuple[int, int]:
        """First and last stamp of all; (0, 0) without messages."""
        every = [stamp for stamps in self._stamps.values() for stamp in stamps]
        return (min(every), max(every)) if every else (0, 0)

    def topics(self) -> dict[str, Rate]:
        """Return topic -> its rate, by name."""
        return {topic: _rate(np.array(stamps)) for topic, stamps in sorted(self._stamps.items())}


def _rate(stamps: NDArray[np.int64]) -> Rate:
    """Return rate and gaps; the usual period is the median."""
    steps = np.diff(stamps)
    forward = steps[steps > 0]
    if not len(forward):
        return Rate(len(stamps), 0.0, 0.0, [], int((steps < 0).sum()))
    period_s = float(np.median(forward)) * 1e-9
    limit_ns = max(GAP_FACTOR * period_s, LEAST_GAP_S) * 1e9
    gaps = [(int(stamps[i]), int(stamps[i + 1])) for i in np.flatnonzero(steps > limit_ns)]
    longest_s = float(forward.max()) * 1e-9
    return Rate(len(stamps), 1 / period_s, longest_s, gaps, int((steps < 0).sum()))


@dataclass(kw_only=True)
class ChunkRecord:
    """One ActionChunk of a bag.

    Attributes:
        number: its place among the bag's chunks.
        chunk_id, goal_id: which chunk of which goal.
        stamp_ns: of the observation.
        published_ns: of the message.
        instruction: in force.
        image_stamps: camera -> stamp of the image that the policy saw [ns]; empty: not recorded.
        measured: (D,) joints that the policy saw; empty: not recorded.
        reference: (D,) commanded positions at the observation.
        seed: of the refinement.
        decoding: how it was decoded; empty: not recorded.
        tokens: (N,).
        committed_steps: first steps that were held.
        warm_start: t0 of a warm start, 0 without.
        guidance: (N,) what a warm start began with.
        tokenizer_hash, checkpoint_hash: of what made it.
        inference_s: time that the call took [s].
        control_period_s: between steps [s].
        due: when its steps were due by the executor's word: step zero [ns], period [s].
        refused: why the executor refused it; empty: it did not, as far as is known.
    """

    number: int
    chunk_id: int
    stamp_ns: int
    published_ns: int
    instruction: str
    image_stamps: dict[str, int]
    measured: Array
    reference: Array
    seed: int
    goal_id: str = ""
    decoding: str = ""
    tokens: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    committed_steps: int = 0
    warm_start: float = 0.0
    guidance: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    tokenizer_hash: str = ""
    checkpoint_hash: str = ""
    inference_s: float = 0.0
    control_period_s: float = 0.1
    due: tuple[int, float] | None = None
    refused: str = ""

    @property
    def repeatable(self) -> bool:
        """Whether all that made it is in the message: since version 0.2 of the messages."""
        return bool(self.decoding) and len(self.measured) > 0


@dataclass
class Recording:
    """What a bag holds beside its images.

    Attributes:
        chunks: without holds, in order of publication.
        topics: relative name -> name in the bag.
    """

    chunks: list[ChunkRecord] = field(default_factory=list)
    joints: dict[str, JointSeries] = field(
        default_factory=lambda: {name: JointSeries() for name in (MEASURED, COMMANDED)}
    )
    rates: TopicRates = field(default_factory=TopicRates)
    topics: dict[str, str] = field(default_factory=dict)


def relative_topics(bag: Bag, wanted: Collection[str], namespace: str = "") -> dict[str, str]:
    """Return relative name -> name in the bag, of those of ``wanted`` that are there.

    Without ``namespace`` the one that has most of them is taken.
    """
    ends = {name: [t for t in bag.topics if t.endswith(f"/{name}")] for name in wanted}
    spaces = [t.removesuffix(name) for name, found in ends.items() for t in found]
    if not spaces:
        return {}
    chosen = f"/{namespace.strip('/')}/".replace("//", "/")
    if not namespace:
        chosen = max(sorted(set(spaces), key=len), key=spaces.count)
    return {name: chosen + name for name in wanted if chosen + name in bag.topics}


def read_recording(bag: Bag, topics: dict[str, str]) -> Recording:
    """Read everything but the pixels; ``topics``: relative name -> name in the bag.

    Raises:
        BagError: there is nothing that a replay could use.
    """
    if not topics:
        next(bag.messages(), None)  # finds what is wrong with it
        held = ", ".join(sorted(bag.topics)) or "nothing"
        faults = "".join(f"; {fault.text()}" for fault in bag.faults)
        raise BagError(f"{bag.path} holds none of this package's topics; it holds {held}{faults}")
    recording = Recording(topics=topics)
    names = {absolute: relative for relative, absolute in topics.items()}
    refusals = _Refusals()
    for message in bag.messages(set(names)):
        relative = names[message.topic]
        stamp_ns = _stamp_ns(message.value, message.received_ns)
        if stamp_ns > 0:  # 0: said before simulated time began
            recording.rates.take(relative, stamp_ns)
        if relative == CHUNKS:
            take_chunk(recording, message.value)
        elif relative in recording.joints:
            recording.joints[relative].take(message.value)
        elif relative == EXECUTOR_STATUS:
            refusals.take(recording.chunks, message.value)
    return recording


def _stamp_ns(message: Any, received_ns: int) -> int:
    header = getattr(message, "header", None)
    return received_ns if header is None else nanoseconds(header.stamp)


def take_chunk(recording: Recording, message: Any) -> None:
    """Add an ActionChunk, rclpy's or a bag's, unless it tells the arms to hold."""
    if message.hold:
        return
    stamps = zip(message.cameras, message.image_stamps, strict=False)
    recording.chunks.append(
        ChunkRecord(
            number=len(recording.chunks),
            chunk_id=int(message.chunk_id),
            stamp_ns=nanoseconds(message.observation_stamp),
            published_ns=nanoseconds(message.header.stamp),
            instruction=message.instruction,
            image_stamps={camera: nanoseconds(stamp) for camera, stamp in stamps},
            measured=np.array(message.measured_positions, dtype=np.float64),
            reference=np.array(message.reference_positions, dtype=np.float64),
            seed=int(message.seed),
            goal_id=message.goal_id,
            decoding=message.decoding,
            tokens=np.array(message.tokens, dtype=np.int64),
            committed_steps=int(message.committed_steps),
            warm_start=float(message.warm_start),
            guidance=np.array(message.guidance_tokens, dtype=np.int64),
            tokenizer_hash=message.tokenizer_hash,
            checkpoint_hash=message.checkpoint_hash,
            inference_s=float(message.inference_time),
            control_period_s=float(message.control_period),
        )
    )


class _Refusals:
    """Tells from the executor's statuses what became of chunks."""

    def __init__(self) -> None:
        self._refused: int | None = None

    def take(self, chunks: list[ChunkRecord], status: Any) -> None:
        """Learn when steps are due, and whose refusal is counted."""
        followed = (status.goal_id, int(status.chunk_id))
        for chunk in reversed(chunks[-8:]):
            if (chunk.goal_id, chunk.chunk_id) == followed and status.step_period > 0:
                chunk.due = nanoseconds(status.step_zero), float(status.step_period)
        before, self._refused = self._refused, int(status.refused)
        if before is None or status.refused <= before or not status.message:
            return
        at_ns = nanoseconds(status.header.stamp)
        newest = [chunk for chunk in chunks[-8:] if chunk.published_ns <= at_ns]
        if newest:
            newest[-1].refused = status.message


def look(bag: Bag, recording: Recording, instruction: str) -> list[ChunkRecord]:
    """Return a record for every moment to look at: of the recorded chunks, or every LOOK_S.

    What the policy sees then is put together by the time in the headers, through the live node's
    Observer. That is close to what a live policy saw, not equal to it: the order in which messages
    reached it is not known. Without commanded positions the measured ones stand in.

    Raises:
        BagError: cameras or joints are missing.
    """
    relative, absolute = next(iter(recording.topics.items()))
    chosen = COMMANDED if COMMANDED in recording.topics else MEASURED
    # A replay shows what was there, however old or skewed.
    bounds = {source: Bounds(60.0, np.inf) for source in default_bounds()}
    settings = ObserverSettings(bounds=bounds, tracking_rad=np.inf, frozen_timeout_s=0.0)
    namespace = absolute.removesuffix(relative).strip("/")
    topics = find_topics(bag, TopicChoice(namespace=namespace, action_from=chosen), settings)
    return _Looker(bag, topics, recording, instruction).records()


class _Looker:
    def __init__(self, bag: Bag, topics: Topics, recording: Recording, instruction: str) -> None:
        self._playback = Playback(bag, topics)
        self._chunks = {chunk.stamp_ns: chunk for chunk in recording.chunks}
        self._without_command = not topics.settings.commands
        self._instruction = instruction
        self._next_ns = 0
        self._stamps: dict[str, int] = {}

    def records(self) -> list[ChunkRecord]:
        made: list[ChunkRecord] = []
        for step in self._playback:
            camera = step.name.partition("_camera/")[0]
            if camera in CAMERAS and "_camera/" in step.name:
                self._stamps[camera] = step.stamp_ns
            if step.looks and self._is_time(step) and self._is_complete():
                made.append(self._record(step, len(made)))
        return made

    def _is_time(self, step: Step) -> bool:
        if self._chunks:
            return step.stamp_ns in self._chunks
        return step.stamp_ns >= self._next_ns or step.stamp_ns < self._next_ns - 10**10

    def _is_complete(self) -> bool:
        sources = self._playback.observer.sources
        needed = [name for name in sources if name != COMMANDED or not self._without_command]
        return all(sources[name].value is not None for name in needed)

    def _record(self, step: Step, number: int) -> ChunkRecord:
        self._next_ns = step.stamp_ns + round(LOOK_S * 1e9)
        observer = self._playback.observer
        told = "" if observer.task is None else observer.task.instruction
        seen = observer.observation(self._instruction or told)
        stamps = {camera: self._stamps[camera] for camera in CAMERAS}
        chunk = self._chunks.get(step.stamp_ns)
        if chunk is not None:
            return replace(chunk, number=number, image_stamps=stamps, measured=seen.positions)
        return ChunkRecord(
            number=number,
            chunk_id=number + 1,
            stamp_ns=step.stamp_ns,
            published_ns=step.stamp_ns,
            instruction=seen.instruction,
            image_stamps=stamps,
            measured=seen.positions,
            reference=seen.positions if self._without_command else seen.commanded,
            seed=number,
        )
