"""Makes the chunks of a bag once more, offline, and says whether they are the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.replay_records import ChunkRecord
from dfm_vla_ros.observing.cameras import TRANSPORTS, ImageRefused
from dfm_vla_ros.observing.sources import nanoseconds
from dfm_vla_ros.policy.policy import Policy, load_like
from dfm_vla_ros.policy.realtime import committing
from dfm_vla_ros.policy.session import PolicyCall
from dfm_vla_ros.policy.types import Chunk, Guidance, Observation
from dfm_vla_ros.robot.joints import CAMERAS
from dfm_vla_ros.tokens import ActionCodec
from dfm_vla_ros.workers import run_parallel

START_CHUNKS = 40
"""What a process answers while another one loads torch and the policy."""


@dataclass(frozen=True)
class Answer:
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


class Replayer:
    """Answers what chunks were made from, one at a time."""

    def __init__(self, policy: Policy, recorded: ActionCodec | None = None) -> None:
        """Ask ``policy``; ``recorded`` is the tokenizer of the bag's chunks, None: unknown."""
        self.policy, self._recorded = policy, recorded

    def answer(self, moment: Seen) -> Answer:
        """Return what the policy says.

        Raises:
            DfmVlaError: the policy cannot use the observation.
        """
        record, codec = moment.record, self.policy.tokenizer
        chunk = self.call(moment).run(self.policy.act, trace=True)
        targets = codec.decode(chunk.tokens, chunk.reference)
        paths = evaluations_as_targets(codec, chunk)
        same = None
        if self._is_same_policy(record) and not moment.missing:
            same = bool(np.array_equal(chunk.tokens.ravel(), record.tokens))
        return Answer(record.number, chunk, targets, paths, moment.missing, same)

    def call(self, moment: Seen) -> PolicyCall:
        """Return the policy call that the chunk of ``moment`` came of."""
        record = moment.record
        observation = Observation(
            moment.images, record.measured, record.reference, record.instruction
        )
        return PolicyCall(observation, record.seed, self._guidance(record))

    def _is_same_policy(self, record: ChunkRecord) -> bool:
        policy = self.policy
        return record.repeatable and (policy.checkpoint_hash, policy.decoding) == (
            record.checkpoint_hash,
            record.decoding,
        )

    def _guidance(self, record: ChunkRecord) -> Guidance | None:
        """Return what the recorded chunk kept; in another vocabulary the tokens that mean it."""
        codec = self.policy.tokenizer
        if not codec.per_step or not (record.committed_steps or record.warm_start):
            return None
        tokens = record.guidance if len(record.guidance) else record.tokens
        if record.tokenizer_hash != codec.hash:
            if self._recorded is None or self._recorded.horizon != codec.horizon:
                return None
            tokens = codec.encode(
                self._recorded.decode(tokens, record.reference), record.reference
            )
        tokens = tokens.reshape(codec.token_shape)
        return committing(tokens, record.committed_steps, record.warm_start or None)


def evaluations_as_targets(codec: ActionCodec, chunk: Chunk) -> NDArray[np.float64]:
    """Return (E, H, D): what the tokens after each evaluation mean; NaN: a token is masked."""
    tokens = chunk.trace.tokens
    known = ((tokens >= 0) & (tokens < codec.vocabulary_size)).all(axis=-1)
    paths = codec.decode(np.where(known[:, None], tokens, 0), chunk.reference)
    paths[~known] = np.nan
    return paths


@dataclass(frozen=True)
class Job:
    """Chunks for one process.

    Attributes:
        bag: folder or file.
        topics: relative name -> name in the bag.
        checkpoint: folder.
        decoding: how to decode; empty: as the checkpoint says.
        records: to be answered.
    """

    bag: Path
    topics: dict[str, str]
    checkpoint: Path
    decoding: str
    records: tuple[ChunkRecord, ...]


def load_policy(checkpoint: Path, decoding: str) -> Policy:
    """Return the policy, which decodes like another if ``decoding`` says how.

    Raises:
        DfmVlaError: the checkpoint or the settings are of no use.
    """
    return load_like(checkpoint, decoding) if decoding else Policy.load(checkpoint)


def replay(job: Job, processes: int = 1, recorded: ActionCodec | None = None) -> Iterator[Answer]:
    """Yield the answer to every record whose images are there, in any order.

    Args:
        job: what to answer; it is dealt out among the processes.
        processes: that load the policy, this one among them, each with one thread.
        recorded: tokenizer of the records.
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


def _of_others(jobs: list[tuple[Job, ActionCodec | None]]) -> list[Answer]:
    return [each for found in run_parallel(_all_answers, jobs, len(jobs)) for each in found]


def answers(job: Job, recorded: ActionCodec | None = None) -> Iterator[Answer]:
    """Yield the answers in this process."""
    replayer = Replayer(load_policy(job.checkpoint, job.decoding), recorded)
    with Bag(job.bag) as bag:
        for moment in seen(read_images(bag, job.topics), job.records):
            yield replayer.answer(moment)


def _all_answers(given: tuple[Job, ActionCodec | None]) -> list[Answer]:
    return list(answers(*given))


def parity(found: Iterable[Answer]) -> tuple[int, int]:
    """Return how many answers could be compared, and how many of them are the recorded tokens."""
    compared = [answer.same for answer in found if answer.same is not None]
    return len(compared), sum(compared)


Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Seen:
    """A chunk with its images.

    Attributes:
        record: of the chunk.
        images: camera -> (H, W, 3) RGB.
        missing: cameras whose image of that moment the bag lacks; a black one stands in.
    """

    record: ChunkRecord
    images: dict[str, Rgb]
    missing: tuple[str, ...] = ()


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


def seen(images: Iterator[tuple[str, int, Rgb]], records: Sequence[ChunkRecord]) -> Iterator[Seen]:
    """Yield every record with its images as soon as all have come; at the end what lacks some."""
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
                yield _seen(record, held.pop(record.number))
    for record in records:
        if held.get(record.number):
            yield _seen(record, held[record.number])


def _seen(record: ChunkRecord, found: Mapping[str, Rgb]) -> Seen:
    """Return the record with its images in its order, black ones for those that are missing."""
    black = np.zeros_like(next(iter(found.values())))
    missing = tuple(camera for camera in record.image_stamps if camera not in found)
    images = {camera: found.get(camera, black) for camera in record.image_stamps}
    return Seen(record, images, missing)
