"""A whole replay: a bag, one or more checkpoints, what came of it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dfm_vla_ros.bags.observations import Playback, Step
from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.replay import Answer, Job, parity, replay
from dfm_vla_ros.bags.replay_records import (
    EXECUTOR_STATUS,
    ChunkRecord,
    Recording,
    read_recording,
    relative_topics,
)
from dfm_vla_ros.bags.replay_report import Pictures, first_images, replay_run, take_pictures
from dfm_vla_ros.bags.storage import CHUNKS, TASK_STATUS
from dfm_vla_ros.bags.topics import TopicChoice, Topics, find_topics
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.model.folder import folder_hash
from dfm_vla_ros.observing.cameras import TRANSPORTS
from dfm_vla_ros.observing.sources import (
    ARM_TOPICS,
    COMMANDED,
    MEASURED,
    Bounds,
    ObserverSettings,
    default_bounds,
)
from dfm_vla_ros.policy.types import Observation
from dfm_vla_ros.report.content import Reference, ReplayRun, Report
from dfm_vla_ros.report.page import write_report
from dfm_vla_ros.robot.joints import CAMERAS
from dfm_vla_ros.tokens import ActionCodec, load_action_tokenizer

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


WANTED = (
    CHUNKS,
    TASK_STATUS,
    EXECUTOR_STATUS,
    "policy_node/status",
    MEASURED,
    COMMANDED,
    *ARM_TOPICS,
    *(f"{camera}_camera/{way.suffix}" for camera in CAMERAS for way in TRANSPORTS.values()),
)
"""Topics that a replay reads."""


@dataclass(frozen=True)
class Request:
    """What to replay.

    Attributes:
        bag: folder or file.
        checkpoints: folders.
        processes: that load the policy.
        instruction: where the bag tells none.
        namespace: of the topics; empty: the one that has most.
        reference: bag of a good run; None: none.
        with_film: whether the page gets a film.
        fault: that was put into the bag; empty: none.
    """

    bag: Path
    checkpoints: tuple[Path, ...]
    processes: int = 1
    instruction: str = ""
    namespace: str = ""
    reference: Path | None = None
    with_film: bool = True
    fault: str = ""


@dataclass
class Run:
    """One checkpoint's answers.

    Attributes:
        name: of the checkpoint, with the beginning of its hash.
        answers: by number of their record.
        seconds: that they took, loading included [s].
        loading_s: until the first answer [s].
        own_latency: whether the recorded times are another checkpoint's.
        differences: of settings between record and replay, as sentences.
    """

    name: str
    answers: list[Answer]
    seconds: float
    loading_s: float
    own_latency: bool
    differences: list[str] = field(default_factory=list)

    @property
    def compared(self) -> int:
        """Answers that can be compared with recorded tokens."""
        return parity(self.answers)[0]

    @property
    def same(self) -> int:
        """Answers that are the recorded tokens."""
        return parity(self.answers)[1]


@dataclass
class Replayed:
    """What came of a request.

    Attributes:
        bag: that was read.
        recording: all but its pixels.
        records: what was looked at.
        runs: one a checkpoint.
        pictures: for the page.
        problems: what is wrong with the bag, one sentence each.
        references: of a good run.
        fault: that was put in on purpose.
    """

    bag: Path
    recording: Recording
    records: list[ChunkRecord]
    runs: list[Run]
    pictures: Pictures
    problems: list[str]
    references: list[Reference]
    fault: str = ""

    @property
    def duration_s(self) -> float:
        """From the first stamp to the last [s]."""
        begin, end = self.recording.rates.span_ns
        return (end - begin) * 1e-9

    def content(self) -> list[ReplayRun]:
        """Return what a page shows of every checkpoint."""
        return [
            replay_run(
                run.name,
                self.recording,
                run.answers,
                self.pictures,
                self.problems,
                self.references,
                {"fault put in on purpose": self.fault} if self.fault else {},
                run.own_latency,
            )
            for run in self.runs
        ]

    def write_page(self, path: Path) -> int:
        """Write the page and return its size [bytes]."""
        title = f"Replay of {self.bag.name}" + (f" with {self.fault}" if self.fault else "")
        facts = {"bag": str(self.bag), "length": f"{self.duration_s:.1f} s"}
        return write_report(Report(title, facts, tuple(self.content())), path)


def replay_bag(request: Request) -> Replayed:
    """Read the bag and ask every checkpoint.

    Raises:
        BagError: nothing in the bag is of use.
        DfmVlaError: a checkpoint is of no use.
    """
    with Bag(request.bag) as bag:
        topics = relative_topics(bag, WANTED, request.namespace)
        recording = read_recording(bag, topics)
        problems: list[str] = []
        records = list(recording.chunks)
        if not records or not all(record.repeatable for record in records):
            problems += _inexact(records)
            records = look(bag, recording, request.instruction)
            recording.chunks = records
        with ThreadPoolExecutor(1) as beside:
            drawn = beside.submit(take_pictures, bag, recording, request.with_film)
            runs = [_run(path, request, recording) for path in request.checkpoints]
            pictures = drawn.result()
        start_ns = recording.rates.span_ns[0]
        problems += list(dict.fromkeys(fault.text(start_ns) for fault in bag.faults))
        problems += _lacking(recording, runs)
    return Replayed(
        request.bag,
        recording,
        records,
        runs,
        pictures,
        problems,
        _references(request),
        request.fault,
    )


def _run(checkpoint: Path, request: Request, recording: Recording) -> Run:
    """Ask one checkpoint; one that recorded the bag decodes as it did then."""
    began_s = time.perf_counter()
    digest = folder_hash(checkpoint)
    records = recording.chunks
    recorded = {record.checkpoint_hash for record in records} - {""}
    decodings = {record.decoding for record in records if record.checkpoint_hash == digest}
    decoding = decodings.pop() if len(decodings) == 1 else ""
    codec = load_action_tokenizer(checkpoint)
    job = Job(request.bag, recording.topics, checkpoint, decoding, tuple(records))
    found, loading_s = [], 0.0
    for answer in replay(job, request.processes, _codec_of(records, codec, request)):
        loading_s = loading_s or time.perf_counter() - began_s
        found.append(answer)
    found.sort(key=lambda answer: answer.number)
    seconds = time.perf_counter() - began_s
    differences = []
    if recorded and digest not in recorded:
        differences.append(
            f"the bag was recorded with checkpoint {sorted(recorded)[0][:12]}, this one is "
            f"{digest[:12]}: its tokens are its own"
        )
    name = f"{checkpoint.name} {digest[:8]}"
    return Run(name, found, seconds, loading_s, digest not in recorded, differences)


def _codec_of(
    records: list[ChunkRecord], codec: ActionCodec, request: Request
) -> ActionCodec | None:
    """Return the tokenizer of the records among those at hand."""
    hashes = {record.tokenizer_hash for record in records} - {""}
    if hashes == {codec.hash}:
        return codec
    for other in request.checkpoints:
        try:
            found = load_action_tokenizer(other)
        except DfmVlaError:
            continue
        if hashes == {found.hash}:
            return found
    return None


def _inexact(records: list[ChunkRecord]) -> list[str]:
    if not records:
        return []
    return [
        "the chunks do not say what they were made from (recorded by an older version): "
        "observations are put together by time, tokens cannot be compared"
    ]


def _lacking(recording: Recording, runs: list[Run]) -> list[str]:
    """Return what the policy could not see."""
    lines = []
    answered = {answer.number for run in runs for answer in run.answers}
    lost = [record for record in recording.chunks if record.number not in answered]
    begin_ns = recording.rates.span_ns[0]
    if lost:
        at_s = (lost[0].stamp_ns - begin_ns) * 1e-9
        lines.append(
            f"the images of {len(lost)} chunks are not in the bag, of the first at {at_s:.2f} s"
        )
    missing = {
        answer.number: answer.missing for run in runs for answer in run.answers if answer.missing
    }
    if missing:
        number, cameras = min(missing.items())
        at_s = (recording.chunks[number].stamp_ns - begin_ns) * 1e-9
        lines.append(
            f"{len(missing)} chunks lack the image of a camera, the first at {at_s:.2f} s that of "
            f"{', '.join(cameras)}: a black one stands in"
        )
    return lines


def _references(request: Request) -> list[Reference]:
    if request.reference is None:
        return []
    with Bag(request.reference) as bag:
        topics = relative_topics(bag, WANTED, request.namespace)
    images = first_images(request.reference, topics)
    origin = f"first image of {request.reference.name}"
    return [Reference(camera, image, origin) for camera, image in images.items()]
