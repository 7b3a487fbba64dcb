"""Looks for a bag whose chunks do not say what they were made from, or that holds no chunks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dfm_vla_ros.bags.observations import Playback, Step
from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.replay_records import ChunkRecord, Recording
from dfm_vla_ros.bags.topics import TopicChoice, Topics, find_topics
from dfm_vla_ros.observing.settings import (
    COMMANDED,
    MEASURED,
    ObserverSettings,
    default_bounds,
)
from dfm_vla_ros.observing.sources import Bounds
from dfm_vla_ros.policy.types import Observation
from dfm_vla_ros.robot.joints import CAMERAS

LOOK_S = 0.4
"""Between two looks at a bag without chunks, as the shipped policy looks."""


def look(bag: Bag, recording: Recording, instruction: str) -> list[ChunkRecord]:
    """Return a record for every moment to look at: of the recorded chunks, or every LOOK_S.

    What the policy sees then is put together by the time in the headers, through the live node's
    Observer. That is close to what a live policy saw, not equal to it: the order in which messages
    reached it is not known. Without commanded positions the measured ones stand in.

    Args:
        bag: read once.
        recording: what `read_recording` made of it.
        instruction: where the bag tells none.

    Raises:
        BagError: cameras or joints are missing.
    """
    chosen = COMMANDED if COMMANDED in recording.topics else MEASURED
    # A replay shows what was there, however old or skewed.
    bounds = {source: Bounds(60.0, np.inf) for source in default_bounds()}
    settings = ObserverSettings(bounds=bounds, tracking_rad=np.inf, frozen_timeout_s=0.0)
    choice = TopicChoice(namespace=_namespace(recording), action_from=chosen)
    return _Looker(bag, find_topics(bag, choice, settings), recording, instruction).records()


def _namespace(recording: Recording) -> str:
    relative, absolute = next(iter(recording.topics.items()))
    return absolute.removesuffix(relative).strip("/")


class _Looker:
    def __init__(self, bag: Bag, topics: Topics, recording: Recording, instruction: str) -> None:
        self._playback = Playback(bag, topics)
        self._chunks = {chunk.stamp_ns: chunk for chunk in recording.chunks}
        self._without_command = not topics.settings.commands
        self._instruction = instruction
        self._next_ns = 0
        self._stamps: dict[str, int] = {}

    def records(self) -> list[ChunkRecord]:
        """Play the bag."""
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

    def _observation(self) -> Observation:
        observer = self._playback.observer
        told = "" if observer.task is None else observer.task.instruction
        return observer.observation(self._instruction or told)

    def _record(self, step: Step, number: int) -> ChunkRecord:
        self._next_ns = step.stamp_ns + round(LOOK_S * 1e9)
        seen, chunk = self._observation(), self._chunks.get(step.stamp_ns)
        stamps = {camera: self._stamps[camera] for camera in CAMERAS}
        if chunk is not None:
            return replace(chunk, number=number, image_stamps=stamps, measured=seen.positions)
        none = np.empty(0, dtype=np.int64)
        return ChunkRecord(
            number=number,
            goal_id="",
            chunk_id=number + 1,
            stamp_ns=step.stamp_ns,
            published_ns=step.stamp_ns,
            instruction=seen.instruction,
            image_stamps=stamps,
            measured=seen.positions,
            reference=seen.positions if self._without_command else seen.commanded,
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
