"""A replay as the content of a report page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.replay import Answer, image_topics, parity, read_images
from dfm_vla_ros.bags.replay_records import ChunkRecord, Recording
from dfm_vla_ros.observing.sources import COMMANDED, MEASURED, TRIGGER
from dfm_vla_ros.report.content import (
    Film,
    FilmEncoder,
    Gap,
    Picture,
    PredictedChunk,
    Reference,
    Refinement,
    ReplayRun,
    Source,
)
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.robot.model import RobotModel

Rgb = NDArray[np.uint8]

UNITS = tuple("m" if name.endswith("gripper") else "rad" for name in JOINT_NAMES)
SERIES_S = 0.02
MOST_MOMENTS = 6000


@dataclass
class Pictures:
    """What the cameras saw, as far as a page shows it.

    Attributes:
        of_chunks: number of a record -> camera -> picture.
        samples: camera -> its first image.
        film: all cameras side by side; None without images.
    """

    of_chunks: dict[int, dict[str, Picture]] = field(default_factory=dict)
    samples: dict[str, Rgb] = field(default_factory=dict)
    film: Film | None = None


def take_pictures(bag: Bag, recording: Recording, with_film: bool = True) -> Pictures:
    """Read the images once; keep small pictures of what chunks saw, and a film."""
    made = Pictures()
    wanted: dict[tuple[str, int], list[int]] = {}
    for record in recording.chunks:
        for key in record.image_stamps.items():
            wanted.setdefault(key, []).append(record.number)
    cameras = [c for c in image_topics(recording.topics).values() if c]
    newest: dict[str, Rgb] = {}
    encoder: FilmEncoder | None = None
    begin_ns = recording.rates.span_ns[0]
    for camera, stamp_ns, pixels in read_images(bag, recording.topics):
        newest[camera] = pixels
        made.samples.setdefault(camera, pixels)
        for number in wanted.get((camera, stamp_ns), ()):
            made.of_chunks.setdefault(number, {})[camera] = Picture.of(pixels)
        if not with_film or camera != TRIGGER or len(newest) < len(cameras):
            continue
        if encoder is None:
            start_s = (stamp_ns - begin_ns) * 1e-9
            encoder = FilmEncoder(_film_rate(recording), "what the cameras saw", start_s)
        encoder.add({name: newest[name] for name in cameras})
    made.film = None if encoder is None else encoder.finish()
    return made


def _film_rate(recording: Recording) -> float:
    rates = recording.rates.topics()
    found = [
        rate.rate_hz for topic, rate in rates.items() if topic.startswith(f"{TRIGGER}_camera")
    ]
    return min(max([*found, 1.0]), 60.0)


def first_images(path: Path, topics: Mapping[str, str]) -> dict[str, Rgb]:
    """Return camera -> the first image of a bag."""
    found: dict[str, Rgb] = {}
    wanted = set(image_topics(topics).values())
    with Bag(path) as bag:
        for camera, _, pixels in read_images(bag, topics):
            found.setdefault(camera, pixels)
            if set(found) == wanted:
                break
    return found


def replay_run(
    name: str,
    recording: Recording,
    found: Sequence[Answer],
    pictures: Pictures,
    problems: Sequence[str],
    references: Sequence[Reference] = (),
    facts: Mapping[str, str] | None = None,
    own_latency: bool = False,
) -> ReplayRun:
    """Return the content.

    Args:
        name: of the checkpoint.
        recording: of the bag.
        found: the checkpoint's answers.
        pictures: of the bag.
        problems: what is wrong with it.
        references: pictures of a good run.
        facts: more of them.
        own_latency: true: show how long the replay's calls took, not the recorded ones.
    """
    begin_ns, end_ns = recording.rates.span_ns
    step_s = max(SERIES_S, (end_ns - begin_ns) * 1e-9 / MOST_MOMENTS)
    times_s = np.arange(0.0, (end_ns - begin_ns) * 1e-9 + step_s / 2, step_s)
    stamps = begin_ns + np.round(times_s * 1e9).astype(np.int64)
    limits = RobotModel().limits()
    by_number = {record.number: record for record in recording.chunks}
    chunks = [
        _chunk(by_number[answer.number], answer, pictures, begin_ns, own_latency)
        for answer in sorted(found, key=lambda answer: by_number[answer.number].stamp_ns)
    ]
    return ReplayRun(
        name=name,
        joint_names=JOINT_NAMES,
        units=UNITS,
        times_s=times_s,
        measured=recording.joints[MEASURED].at(stamps),
        commanded=recording.joints[COMMANDED].at(stamps),
        chunks=tuple(chunks),
        period_s=0.1 if not found else _period(recording, found),
        lower=limits.lower,
        upper=limits.upper,
        gaps=tuple(_gaps(recording, begin_ns)),
        sources=tuple(_sources(recording)),
        films=() if pictures.film is None else (pictures.film,),
        samples=pictures.samples,
        references=tuple(references),
        facts={**_facts(recording, found), **(facts or {})},
        problems=tuple(problems),
    )


def _period(recording: Recording, found: Sequence[Answer]) -> float:
    return recording.chunks[found[0].number].control_period_s


def _chunk(
    record: ChunkRecord, answer: Answer, pictures: Pictures, begin_ns: int, own_latency: bool
) -> PredictedChunk:
    trace = answer.chunk.trace
    steps = np.arange(1, len(answer.targets) + 1)
    due_s = None
    if record.due is not None:
        due_s = (record.due[0] - begin_ns) * 1e-9 + steps * record.due[1]
    return PredictedChunk(
        time_s=(record.stamp_ns - begin_ns) * 1e-9,
        targets=answer.targets,
        inference_s=answer.chunk.inference_s if own_latency else record.inference_s,
        refinement=Refinement(
            trace.kinds,
            trace.times,
            trace.tokens,
            trace.targets,
            trace.jumped,
            trace.confidence,
            trace.committed,
            answer.paths,
        ),
        pictures=pictures.of_chunks.get(record.number, {}),
        refused=record.refused,
        due_s=due_s,
        instruction=record.instruction,
    )


def _gaps(recording: Recording, begin_ns: int) -> list[Gap]:
    return [
        Gap(topic, (start - begin_ns) * 1e-9, (end - begin_ns) * 1e-9, "no message")
        for topic, rate in recording.rates.topics().items()
        if topic.endswith(("image_raw", "compressed", "joint_states"))
        for start, end in rate.gaps
    ]


def _sources(recording: Recording) -> list[Source]:
    rows = []
    for topic, rate in recording.rates.topics().items():
        remark = f"stamps go back {rate.backward} times" if rate.backward else ""
        series = recording.joints.get(topic)
        if series is not None and series.unusable:
            remark = f"{series.unusable} messages lack joints or are not finite"
        rows.append(Source(topic, rate.messages, rate.rate_hz, rate.longest_gap_s, remark))
    return rows


def _facts(recording: Recording, found: Sequence[Answer]) -> dict[str, str]:
    compared, same = parity(found)
    facts = {
        "chunks in the bag": str(len(recording.chunks)),
        "chunks replayed": str(len(found)),
        "instructions": "; ".join(dict.fromkeys(c.instruction for c in recording.chunks)),
        "refused by the executor": str(sum(bool(c.refused) for c in recording.chunks)),
    }
    if compared:
        facts["same tokens as recorded"] = f"{same} of {compared} chunks"
    return facts
