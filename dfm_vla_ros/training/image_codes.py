"""Image codes of all frames, each image encoded once by each tokenizer and kept on the disk."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from dfm_vla_ros.data.format import Episode
from dfm_vla_ros.files import write_bytes
from dfm_vla_ros.model.vision import FsqTokenizer, square
from dfm_vla_ros.training.config import AugmentationConfig, TrainConfig
from dfm_vla_ros.training.frames import Source
from dfm_vla_ros.training.trainable import stream

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

    def all(self, sources: Sequence[Source]) -> Codes:
        """Return (F, 1 + variants, V, G * G) of all frames."""
        with ThreadPoolExecutor(WORKERS) as pool:
            found = pool.map(self.episode, sources)
            bar = tqdm(found, total=len(sources), desc="image tokens", unit=" episodes")
            return np.concatenate(list(bar))

    def episode(self, source: Source) -> Codes:
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
    sources: Sequence[Source], cameras: Sequence[str], size: int
) -> Iterator[Episode]:
    """Yield the episodes with images of ``size``."""
    for source in sources:
        episode = source.read(images=True)
        for camera in cameras:
            episode.images[camera] = resized(episode.images[camera], size)
        yield episode
