"""From a bag to the episodes of a data set: frames at the control rate, whole or not at all."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.bags.observations import CLOCK, Playback, Step, make_splitter
from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.storage import TASK_STATUS
from dfm_vla_ros.bags.topics import Topics
from dfm_vla_ros.data.format import Episode
from dfm_vla_ros.errors import BagError
from dfm_vla_ros.observing.sources import COMMANDED, TRIGGER, Array
from dfm_vla_ros.policy.types import Observation
from dfm_vla_ros.robot.joints import JOINT_NAMES

EARLY = 0.25
"""Share of a period by which an image may come before its frame is due."""
JUMPED = "the clock jumped"
KEPT_COMMANDS = 200
"""Commands from before a part that its first label may lie between."""


@dataclass(frozen=True)
class EpisodeSettings:
    """How episodes are cut.

    Attributes:
        period_s: control period of the data set [s].
        split: one of ``observations.SPLITS``.
        instruction: instead of what the bag says.
        task: name of the task; empty: as the bag says, or made of the instruction.
        shortest_s: shorter parts are left out [s].
        success: of episodes of which nothing tells.
    """

    period_s: float = 0.1
    split: str = "auto"
    instruction: str = ""
    task: str = ""
    shortest_s: float = 1.0
    success: bool = False


@dataclass(frozen=True)
class Cut:
    """A part of a bag that ended.

    Attributes:
        key: of the episode in the data set.
        from_ns, to_ns: receipt of the first and of the last frame [ns].
        frames: how many.
        instruction: what was said.
        success: whether the task was done; None if nothing tells.
        episode: the frames, valid until the next cut; None if they are known or left out.
        why: why there is no episode; empty if there is, or if it is known.
    """

    key: str
    from_ns: int
    to_ns: int
    frames: int
    instruction: str
    success: bool | None
    episode: Episode | None = None
    why: str = ""


@dataclass(frozen=True)
class FrameGap:
    """A time without usable frames, between the receipt of two images [ns], and its cause."""

    from_ns: int
    to_ns: int
    why: str

    def text(self, start_ns: int) -> str:
        """Return one line; times count from ``start_ns``."""
        from_s, to_s = ((at - start_ns) * 1e-9 for at in (self.from_ns, self.to_ns))
        return f"{from_s:.3f} s to {to_s:.3f} s: {self.why}"


class FrameGrid:
    """Frame k of a part is due k periods after its first.

    It is the first image from a quarter of a period before that on; one that would be three
    quarters or more late is missing. So images at a multiple of the control rate jitter without
    harm, and no image is two frames.
    """

    def __init__(self, period_s: float) -> None:
        """Begin with the first image."""
        self._period_s = period_s
        self.restart()

    def restart(self) -> None:
        """Let the next image be the first."""
        self._first_s: float | None = None
        self._count = 0

    def is_due(self, at_s: float) -> bool:
        """Return whether the image of ``at_s`` is a frame."""
        return self._ahead(at_s) >= -EARLY

    def is_missed(self, at_s: float) -> bool:
        """Return whether the frame that is due before ``at_s`` is missing."""
        return self._ahead(at_s) >= 1 - EARLY

    def take(self, at_s: float) -> None:
        """Count the image of ``at_s`` as a frame."""
        if self._first_s is None:
            self._first_s = at_s
        self._count += 1

    def _ahead(self, at_s: float) -> float:
        """Return how far ``at_s`` is beyond the frame that is due [periods]."""
        if self._first_s is None:
            return 0.0
        # A stamp has nanoseconds, their sum rounds.
        return (at_s - self._first_s) / self._period_s - self._count + 1e-6


class CommandTrack:
    """What was commanded when, from the start of a part on."""

    def __init__(self) -> None:
        """Know no command."""
        self._times: list[float] = []
        self._positions: list[Array] = []

    def put(self, at_s: float, positions: Array) -> None:
        """Add a command (D,); time only grows."""
        if not self._times or at_s > self._times[-1]:
            self._times.append(at_s)
            self._positions.append(positions)

    def clear(self, keep: int = 0) -> None:
        """Forget all but the newest ``keep``."""
        first = len(self._times) - keep
        del self._times[:first], self._positions[:first]

    def at(self, times: NDArray[np.float64]) -> Array:
        """Return (N, D) on the lines between commands; NaN after the newest."""
        if not self._times:
            return np.full((len(times), len(JOINT_NAMES)), np.nan)
        positions = np.array(self._positions)
        columns = [np.interp(times, self._times, column, right=np.nan) for column in positions.T]
        return np.stack(columns, axis=1)


class Part:
    """Grows frame by frame; images wait in nameless files, so that a killed process leaves none.

    Attributes:
        key: says which frames these are: bag, moment and content of the first.
        first, last: steps of these frames.
        keeps_images: whether the data set still needs the episode.
    """

    def __init__(self, bag: str, folder: Path) -> None:
        """Begin a part of ``bag``; images wait in ``folder``, on a disk with room."""
        self._bag, self._folder = bag, folder
        self._files: dict[str, IO[bytes]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._times: list[float] = []
        self._positions: list[Array] = []
        self._commanded: list[Array] = []
        self.key = ""
        self.first: Step | None = None
        self.last: Step | None = None
        self.keeps_images = True

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._times)

    def begin(self, step: Step, seen: Observation) -> None:
        """Name the part after its first frame, which is still to be added."""
        digest = hashlib.sha256(seen.positions.tobytes())
        for camera in sorted(seen.images):
            digest.update(np.ascontiguousarray(seen.images[camera]).data)
        self.first = step
        self.key = f"{self._bag}@{step.stamp_ns}-{digest.hexdigest()[:12]}"

    def add(self, step: Step, seen: Observation) -> None:
        """Append a frame.

        Raises:
            BagError: an image is of another size than the one before it.
        """
        self._times.append(step.at_s)
        self._positions.append(seen.positions)
        self._commanded.append(seen.commanded)
        self.last = step
        for camera, image in seen.images.items() if self.keeps_images else ():
            if camera not in self._files:
                self._files[camera] = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
                self._shapes[camera] = image.shape
            if image.shape != self._shapes[camera]:
                sizes = f"{self._shapes[camera]} to {image.shape}"
                raise BagError(f"{camera} changes from {sizes} within an episode")
            self._files[camera].write(np.ascontiguousarray(image).data)

    def labels(self, commands: CommandTrack, period_s: float) -> Array:
        """Return (T, D): what was commanded one period after the frame before.

        T is smaller than the number of frames if the commands end early.
        """
        after = commands.at(np.array(self._times[:-1]) + period_s)
        finite = np.isfinite(after).all(axis=1)
        known = len(after) if finite.all() else int(np.argmin(finite))
        return np.concatenate([np.array(self._commanded[:1]), after[:known]])

    def episode(self, targets: Array, **what: Any) -> Episode:
        """Return the episode of the frames with ``targets``; ``what`` are its other fields."""
        length = len(targets)
        for file in self._files.values():
            file.flush()
        return Episode(
            images={
                camera: np.memmap(file, np.uint8, "r", shape=(length, *self._shapes[camera]))
                for camera, file in self._files.items()
            },
            positions=np.array(self._positions[:length]),
            commanded=np.array(self._commanded[:length]),
            targets=targets,
            **what,
        )

    def close(self) -> None:
        """Give the disk back."""
        for file in self._files.values():
            file.close()


class BagEpisodes:
    """Iterates over the episodes of one bag.

    Where frames are missing an episode ends, and the frames after the gap are another: nothing is
    filled. ``gaps`` and the bag's ``faults`` say what was missing.
    """

    def __init__(
        self,
        bag: Bag,
        topics: Topics,
        settings: EpisodeSettings,
        folder: Path,
        known: Callable[[str], bool] = lambda key: False,
    ) -> None:
        """Cut ``bag``; images of the growing episode wait in ``folder``, on a disk with room.

        An episode whose key is ``known`` is not made again.

        Raises:
            BagError: the bag cannot be split so.
        """
        self._bag, self._settings, self._folder, self._known = bag, settings, folder, known
        self._playback = Playback(bag, topics)
        self.observer = self._playback.observer
        self._trigger = topics.trigger
        self._splitter = make_splitter(settings.split, list(topics.statuses.values()))
        self._commands, self._grid = CommandTrack(), FrameGrid(settings.period_s)
        self._part = self._new_part()
        self._number, self._sentence = self._splitter.number, self._splitter.instruction
        self._told: Any = None
        self._waiting: Step | None = None
        self._why, self._success = "", False
        self.gaps: list[FrameGap] = []
        self._looks = 0

    @property
    def split(self) -> str:
        """How the bag is split."""
        return self._splitter.name

    def nothing(self) -> str:
        """Return why there is no frame at all."""
        if not self._looks:
            idle = " while a goal ran: try --split whole" * (self._sentence is None)
            return f"no usable image of {self._trigger} came{idle}"
        return self.gaps[-1].why if self.gaps else "no source was whole at any image"

    def _new_part(self) -> Part:
        return Part(self._bag.path.resolve().name, self._folder)

    def __iter__(self) -> Iterator[Cut]:
        """Yield each part when it ends.

        Raises:
            BagError: nobody says what is done in an episode.
        """
        step: Step | None = None
        for step in self._playback:
            self._note_command()
            if step.name == CLOCK:
                yield from self._cut()
                self._commands.clear()
                self._why = JUMPED
            elif self._splitter.take(step):
                yield from self._end(step)
                self._number, self._sentence = self._splitter.number, self._splitter.instruction
            elif step.looks and self._sentence is not None:
                yield from self._look(step)
            self._note_status(step)
        if step is not None:
            yield from self._end(step)

    def _note_command(self) -> None:
        source = self.observer.sources[COMMANDED]
        if source.value is not None and not source.fault:
            self._commands.put(source.stamp_s, source.value)

    def _note_status(self, step: Step) -> None:
        """Remember success, and why a picture of the triggering camera was refused."""
        if step.name == TASK_STATUS and self._sentence is not None and step.value.success:
            self._success = True
        third = self.observer.sources[f"{TRIGGER}_camera"]
        if third.fault:
            self._why = self._why or f"{third.name}: {third.fault}"

    def _look(self, step: Step) -> Iterator[Cut]:
        """Make a frame of the image just come, if one is due and all is well."""
        self._looks += 1
        if self._waiting is None:
            self._waiting = step
        if self._grid.is_missed(step.at_s):
            yield from self._cut()
        if not self._grid.is_due(step.at_s):
            return
        problem = self.observer.problem(step.now)
        if problem:
            self._why = self._why or problem
            return
        self._close_gap(step)
        self._grid.take(step.at_s)
        self._add(step)

    def _add(self, step: Step) -> None:
        seen = self.observer.observation("")
        if not len(self._part):
            if not self._said():
                at_s = (step.received_ns - self._bag.start_ns) * 1e-9
                raise BagError(
                    f"{self._bag.path} does not say what is done from {at_s:.1f} s on: "
                    "give --instruction"
                )
            self._part.begin(step, seen)
            self._part.keeps_images = not self._known(self._part.key)
            self._commands.clear(KEPT_COMMANDS)
        self._part.add(step, seen)
        self._waiting, self._why = step, ""
        self._told = self.observer.task

    def _said(self) -> str:
        """Return the sentence of the running goal."""
        return self._settings.instruction or self._sentence or ""

    def _close_gap(self, step: Step) -> None:
        """Note the time since the last frame, or the first image of the goal, if it is long."""
        if self._waiting is None:
            return
        passed_s = step.at_s - self._waiting.at_s
        usual = 1.75 if len(self._part) else 0.75
        if self._why != JUMPED and passed_s < usual * self._settings.period_s:
            return
        why = self._why or f"no usable image of {self._trigger} for {passed_s:.3f} s"
        self.gaps.append(FrameGap(self._waiting.received_ns, step.received_ns, why))

    def _end(self, step: Step) -> Iterator[Cut]:
        """End the goal that ran, and begin the next."""
        if self._waiting is not None:
            self._close_gap(step)
        yield from self._cut()
        self._waiting, self._why, self._success = None, "", False
        self.observer.forget_sizes()

    def _cut(self) -> Iterator[Cut]:
        """End the part; the next image may begin another."""
        part, self._part = self._part, self._new_part()
        self._grid.restart()
        try:
            if len(part):
                yield self._finish(part)
        finally:
            part.close()

    def _finish(self, part: Part) -> Cut:
        """Return what became of a part."""
        settings = self._settings
        told, said = self._told, self._said()
        success = None if told is None else self._success
        targets = part.labels(self._commands, settings.period_s)
        ends = (part.key, part.first.received_ns, part.last.received_ns, len(targets))
        length_s = len(targets) * settings.period_s
        if length_s < settings.shortest_s:
            why = f"{length_s:.1f} s is shorter than {settings.shortest_s} s (--shortest)"
            return Cut(*ends, said, success, why=why)
        if not part.keeps_images:
            return Cut(*ends, said, success)
        episode = part.episode(
            targets,
            task=settings.task or (told and told.task) or _task_name(said),
            seed=self._number if told is None else int(told.seed),
            instruction=said,
            success=settings.success if success is None else success,
            period_s=settings.period_s,
        )
        return Cut(*ends, said, success, episode)


def _task_name(said: str) -> str:
    """Return words of a sentence as the name of its task."""
    return re.sub(r"\W+", "_", said.lower()).strip("_")[:40]
