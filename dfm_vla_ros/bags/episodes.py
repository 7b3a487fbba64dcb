"""From a bag to the episodes of a data set."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.bags.observations import CLOCK, Playback, Step
from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.splitting import Cut, EpisodeSettings, Gap, Grid, make_splitter
from dfm_vla_ros.bags.storage import TASK_STATUS
from dfm_vla_ros.bags.topics import Topics
from dfm_vla_ros.data.format import Episode
from dfm_vla_ros.errors import BagError
from dfm_vla_ros.observing.cameras import Rgb
from dfm_vla_ros.observing.sources import COMMANDED, TRIGGER, Array
from dfm_vla_ros.policy.types import Observation
from dfm_vla_ros.robot.joints import JOINT_NAMES


class Spool:
    """Appends images; the files have no name, so that a killed process leaves none."""

    def __init__(self, folder: Path) -> None:
        """Keep the files in ``folder``, which is a disk with room."""
        self._folder = folder
        self._files: dict[str, IO[bytes]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Camera -> shape of its images."""
        self.length = 0

    def append(self, images: Mapping[str, Rgb]) -> None:
        """Add a frame.

        Raises:
            BagError: an image is of another size than the one before it.
        """
        for camera, image in images.items():
            if camera not in self._files:
                self._files[camera] = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
                self.shapes[camera] = image.shape
            if image.shape != self.shapes[camera]:
                sizes = f"{self.shapes[camera]} to {image.shape}"
                raise BagError(f"{camera} changes from {sizes} within an episode")
            self._files[camera].write(np.ascontiguousarray(image).data)
        self.length += 1

    def images(self, length: int) -> dict[str, NDArray[np.uint8]]:
        """Return camera -> the first ``length`` images (T, H, W, 3), mapped from the disk."""
        for file in self._files.values():
            file.flush()
        return {
            camera: np.memmap(file, np.uint8, "r", shape=(length, *self.shapes[camera]))
            for camera, file in self._files.items()
        }

    def close(self) -> None:
        """Give the disk back."""
        for file in self._files.values():
            file.close()


class CommandTrack:
    """What was commanded when, from the start of a part on."""

    def __init__(self) -> None:
        """Know no command."""
        self._times: list[float] = []
        self._positions: list[Array] = []

    def put(self, at_s: float, positions: Array) -> None:
        """Add a command (D,); time only grows."""
        if self._times and at_s <= self._times[-1]:
            return
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
    """Grows frame by frame."""

    def __init__(self, name: str, folder: Path) -> None:
        """Begin a part of the bag ``name``; images wait in ``folder``."""
        self._name, self._spool = name, Spool(folder)
        self._times: list[float] = []
        self._positions: list[Array] = []
        self._commanded: list[Array] = []
        self.key = ""
        """Says which frames these are: bag, moment and content of the first."""
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
        self.key = f"{self._name}@{step.stamp_ns}-{digest.hexdigest()[:12]}"

    def add(self, step: Step, seen: Observation) -> None:
        """Append a frame."""
        self._times.append(step.at_s)
        self._positions.append(seen.positions)
        self._commanded.append(seen.commanded)
        self.last = step
        if self.keeps_images:
            self._spool.append(seen.images)

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
        return Episode(
            images=self._spool.images(length),
            positions=np.array(self._positions[:length]),
            commanded=np.array(self._commanded[:length]),
            targets=targets,
            **what,
        )

    def close(self) -> None:
        """Let go of the images."""
        self._spool.close()


JUMPED = "the clock jumped"
KEPT_COMMANDS = 200
"""Commands from before a part that its first label may lie between."""


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
        """Cut ``bag``.

        Args:
            bag: the recording.
            topics: what its topics are.
            settings: how to cut.
            folder: where images of the growing episode wait, on a disk with room.
            known: whether the data set has the episode of a key: it is not made again.

        Raises:
            BagError: the bag cannot be split so.
        """
        self._bag, self._settings, self._folder, self._known = bag, settings, folder, known
        self._playback = Playback(bag, topics)
        self.observer = self._playback.observer
        self._trigger = topics.trigger
        self._splitter = make_splitter(settings.split, list(topics.statuses.values()))
        self._commands, self._grid = CommandTrack(), Grid(settings.period_s)
        self._part = self._new_part()
        self._goal = self._splitter.goal
        self._told: Any = None
        self._waiting: Step | None = None
        self._why, self._success = "", False
        self.gaps: list[Gap] = []
        self._looks = 0

    @property
    def split(self) -> str:
        """How the bag is split."""
        return self._splitter.name

    def nothing(self) -> str:
        """Return why there is no frame at all."""
        if not self._looks:
            return f"no usable image of {self._trigger} came{self._while_running()}"
        return self.gaps[-1].why if self.gaps else "no source was whole at any image"

    def _while_running(self) -> str:
        return "" if self._goal is not None else " while a goal ran: try --split whole"

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
                self._goal = self._splitter.goal
            elif step.looks and self._goal is not None:
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
        if step.name == TASK_STATUS and self._goal is not None and step.value.success:
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
            self._check_said(step)
            self._part.begin(step, seen)
            self._part.keeps_images = not self._known(self._part.key)
            self._commands.clear(KEPT_COMMANDS)
        self._part.add(step, seen)
        self._waiting, self._why = step, ""
        self._told = self.observer.task

    def _check_said(self, step: Step) -> None:
        if not self._said():
            at_s = (step.received_ns - self._bag.start_ns) * 1e-9
            raise BagError(
                f"{self._bag.path} does not say what is done from {at_s:.1f} s on: "
                "give --instruction"
            )

    def _said(self) -> str:
        """Return the sentence of the running goal."""
        return self._settings.instruction or (self._goal.instruction if self._goal else "")

    def _close_gap(self, step: Step) -> None:
        """Note the time since the last frame, or the first image of the goal, if it is long."""
        if self._waiting is None:
            return
        passed_s = step.at_s - self._waiting.at_s
        usual = 1.75 if len(self._part) else 0.75
        if self._why != JUMPED and passed_s < usual * self._settings.period_s:
            return
        why = self._why or f"no usable image of {self._trigger} for {passed_s:.3f} s"
        self.gaps.append(Gap(self._waiting.received_ns, step.received_ns, why))

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
            task=settings.task or _task(told, said),
            seed=self._goal.number if told is None else int(told.seed),
            instruction=said,
            success=settings.success if success is None else success,
            period_s=settings.period_s,
        )
        return Cut(*ends, said, success, episode)


def _task(told: Any, said: str) -> str:
    """Return the task's name: what the status says, or words of the sentence."""
    if told is not None and told.task:
        return told.task
    return re.sub(r"\W+", "_", said.lower()).strip("_")[:40]
