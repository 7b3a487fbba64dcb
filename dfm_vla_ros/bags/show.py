"""Shows a replay: as the content of a report page, or as a Rerun recording (.rrd).

Rerun is optional: ``pip install "rerun-sdk>=0.23"``; nothing else of the package needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.records import ChunkRecord, Recording
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.observing.cameras import TRANSPORTS, ImageRefused
from dfm_vla_ros.observing.sources import COMMANDED, MEASURED, TRIGGER, nanoseconds
from dfm_vla_ros.report.content import (
    Film,
    FilmEncoder,
    Gap,
    Picture,
    PredictedChunk,
    Refinement,
    ReplayRun,
    Rgb,
    Source,
)
from dfm_vla_ros.robot.joints import ARMS, CAMERAS, JOINT_NAMES
from dfm_vla_ros.robot.model import RobotModel

if TYPE_CHECKING:
    from dfm_vla_ros.bags.replay import ReplayAnswer, Replayed, ReplayedCheckpoint

INSTALL = 'pip install "rerun-sdk>=0.23"'
RERUN_SERIES_NS = 20_000_000
RERUN_JPEG_QUALITY = 85
UNITS = tuple("m" if name.endswith("gripper") else "rad" for name in JOINT_NAMES)
SERIES_S = 0.02
MOST_MOMENTS = 6000


def image_topics(topics: Mapping[str, str]) -> dict[str, str]:
    """Return name in the bag -> camera: raw images where there are both."""
    found: dict[str, str] = {}
    for camera in CAMERAS:
        for transport in TRANSPORTS.values():
            relative = f"{camera}_camera/{transport.suffix}"
            if relative in topics:
                found[topics[relative]] = camera
                break
    return found


def read_images(bag: Bag, topics: Mapping[str, str]) -> Iterator[tuple[str, int, Rgb]]:
    """Yield (camera, stamp [ns], image) in the order of the bag; faults are noted in it."""
    cameras = image_topics(topics)
    decoders = {transport.kind: transport.decode for transport in TRANSPORTS.values()}
    for message in bag.messages(set(cameras)):
        stamp_ns = nanoseconds(message.value.header.stamp)
        try:
            pixels = decoders[message.kind](message.value)
        except ImageRefused as error:
            bag.faults.add(message.topic, "image", str(error), stamp_ns)
            continue
        yield cameras[message.topic], stamp_ns, pixels


@dataclass
class Pictures:
    """What a page shows of the cameras: pictures by chunk, the first images, a film."""

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


def replay_run(done: Replayed, run: ReplayedCheckpoint) -> ReplayRun:
    """Return what a page shows of one checkpoint."""
    recording, pictures = done.recording, done.pictures
    begin_ns, end_ns = recording.rates.span_ns
    step_s = max(SERIES_S, (end_ns - begin_ns) * 1e-9 / MOST_MOMENTS)
    times_s = np.arange(0.0, (end_ns - begin_ns) * 1e-9 + step_s / 2, step_s)
    stamps = begin_ns + np.round(times_s * 1e9).astype(np.int64)
    limits = RobotModel().limits()
    records = {record.number: record for record in recording.chunks}
    ordered = sorted(run.answers, key=lambda answer: records[answer.number].stamp_ns)
    first = records[run.answers[0].number] if run.answers else None
    fault = {"fault put in on purpose": done.request.fault} if done.request.fault else {}
    return ReplayRun(
        name=run.name,
        joint_names=JOINT_NAMES,
        units=UNITS,
        times_s=times_s,
        measured=recording.joints[MEASURED].at(stamps),
        commanded=recording.joints[COMMANDED].at(stamps),
        chunks=tuple(
            _chunk(records[answer.number], answer, pictures, begin_ns, run.own_latency)
            for answer in ordered
        ),
        period_s=0.1 if first is None else first.control_period_s,
        lower=limits.lower,
        upper=limits.upper,
        gaps=tuple(_gaps(recording, begin_ns)),
        sources=tuple(_sources(recording)),
        films=() if pictures.film is None else (pictures.film,),
        samples=pictures.samples,
        references=tuple(done.references),
        facts={**_facts(recording, run), **fault},
        problems=tuple(done.problems),
    )


def _chunk(
    record: ChunkRecord, answer: ReplayAnswer, pictures: Pictures, begin_ns: int, own_latency: bool
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


def _facts(recording: Recording, run: ReplayedCheckpoint) -> dict[str, str]:
    facts = {
        "chunks in the bag": str(len(recording.chunks)),
        "chunks replayed": str(len(run.answers)),
        "instructions": "; ".join(dict.fromkeys(c.instruction for c in recording.chunks)),
        "refused by the executor": str(sum(bool(c.refused) for c in recording.chunks)),
    }
    if run.compared:
        facts["same tokens as recorded"] = f"{run.same} of {run.compared} chunks"
    return facts


class NoRerun(DfmVlaError):
    """The optional package is missing or too old."""


def check_rerun() -> ModuleType:
    """Return the package.

    Raises:
        NoRerun: it is not installed.
    """
    try:
        import rerun
    except ModuleNotFoundError as error:
        raise NoRerun(
            f"--rerun needs the package rerun-sdk, which is optional: {INSTALL}"
        ) from error
    if not hasattr(rerun, "set_time"):
        version = getattr(rerun, "__version__", "unknown")
        raise NoRerun(f"--rerun: rerun-sdk {version} is too old: {INSTALL}")
    return rerun


def _log_at(rerun: ModuleType, done: Replayed, stamp_ns: int) -> None:
    """Log from now on at this stamp."""
    begin_ns = done.recording.rates.span_ns[0]
    rerun.set_time("recording", duration=(stamp_ns - begin_ns) * 1e-9)


def write_rerun(done: Replayed, path: Path) -> None:
    """Write the file.

    Raises:
        NoRerun: the package is missing.
    """
    rerun = check_rerun()
    path.parent.mkdir(parents=True, exist_ok=True)
    rerun.init("dfm_vla_ros replay", recording_id=done.request.bag.name)
    rerun.save(str(path))
    rerun.log("world", rerun.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    robot = RobotModel()
    _joints(rerun, done, robot)
    _images(rerun, done)
    for run in done.runs:
        _plans(rerun, done, run, robot)
    rerun.disconnect()


def _joints(rr: ModuleType, done: Replayed, robot: RobotModel) -> None:
    begin_ns, end_ns = done.recording.rates.span_ns
    stamps = np.arange(begin_ns, end_ns, RERUN_SERIES_NS, dtype=np.int64)
    for topic, name in ((MEASURED, "measured"), (COMMANDED, "commanded")):
        rows = done.recording.joints[topic].at(stamps)
        tips = robot.points(np.nan_to_num(rows))
        for stamp, row, points in zip(stamps.tolist(), rows, tips, strict=True):
            if not np.isfinite(row).all():
                continue
            _log_at(rr, done, stamp)
            for joint, value in zip(JOINT_NAMES, row.tolist(), strict=True):
                rr.log(f"joints/{joint}/{name}", rr.Scalars(value))
            rr.log(f"world/{name}", rr.Points3D(points, labels=list(ARMS), radii=0.008))


def _images(rr: ModuleType, done: Replayed) -> None:
    with Bag(done.request.bag) as bag:
        for camera, stamp_ns, pixels in read_images(bag, done.recording.topics):
            _log_at(rr, done, stamp_ns)
            image = rr.Image(np.ascontiguousarray(pixels), color_model="RGB")
            rr.log(f"cameras/{camera}", image.compress(jpeg_quality=RERUN_JPEG_QUALITY))


def _plans(rr: ModuleType, done: Replayed, run: ReplayedCheckpoint, robot: RobotModel) -> None:
    records = {record.number: record for record in done.recording.chunks}
    for answer in sorted(run.answers, key=lambda found: found.number):
        record = records[answer.number]
        _log_at(rr, done, record.stamp_ns)
        _plan(rr, run.name.replace(" ", "_"), record, answer, robot)


def _plan(
    rr: ModuleType, name: str, record: ChunkRecord, answer: ReplayAnswer, robot: RobotModel
) -> None:
    """Log one chunk: the fan of both grippers, the heat map, what it took."""
    start = np.broadcast_to(record.reference, (len(answer.paths), 1, len(record.reference)))
    paths = robot.points(np.concatenate([start, np.nan_to_num(answer.paths)], axis=1))
    known = np.isfinite(answer.paths).all(axis=(1, 2))
    shades = _shades(len(paths))
    for index, arm in enumerate(ARMS):
        strips = [path[:, index] for path, good in zip(paths, known, strict=True) if good]
        colours = [shade for shade, good in zip(shades, known, strict=True) if good]
        if strips:
            lines = rr.LineStrips3D(strips, colors=colours, radii=0.0015)
            rr.log(f"world/{name}/plan/{arm}", lines)
    confidence = answer.chunk.trace.confidence
    rr.log(f"{name}/confidence", rr.Tensor(confidence, dim_names=("evaluation", "token")))
    jumps = answer.chunk.trace.jumped.sum(axis=1)
    rr.log(f"{name}/changes", rr.BarChart(jumps))
    rr.log(f"{name}/inference_s", rr.Scalars(answer.chunk.inference_s))
    rr.log(f"{name}/committed_steps", rr.Scalars(record.committed_steps))
    text = f"chunk {record.chunk_id}: {record.instruction}"
    rr.log(
        f"{name}/log", rr.TextLog(text + (f"; refused: {record.refused}" * bool(record.refused)))
    )


def _shades(count: int) -> NDArray[np.uint8]:
    """Return (count, 4): violet and faint first, yellow and dense at the end."""
    settled = np.linspace(0.0, 1.0, max(count, 1))[:, None]
    first, last = np.array([77, 51, 230, 40]), np.array([255, 217, 51, 255])
    return np.round(first + settled * (last - first)).astype(np.uint8)
