"""Episodes as training frames: image codes, joints, what is still to go at every step."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfm_vla_ros.data.dataset import Dataset
from dfm_vla_ros.data.format import Episode
from dfm_vla_ros.schema import ConfigError
from dfm_vla_ros.tokens.specification import next_targets


@dataclass(frozen=True)
class Source:
    """One episode of a data set.

    Attributes:
        dataset: where it is.
        index: in the data set.
    """

    dataset: Dataset
    index: int

    @property
    def key(self) -> str:
        """Unique name."""
        return f"{self.dataset.identity}/{self.dataset.keys[self.index]}"

    def read(self, images: bool) -> Episode:
        """Return the episode."""
        return self.dataset.episode(self.index, images)


@dataclass(frozen=True)
class Frames:
    """F observations with their labels.

    Attributes:
        positions: (F, D) measured joints [rad or m].
        commanded: (F, D) commanded joints.
        targets: (F, H, D) clean targets of the next H steps.
        sentence: (F,) index into ``sentences``.
        episode: (F,) number of the episode.
        sentences: the distinct instructions.
        tasks: task -> the instruction that most of its episodes have.
        period_s: control period [s].
        joint_names: of the D joints.
        poses: (F, P) where the objects are, None where that is unknown.
        pose_names: of the P numbers.
    """

    positions: NDArray[np.float64]
    commanded: NDArray[np.float64]
    targets: NDArray[np.float64]
    sentence: NDArray[np.int64]
    episode: NDArray[np.int64]
    sentences: tuple[str, ...]
    tasks: dict[str, str]
    period_s: float
    joint_names: tuple[str, ...]
    poses: NDArray[np.float64] | None = None
    pose_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return F."""
        return len(self.positions)

    @property
    def fingerprint(self) -> str:
        """Hash of the numbers and the sentences."""
        digest = hashlib.sha256(repr((self.sentences, self.tasks, self.period_s)).encode())
        for part in (self.positions, self.commanded, self.targets, self.sentence, self.poses):
            if part is not None:
                digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()


def first_of_each_task(dataset: Dataset, limit: int) -> list[int]:
    """Return the indices of at most ``limit`` (0: all) episodes of each task."""
    seen: Counter[str] = Counter()
    found = []
    for index, row in enumerate(dataset.rows):
        seen[row.task] += 1
        if not limit or seen[row.task] <= limit:
            found.append(index)
    return found


def list_sources(datasets: Sequence[Dataset], limit: int) -> list[Source]:
    """Return the episodes, at most ``limit`` (0: all) of each task and data set.

    Raises:
        ConfigError: there are none, or the data sets differ in control period or joints.
    """
    found = [
        Source(dataset, index)
        for dataset in datasets
        for index in first_of_each_task(dataset, limit)
    ]
    if not found:
        raise ConfigError("the data sets hold no episode; make some with dfm-vla collect")
    for what in ("period_s", "joint_names", "pose_names"):
        values = {getattr(dataset, what): dataset.folder for dataset in datasets}
        if len(values) > 1:
            described = "; ".join(f"{folder}: {value}" for value, folder in values.items())
            raise ConfigError(f"data sets differ in {what}: {described}; train on one kind")
    return found


def sample_images(
    episodes: Iterable[Episode], cameras: Sequence[str], per_episode: int, seed: int
) -> Tensor:
    """Return ``per_episode`` images of each camera and episode, (V, M, S, S, 3) uint8."""
    rng = np.random.default_rng(seed)
    views: list[list[NDArray[np.uint8]]] = [[] for _ in cameras]
    for episode in episodes:
        chosen = rng.integers(len(episode.positions), size=per_episode)
        for view, camera in zip(views, cameras, strict=True):
            view.append(episode.images[camera][chosen])
    return torch.from_numpy(np.stack([np.concatenate(view) for view in views]))


def make_frames(sources: Sequence[Source], horizon: int) -> Frames:
    """Return all frames of ``sources``, without their images."""
    columns: dict[str, list[NDArray]] = {
        key: [] for key in ("positions", "commanded", "targets", "sentence", "episode", "poses")
    }
    sentences: dict[str, int] = {}
    told: dict[str, Counter[str]] = {}
    for number, episode in enumerate(_read(sources)):
        length = len(episode)
        place = sentences.setdefault(episode.instruction, len(sentences))
        columns["positions"].append(episode.positions)
        columns["commanded"].append(episode.commanded)
        columns["targets"].append(next_targets(episode.targets, horizon))
        columns["sentence"].append(np.full(length, place))
        columns["episode"].append(np.full(length, number))
        if episode.poses is not None:
            columns["poses"].append(episode.poses)
        told.setdefault(episode.task, Counter())[episode.instruction] += 1
    arrays = {key: np.concatenate(parts) for key, parts in columns.items() if parts}
    first = sources[0].dataset
    return Frames(
        **arrays,
        sentences=tuple(sentences),
        tasks={task: counts.most_common(1)[0][0] for task, counts in told.items()},
        period_s=first.period_s,
        joint_names=first.joint_names,
        pose_names=first.pose_names,
    )


def _read(sources: Sequence[Source]) -> Iterator[Episode]:
    for source in sources:
        yield source.read(images=False)


def split(episode: NDArray[np.int64], share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return the frames to train on and those of the held-out episodes."""
    count = int(episode.max()) + 1
    held = np.random.default_rng(seed).permutation(count)[: min(round(share * count), count - 1)]
    mask = np.isin(episode, held)
    return torch.from_numpy(np.flatnonzero(~mask)), torch.from_numpy(np.flatnonzero(mask))
