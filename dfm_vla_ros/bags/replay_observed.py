"""Looks for a bag whose chunks do not say what they were made from, or that holds no chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.replay_records import ChunkRecord, Recording
from dfm_vla_ros.observing.observer import Observer
from dfm_vla_ros.observing.settings import (
    COMMANDED,
    MEASURED,
    TRIGGER,
    ObserverSettings,
    default_bounds,
)
from dfm_vla_ros.observing.sources import Bounds, Moment
from dfm_vla_ros.observing.stamps import TimeBase
from dfm_vla_ros.robot.joints import CAMERAS

LOOK_S = 0.4
"""Between two looks at a bag without chunks, as the shipped policy looks."""
COMPRESSED = f"{TRIGGER}_camera/image_raw/compressed"


def look(
    bag: Bag, recording: Recording, instruction: str, settings: ObserverSettings | None = None
) -> list[ChunkRecord]:
    """Return a record for every moment to look at: of the recorded chunks, or every LOOK_S.

    What the policy sees then is put together as the live node does it, by the newest message of
    each source. That is close to what a live policy saw, not equal to it: the order in which
    messages reached it is not the recorder's. Without commanded positions the measured ones
    stand in.

    Args:
        bag: read once.
        recording: what `read_recording` made of it.
        instruction: where the bag tells none.
        settings: how joints and images come; None: as they are found in the bag.
    """
    seer = _Looker(recording, instruction, settings or _settings(recording))
    names = {absolute: relative for relative, absolute in recording.topics.items()}
    wanted = {recording.topics[t] for t in seer.observer.topics if t in recording.topics}
    for message in bag.messages(wanted):
        seer.feed(names[message.topic], message.value, message.received_ns)
    return seer.records


def _settings(recording: Recording) -> ObserverSettings:
    """Return settings that take old and skewed messages too: a replay shows what was there."""
    loose = {source: Bounds(60.0, np.inf) for source in default_bounds()}
    transport = "compressed" if COMPRESSED in recording.topics else "raw"
    if f"{TRIGGER}_camera/image_raw" in recording.topics:
        transport = "raw"
    return ObserverSettings(bounds=loose, transport=transport, frozen_timeout_s=0.0)


class _Looker:
    def __init__(self, recording: Recording, instruction: str, settings: ObserverSettings) -> None:
        self._time = TimeBase()
        self.observer = Observer(self._time, settings)
        self._chunks = {chunk.stamp_ns: chunk for chunk in recording.chunks}
        self._without_command = COMMANDED not in recording.topics
        self._instruction = instruction
        self._next_ns = 0
        self.records: list[ChunkRecord] = []

    def feed(self, topic: str, message: object, received_ns: int) -> None:
        """Take a message; look if it is time."""
        now_s = self._time.from_nanoseconds(received_ns)
        moment = Moment(now_s, now_s)
        if self._without_command and topic == MEASURED:
            self.observer.feed(COMMANDED, message, moment)
        if not self.observer.feed(topic, message, moment):
            return
        stamp_ns = self._time.to_nanoseconds(self.observer.image_stamp_s)
        chunk = self._chunks.get(stamp_ns)
        if self._chunks and chunk is None:
            return
        if not self._chunks and stamp_ns < self._next_ns:
            return
        if any(source.value is None for source in self.observer.sources.values()):
            return
        self._next_ns = stamp_ns + round(LOOK_S * 1e9)
        self.records.append(self._record(chunk, stamp_ns))

    def _record(self, chunk: ChunkRecord | None, stamp_ns: int) -> ChunkRecord:
        seen = self.observer.observation(self._sentence())
        stamps = self._stamps(self.observer.sources)
        number = len(self.records)
        if chunk is not None:
            return replace(chunk, number=number, image_stamps=stamps, measured=seen.positions)
        none = np.empty(0, dtype=np.int64)
        return ChunkRecord(
            number=number,
            goal_id="",
            chunk_id=number + 1,
            stamp_ns=stamp_ns,
            published_ns=stamp_ns,
            instruction=seen.instruction,
            image_stamps=stamps,
            measured=seen.positions,
            reference=seen.commanded,
            seed=number,
            decoding="",
            tokens=none,
            committed_steps=0,
            warm_start=0.0,
            guidance=none,
            tokenizer_hash="",
            checkpoint_hash="",
            inference_s=0.0,
            evaluations=0,
            control_period_s=0.1,
        )

    def _stamps(self, sources: Mapping) -> dict[str, int]:
        return {
            camera: self._time.to_nanoseconds(sources[f"{camera}_camera"].stamp_s)
            for camera in CAMERAS
        }

    def _sentence(self) -> str:
        task = self.observer.task
        return self._instruction or ("" if task is None else task.instruction)
