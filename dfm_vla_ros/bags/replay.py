"""Makes the chunks of a bag once more, offline, and says whether they are the same."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.records import (
    WANTED,
    ChunkRecord,
    Recording,
    look,
    read_recording,
    relative_topics,
)
from dfm_vla_ros.bags.show import (
    Pictures,
    first_images,
    read_images,
    replay_run,
    take_pictures,
)
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.model.folder import folder_hash
from dfm_vla_ros.policy.policy import Policy, load_like
from dfm_vla_ros.policy.realtime import committing
from dfm_vla_ros.policy.session import PolicyCall
from dfm_vla_ros.policy.types import Chunk, Guidance, Observation
from dfm_vla_ros.report.content import Reference, ReplayRun, Report, Rgb
from dfm_vla_ros.report.page import write_report
from dfm_vla_ros.tokens import ActionCodec, load_action_tokenizer
from dfm_vla_ros.workers import run_parallel

START_CHUNKS = 40
"""What a process answers while another one loads torch and the policy."""


@dataclass(frozen=True)
class RecordWithImages:
    """What the cameras (H, W, 3) RGB saw; of those that are ``missing`` a black image."""

    record: ChunkRecord
    images: dict[str, Rgb]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReplayAnswer:
    """What a checkpoint says to what a recorded chunk was made from.

    Attributes:
        number: of the record.
        chunk: with its trace.
        targets: (H, D) [rad], grippers [m].
        paths: (E, H, D) what the tokens of each evaluation mean; NaN where they mean nothing yet.
        missing: cameras whose image the bag lacks.
        same: whether the tokens are the recorded ones; None: another checkpoint made them, or the
            bag lacks what it takes.
    """

    number: int
    chunk: Chunk
    targets: NDArray[np.float64]
    paths: NDArray[np.float64]
    missing: tuple[str, ...]
    same: bool | None


@dataclass(frozen=True)
class ReplayJob:
    """Chunks for one process; an empty ``decoding``: as the checkpoint says.

    ``topics`` are relative name -> name in the bag.
    """

    bag: Path
    topics: dict[str, str]
    checkpoint: Path
    decoding: str
    records: tuple[ChunkRecord, ...]


def replay(
    job: ReplayJob, processes: int = 1, recorded: ActionCodec | None = None
) -> Iterator[ReplayAnswer]:
    """Yield the answer to every record whose images are there, in any order.

    Args:
        job: what to answer; it is dealt out among the processes.
        processes: that load the policy, this one among them, each with one thread.
        recorded: tokenizer of the records; None: unknown.
    """
    mine, *others = [replace(job, records=part) for part in deal(job.records, processes)]
    with ThreadPoolExecutor(1) as beside:
        given = [(part, recorded) for part in others]
        found = beside.submit(_of_others, given) if others else None
        yield from answers(mine, recorded)
        if found is not None:
            yield from found.result()


def deal(records: tuple[ChunkRecord, ...], processes: int) -> list[tuple[ChunkRecord, ...]]:
    """Return this process's records, then the others', who get less: they have to load first."""
    share = max(0, (len(records) - START_CHUNKS) // processes)
    mine = len(records) - share * (processes - 1)
    parts = [records[mine + share * k : mine + share * (k + 1)] for k in range(processes - 1)]
    return [records[:mine], *(part for part in parts if part)]


def _of_others(jobs: list[tuple[ReplayJob, ActionCodec | None]]) -> list[ReplayAnswer]:
    return [each for found in run_parallel(_all_answers, jobs, len(jobs)) for each in found]


def _all_answers(given: tuple[ReplayJob, ActionCodec | None]) -> list[ReplayAnswer]:
    return list(answers(*given))


def answers(job: ReplayJob, recorded: ActionCodec | None = None) -> Iterator[ReplayAnswer]:
    """Yield the answers in this process.

    Raises:
        DfmVlaError: the checkpoint is of no use, or cannot use an observation.
    """
    policy = (
        load_like(job.checkpoint, job.decoding) if job.decoding else Policy.load(job.checkpoint)
    )
    with Bag(job.bag) as bag:
        for moment in _with_images(read_images(bag, job.topics), job.records):
            yield _answer(policy, moment, recorded)


def _with_images(
    images: Iterator[tuple[str, int, Rgb]], records: Sequence[ChunkRecord]
) -> Iterator[RecordWithImages]:
    """Yield every record as soon as its images have come; at the end those that lack some."""
    wanted: dict[tuple[str, int], list[ChunkRecord]] = {}
    for record in records:
        for key in record.image_stamps.items():
            wanted.setdefault(key, []).append(record)
    held: dict[int, dict[str, Rgb]] = {record.number: {} for record in records}
    for camera, stamp_ns, pixels in images:
        for record in wanted.pop((camera, stamp_ns), ()):
            found = held[record.number]
            found[camera] = pixels
            if len(found) == len(record.image_stamps):
                yield _completed(record, held.pop(record.number))
    for record in records:
        if held.get(record.number):
            yield _completed(record, held[record.number])


def _completed(record: ChunkRecord, found: Mapping[str, Rgb]) -> RecordWithImages:
    """Return the record with its images in its order, black ones for those that are missing."""
    black = np.zeros_like(next(iter(found.values())))
    missing = tuple(camera for camera in record.image_stamps if camera not in found)
    images = {camera: found.get(camera, black) for camera in record.image_stamps}
    return RecordWithImages(record, images, missing)


def _answer(
    policy: Policy, moment: RecordWithImages, recorded: ActionCodec | None
) -> ReplayAnswer:
    record, codec = moment.record, policy.tokenizer
    observation = Observation(moment.images, record.measured, record.reference, record.instruction)
    guidance = _guidance(record, codec, recorded)
    chunk = PolicyCall(observation, record.seed, guidance).run(policy.act, trace=True)
    made_by = (record.checkpoint_hash, record.decoding)
    comparable = made_by == (policy.checkpoint_hash, policy.decoding) and not moment.missing
    same = None
    if record.repeatable and comparable:
        same = bool(np.array_equal(chunk.tokens.ravel(), record.tokens))
    targets = codec.decode(chunk.tokens, chunk.reference)
    paths = _paths(codec, chunk)
    return ReplayAnswer(record.number, chunk, targets, paths, moment.missing, same)


def _guidance(
    record: ChunkRecord, codec: ActionCodec, recorded: ActionCodec | None
) -> Guidance | None:
    """Return what the recorded chunk kept; in another vocabulary the tokens that mean it."""
    if not codec.per_step or not (record.committed_steps or record.warm_start):
        return None
    tokens = record.guidance if len(record.guidance) else record.tokens
    if record.tokenizer_hash != codec.hash:
        if recorded is None or recorded.horizon != codec.horizon:
            return None
        tokens = codec.encode(recorded.decode(tokens, record.reference), record.reference)
    tokens = tokens.reshape(codec.token_shape)
    return committing(tokens, record.committed_steps, record.warm_start or None)


def _paths(codec: ActionCodec, chunk: Chunk) -> NDArray[np.float64]:
    """Return (E, H, D): what the tokens after each evaluation mean; NaN: a token is masked."""
    tokens = chunk.trace.tokens
    known = ((tokens >= 0) & (tokens < codec.vocabulary_size)).all(axis=-1)
    paths = codec.decode(np.where(known[:, None], tokens, 0), chunk.reference)
    paths[~known] = np.nan
    return paths


@dataclass(frozen=True)
class ReplayRequest:
    """What to replay.

    Attributes:
        instruction: where the bag tells none.
        namespace: of the topics; empty: the one that has most.
        reference: bag of a good run, to compare the cameras.
        fault: that was put into the bag on purpose; empty: none.
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
class ReplayedCheckpoint:
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
    answers: list[ReplayAnswer]
    seconds: float
    loading_s: float
    own_latency: bool
    differences: list[str] = field(default_factory=list)

    @property
    def compared(self) -> int:
        """Answers that can be compared with recorded tokens."""
        return sum(answer.same is not None for answer in self.answers)

    @property
    def same(self) -> int:
        """Answers that are the recorded tokens."""
        return sum(answer.same is True for answer in self.answers)


@dataclass
class Replayed:
    """What came of a request: a run a checkpoint, and what is wrong with the bag in sentences."""

    request: ReplayRequest
    recording: Recording
    runs: list[ReplayedCheckpoint]
    pictures: Pictures
    problems: list[str]
    references: list[Reference]

    @property
    def duration_s(self) -> float:
        """From the first stamp to the last [s]."""
        begin, end = self.recording.rates.span_ns
        return (end - begin) * 1e-9

    def content(self) -> list[ReplayRun]:
        """Return what a page shows of every checkpoint."""
        return [replay_run(self, run) for run in self.runs]

    def write_page(self, path: Path) -> int:
        """Write the page and return its size [bytes]."""
        request = self.request
        title = f"Replay of {request.bag.name}" + (f" with {request.fault}" * bool(request.fault))
        facts = {"bag": str(request.bag), "length": f"{self.duration_s:.1f} s"}
        return write_report(Report(title, facts, tuple(self.content())), path)


def replay_bag(request: ReplayRequest) -> Replayed:
    """Read the bag and ask every checkpoint.

    Raises:
        BagError: nothing in the bag is of use.
        DfmVlaError: a checkpoint is of no use.
    """
    with Bag(request.bag) as bag:
        recording = read_recording(bag, relative_topics(bag, WANTED, request.namespace))
        problems: list[str] = []
        if not all(record.repeatable for record in recording.chunks):
            problems.append(
                "the chunks do not say what they were made from (recorded by an older version): "
                "observations are put together by time, tokens cannot be compared"
            )
        if problems or not recording.chunks:
            recording.chunks = look(bag, recording, request.instruction)
        with ThreadPoolExecutor(1) as beside:
            drawn = beside.submit(take_pictures, bag, recording, request.with_film)
            runs = [_run(path, request, recording) for path in request.checkpoints]
            pictures = drawn.result()
        start_ns = recording.rates.span_ns[0]
        problems += dict.fromkeys(fault.text(start_ns) for fault in bag.faults)
        problems += _lacking(recording, runs)
    return Replayed(request, recording, runs, pictures, problems, _references(request))


def _run(checkpoint: Path, request: ReplayRequest, recording: Recording) -> ReplayedCheckpoint:
    """Ask one checkpoint; one that recorded the bag decodes as it did then."""
    began_s = time.perf_counter()
    digest = folder_hash(checkpoint)
    records = recording.chunks
    decodings = {record.decoding for record in records if record.checkpoint_hash == digest}
    decoding = decodings.pop() if len(decodings) == 1 else ""
    job = ReplayJob(request.bag, recording.topics, checkpoint, decoding, tuple(records))
    codec = _recorded_codec(records, load_action_tokenizer(checkpoint), request)
    found, loading_s = [], 0.0
    for answer in replay(job, request.processes, codec):
        loading_s = loading_s or time.perf_counter() - began_s
        found.append(answer)
    found.sort(key=lambda answer: answer.number)
    recorded = {record.checkpoint_hash for record in records} - {""}
    differences = []
    if recorded and digest not in recorded:
        differences.append(
            f"the bag was recorded with checkpoint {sorted(recorded)[0][:12]}, this one is "
            f"{digest[:12]}: its tokens are its own"
        )
    name, seconds = f"{checkpoint.name} {digest[:8]}", time.perf_counter() - began_s
    own_latency = digest not in recorded
    return ReplayedCheckpoint(name, found, seconds, loading_s, own_latency, differences)


def _recorded_codec(
    records: list[ChunkRecord], codec: ActionCodec, request: ReplayRequest
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


def _lacking(recording: Recording, runs: list[ReplayedCheckpoint]) -> list[str]:
    """Return what the policy could not see."""
    begin_ns, found = recording.rates.span_ns[0], []
    answered = {answer.number: answer.missing for run in runs for answer in run.answers}
    lost = [record for record in recording.chunks if record.number not in answered]
    if lost:
        at_s = (lost[0].stamp_ns - begin_ns) * 1e-9
        found.append(
            f"the images of {len(lost)} chunks are not in the bag, of the first at {at_s:.2f} s"
        )
    missing = {number: cameras for number, cameras in answered.items() if cameras}
    if missing:
        number, cameras = min(missing.items())
        at_s = (recording.chunks[number].stamp_ns - begin_ns) * 1e-9
        found.append(
            f"{len(missing)} chunks lack the image of a camera, the first at {at_s:.2f} s that of "
            f"{', '.join(cameras)}: a black one stands in"
        )
    return found


def _references(request: ReplayRequest) -> list[Reference]:
    if request.reference is None:
        return []
    with Bag(request.reference) as bag:
        topics = relative_topics(bag, WANTED, request.namespace)
    images = first_images(request.reference, topics)
    origin = f"first image of {request.reference.name}"
    return [Reference(camera, image, origin) for camera, image in images.items()]
