"""Frames as ids of a unified vocabulary: tokens are made once, ids put together for a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from dfm_vla_ros.data.format import DatasetError
from dfm_vla_ros.data.token_cache import TokenCache
from dfm_vla_ros.model.observation import fitted
from dfm_vla_ros.model.unified_checkpoint import UnifiedCheckpoint
from dfm_vla_ros.tokens.layout import Layout
from dfm_vla_ros.training.config import TrainConfig
from dfm_vla_ros.training.frames import Frames, Source
from dfm_vla_ros.training.image_codes import open_cache

Codes = dict[str, NDArray[np.int32]]
"""Camera -> (T, rows * columns) image codes."""
IMAGES_AT_ONCE = 32


@dataclass(frozen=True)
class UnifiedFrames:
    """F observations with their labels.

    Attributes:
        layout: of the ids.
        codes: camera -> (F, rows * columns).
        joints: (F, J) proprioception tokens, as many as the layout has.
        texts: the tokens of each distinct instruction.
        sentence: (F,) index into ``texts``.
        actions: (F, N) action tokens x_1.
    """

    layout: Layout
    codes: Codes
    joints: NDArray[np.int64]
    texts: tuple[NDArray[np.int64], ...]
    sentence: NDArray[np.int64]
    actions: Tensor

    def prefixes(self, index: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return all before the actions of the frames ``index`` (B,).

        Returns:
            Ids (B, P), and how many of them (B,) stand for nothing: in front, so that short
            instructions are as long as long ones.
        """
        rows = [self._prefix(i) for i in index]
        longest = max(map(len, rows))
        padding = [longest - len(row) for row in rows]
        pad = self.layout.special["pad"]
        ids = [
            np.pad(row, (n, 0), constant_values=pad) for row, n in zip(rows, padding, strict=True)
        ]
        return torch.from_numpy(np.stack(ids)), torch.tensor(padding)

    def _prefix(self, i: int) -> NDArray[np.int64]:
        codes = {camera: found[i] for camera, found in self.codes.items()}
        return self.layout.prefix(self.texts[self.sentence[i]], codes, self.joints[i])


def tokenize(frames: Frames, checkpoint: UnifiedCheckpoint, codes: Codes) -> UnifiedFrames:
    """Return ``frames``, whose images are ``codes``, in the tokens of ``checkpoint``.

    Raises:
        TokenizerError: an instruction or a number cannot be said in these tokens.
    """
    joints = [checkpoint.proprioception.encode(q) for q in (frames.positions, frames.commanded)]
    actions = checkpoint.action.encode(frames.targets, frames.commanded)
    return UnifiedFrames(
        checkpoint.layout,
        codes,
        # As in acting: a layout may have measured joints alone, or none.
        np.concatenate(joints, axis=1)[:, : checkpoint.layout.proprioception_length],
        tuple(checkpoint.text.encode(sentence) for sentence in frames.sentences),
        frames.sentence,
        torch.from_numpy(actions.reshape(len(actions), -1)),
    )


def encode_all(
    config: TrainConfig,
    checkpoint: UnifiedCheckpoint,
    sources: Sequence[Source],
    device: torch.device,
) -> Codes:
    """Return the codes (F, rows * columns) of all frames, from the cache where it has them.

    Raises:
        DatasetError: an episode cannot be read, or a camera is missing.
    """
    cache = open_cache(config, checkpoint.image_tokenizer)
    checkpoint.image_tokenizer.to(device)
    parts = [
        _encode(checkpoint, source, cache)
        for source in tqdm(sources, desc="image tokens", unit=" episodes")
    ]
    checkpoint.image_tokenizer.to("cpu")
    return {camera: np.concatenate([p[camera] for p in parts]) for camera in parts[0]}


def _encode(checkpoint: UnifiedCheckpoint, source: Source, cache: TokenCache) -> Codes:
    sizes = checkpoint.image_sizes
    names = {camera: f"{camera} {size[0]}x{size[1]}" for camera, size in sizes.items()}
    found = {camera: cache.get(source.key, name) for camera, name in names.items()}
    if any(codes is None for codes in found.values()):
        images = source.read(images=True).images
        missing = [camera for camera in names if camera not in images]
        if missing:
            raise DatasetError(
                f"{source.dataset.folder} has no camera {missing[0]}; the checkpoint sees "
                f"{', '.join(names)}"
            )
        found = encode_images(checkpoint, images)
        for camera, name in names.items():
            cache.put(source.key, name, found[camera])
    return found


@torch.no_grad()
def encode_images(checkpoint: UnifiedCheckpoint, images: Mapping[str, NDArray[np.uint8]]) -> Codes:
    """Return the codes (T, rows * columns) of ``images``, camera -> (T, H, W, 3).

    Raises:
        ObservationError: an image is no uint8 RGB.
    """
    tokenizer, codes = checkpoint.image_tokenizer, {}
    device = next(tokenizer.parameters()).device
    for camera, (height, width) in checkpoint.image_sizes.items():
        views = np.stack([fitted(image, height, width) for image in images[camera]])
        parts = torch.from_numpy(np.ascontiguousarray(views)).split(IMAGES_AT_ONCE)
        found = [tokenizer.encode(part.to(device)).cpu() for part in parts]
        codes[camera] = torch.cat(found).to(torch.int32).numpy()
    return codes
