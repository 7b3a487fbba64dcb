"""Episodes as training frames: joints, what is still to go at every step, codes of the images."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from dfm_vla_ros.data.dataset import Dataset
from dfm_vla_ros.data.format import Episode
from dfm_vla_ros.files import write_bytes
from dfm_vla_ros.model.vision import FsqTokenizer, square
from dfm_vla_ros.schema import ConfigError
from dfm_vla_ros.tokens.specification import next_targets
from dfm_vla_ros.training.config import AugmentationConfig, TrainConfig
from dfm_vla_ros.training.objectives import stream


@dataclass(frozen=True)
class EpisodeSource:
    """One episode of a data set.

    Attributes:
        dataset: where it is.
        index: in the data set.
    """

    dataset: Dataset
    index: int

    @property
    def task(self) -> str:
        """Name of its task."""
        return self.dataset.rows[self.index].task

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


def list_sources(datasets: Sequence[Dataset], limit: int) -> list[EpisodeSource]:
    """Return the episodes, at most ``limit`` (0: all) of each task and data set.

    Raises:
        ConfigError: there are none, or the data sets differ in control period or joints.
    """
    found = [
        EpisodeSource(dataset, index)
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


def make_frames(sources: Sequence[EpisodeSource], horizon: int) -> Frames:
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


def _read(sources: Sequence[EpisodeSource]) -> Iterator[Episode]:
    for source in sources:
        yield source.read(images=False)


def split(episode: NDArray[np.int64], share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return the frames to train on and those of the held-out episodes."""
    count = int(episode.max()) + 1
    held = np.random.default_rng(seed).permutation(count)[: min(round(share * count), count - 1)]
    mask = np.isin(episode, held)
    return torch.from_numpy(np.flatnonzero(~mask)), torch.from_numpy(np.flatnonzero(mask))


Codes = NDArray[np.int16]
WORKERS = 2
"""Threads: decoding videos and the network's arithmetic hold no lock."""


def tokenizer_hash(tokenizer: FsqTokenizer) -> str:
    """Return the sha256 of its sizes and weights, hex."""
    digest = hashlib.sha256(repr(tokenizer.config).encode())
    for name, value in sorted(tokenizer.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


CHECKSUM = 4
"""Bytes of the CRC-32 at the end of a kept file, after an array in the ``.npy`` format."""


class CodeCache:
    """Codes that one tokenizer made; other tokenizers and processes may use the same folder."""

    def __init__(self, folder: Path, tokenizer_hash: str) -> None:
        """Keep files below ``folder``, in one of the tokenizer's own, made when needed."""
        self._folder, self._hash = Path(folder) / tokenizer_hash[:16], tokenizer_hash

    def get(self, episode: str, name: str) -> NDArray | None:
        """Return the kept array, mapped read-only, or None if it is absent or damaged.

        Args:
            episode: unique among all data sets.
            name: what of the episode: camera, and how the images were changed.
        """
        path = self._path(episode, name)
        try:
            content = path.read_bytes()
            if zlib.crc32(content[:-CHECKSUM]) != int.from_bytes(content[-CHECKSUM:], "little"):
                return None
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None

    def put(self, episode: str, name: str, codes: NDArray) -> None:
        """Keep an array; who reads meanwhile gets the old one, the new one or none."""
        file = io.BytesIO()
        np.save(file, codes, allow_pickle=False)
        content = file.getvalue()
        checksum = zlib.crc32(content).to_bytes(CHECKSUM, "little")
        write_bytes(self._path(episode, name), content + checksum)

    def _path(self, episode: str, name: str) -> Path:
        digest = hashlib.sha256(repr((self._hash, episode, name)).encode()).hexdigest()
        return self._folder / digest[:2] / f"{digest[2:34]}.npy"


def open_cache(config: TrainConfig, tokenizer: FsqTokenizer) -> CodeCache:
    """Return the cache that ``config`` names, by default in a folder beside the run's."""
    named = Path(config.token_cache) if config.token_cache else None
    beside = Path(config.out).absolute().parent / "image_tokens"
    return CodeCache(named or beside, tokenizer_hash(tokenizer))


OTHERS = ("variants", "code_dropout", "joint_shift_rad", "pose_shift_m")
"""Keys that do not change an image."""


def version_name(config: AugmentationConfig, seed: int, version: int) -> str:
    """Return what tells apart the cached codes of version 0 (clean), 1, 2, ..."""
    if version == 0:
        return "clean"
    kept = {k: v for k, v in asdict(config).items() if k not in OTHERS}
    return f"{stream(seed, version, sorted(kept.items())):016x}"


def changed(
    images: NDArray[np.uint8], config: AugmentationConfig, *identity: object
) -> NDArray[np.uint8]:
    """Return ``images`` (T, H, W, 3) with other brightness, contrast and place, frame by frame.

    Args:
        images: of one camera and episode.
        config: the largest changes.
        identity: what the changes follow from, such as seed, episode, camera and version.
    """
    rng = np.random.default_rng(stream("augmentation", *identity))
    gain = 1 + config.contrast * rng.uniform(-1, 1, len(images))
    offset = 255 * config.brightness * rng.uniform(-1, 1, len(images)) / 2
    reach = config.shift_px
    moves = rng.integers(-reach, reach + 1, (len(images), 2))
    out = np.empty_like(images)
    for place, (image, move) in enumerate(zip(images, moves, strict=True)):
        light = (image.astype(np.float32) - 127.5) * gain[place] + 127.5 + offset[place]
        out[place] = shifted(np.rint(np.clip(light, 0, 255)).astype(np.uint8), *move)
    return out


def shifted(image: NDArray[np.uint8], down: int, right: int) -> NDArray[np.uint8]:
    """Return ``image`` (H, W, 3) moved; its edges repeat."""
    rows = np.clip(np.arange(image.shape[0]) - down, 0, image.shape[0] - 1)
    columns = np.clip(np.arange(image.shape[1]) - right, 0, image.shape[1] - 1)
    return image[rows[:, None], columns[None]]


class Encoder:
    """Episodes of some cameras -> codes, clean and changed."""

    def __init__(
        self,
        tokenizer: FsqTokenizer,
        cameras: Sequence[str],
        cache: CodeCache,
        augmentation: AugmentationConfig,
        seed: int,
    ) -> None:
        """Keep codes in ``cache``, which belongs to the tokenizer."""
        self._tokenizer, self._cameras, self._cache = tokenizer, tuple(cameras), cache
        self._augmentation, self._seed = augmentation, seed

    def all(self, sources: Sequence[EpisodeSource]) -> Codes:
        """Return (F, 1 + variants, V, G * G) of all frames."""
        with ThreadPoolExecutor(WORKERS) as pool:
            found = pool.map(self.episode, sources)
            bar = tqdm(found, total=len(sources), desc="image tokens", unit=" episodes")
            return np.concatenate(list(bar))

    def episode(self, source: EpisodeSource) -> Codes:
        """Return (T, 1 + variants, V, G * G) of one episode."""
        versions = range(self._augmentation.variants + 1)
        names = [version_name(self._augmentation, self._seed, version) for version in versions]
        kept = {
            (version, camera): self._cache.get(source.key, f"{camera} {names[version]}")
            for version in versions
            for camera in self._cameras
        }
        missing = [which for which, codes in kept.items() if codes is None]
        images = source.read(images=True).images if missing else {}
        for version, camera in missing:
            codes = self._encode(images[camera], source.key, version, camera)
            self._cache.put(source.key, f"{camera} {names[version]}", codes)
            kept[version, camera] = codes
        return np.stack(
            [np.stack([kept[version, c] for c in self._cameras], axis=1) for version in versions],
            axis=1,
        )

    def _encode(self, images: NDArray[np.uint8], key: str, version: int, camera: str) -> Codes:
        """Return (T, G * G)."""
        images = resized(images, self._tokenizer.config.image_size)
        if version:
            images = changed(images, self._augmentation, self._seed, key, camera, version)
        device = next(self._tokenizer.parameters()).device
        codes = self._tokenizer.encode(torch.from_numpy(images).to(device))
        return codes.to("cpu", torch.int16).numpy()


def resized(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return (T, size, size, 3) of ``images`` (T, H, W, 3), as the policy sees them."""
    if images.shape[1:3] == (size, size):
        return images
    return np.stack([square(image, size) for image in images])


def read_resized(
    sources: Sequence[EpisodeSource], cameras: Sequence[str], size: int
) -> Iterator[Episode]:
    """Yield the episodes with images of ``size``."""
    for source in sources:
        episode = source.read(images=True)
        for camera in cameras:
            episode.images[camera] = resized(episode.images[camera], size)
        yield episode
