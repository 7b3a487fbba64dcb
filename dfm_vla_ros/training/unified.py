"""A unified checkpoint as a `Trainable`: token ids in memory, with or without adapters."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from dfm_vla_ros.data.format import DatasetError
from dfm_vla_ros.model.folder import folder_hash
from dfm_vla_ros.model.unified_checkpoint import UnifiedCheckpoint
from dfm_vla_ros.model.vision import fitted
from dfm_vla_ros.tokens.layout import Layout
from dfm_vla_ros.training.config import ConfigError, TrainConfig
from dfm_vla_ros.training.frames import CodeCache, EpisodeSource, Frames, make_frames, open_cache
from dfm_vla_ros.training.objectives import Draws
from dfm_vla_ros.training.preparing import load_sources
from dfm_vla_ros.training.run_folder import RunFolder
from dfm_vla_ros.training.trainable import Trainable
from dfm_vla_ros.training.unified_weights import load_to_train, saved_checkpoint

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
    sources: Sequence[EpisodeSource],
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


def _encode(checkpoint: UnifiedCheckpoint, source: EpisodeSource, cache: CodeCache) -> Codes:
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


class UnifiedTrainable(Trainable):
    """A unified checkpoint that is fine-tuned; its network has adapters if there are any."""

    held_noise = "noise"

    def __init__(
        self,
        config: TrainConfig,
        checkpoint: UnifiedCheckpoint,
        frames: UnifiedFrames,
        episode: NDArray[np.int64],
        fingerprint: str,
        device: torch.device,
    ) -> None:
        """Use the refiner of ``checkpoint``, which is in the folder ``config.init``."""
        super().__init__(config, checkpoint.action.vocabulary_size, episode, device)
        self.checkpoint, self.frames, self.fingerprint = checkpoint, frames, fingerprint
        self.network, self.held_batch = checkpoint.refiner, config.batch

    def matrices(self, name: str, parameter: nn.Parameter) -> bool:
        """Return whether ``parameter`` is a projection of the layers: adapters are not."""
        return parameter.ndim == 2 and ".layers." in name and ".lora_" not in name

    def tensors(self, index: Tensor, draws: Draws | None) -> dict[str, Tensor]:
        """Return ids and, where instructions differ in length, the padding in front of them."""
        ids, padding = self.frames.prefixes(index.tolist())
        found = {"ids": ids, "target": self.frames.actions[index]}
        return {**found, "padding": padding} if bool(padding.any()) else found

    def answer(self, network: nn.Module, tensors: Mapping[str, Tensor], noised: Tensor) -> Tensor:
        """Return what the refiner says of the prefixes and ``noised``."""
        return network(tensors["ids"], noised, self.objective.causal, tensors.get("padding"))

    def save(self, folder: Path, weights: Mapping[str, Tensor], readme: str) -> None:
        """Write an ordinary checkpoint, adapters merged."""
        saved_checkpoint(self.config, self.checkpoint, weights).save(folder, readme)


def make_unified(
    config: TrainConfig, folder: RunFolder, accelerator: Accelerator
) -> UnifiedTrainable:
    """Return the checkpoint in ``config.init``, to be fine-tuned on the data of ``config``.

    Raises:
        DatasetError, CheckpointError, ConfigError: the data sets, the checkpoint or the settings
            do not fit together.
    """
    checkpoint = load_to_train(config)
    sources = load_sources(config)
    frames = make_frames(sources, checkpoint.action.horizon)
    _check_data(config, checkpoint, frames)
    # The first process fills the cache; the others read it.
    with accelerator.main_process_first():
        codes = encode_all(config, checkpoint, sources, accelerator.device)
    checkpoint.config.tasks.update(frames.tasks)
    return UnifiedTrainable(
        config,
        checkpoint,
        tokenize(frames, checkpoint, codes),
        frames.episode,
        _fingerprint(config, frames, codes),
        accelerator.device,
    )


def _check_data(config: TrainConfig, checkpoint: UnifiedCheckpoint, frames: Frames) -> None:
    action = checkpoint.action
    for what, mine, theirs in (
        ("joints", frames.joint_names, action.joint_names),
        ("control period", frames.period_s, action.control_period_s),
    ):
        if mine != theirs:
            raise ConfigError(
                f"{what} of the data is {mine}, but {config.init} has {theirs}: import the model "
                "with a tokenizer that was fitted to these data (dfm-vla tokenizer fit)"
            )


def _fingerprint(config: TrainConfig, frames: Frames, codes: Codes) -> str:
    digest = hashlib.sha256(frames.fingerprint.encode())
    digest.update(folder_hash(Path(config.init)).encode())
    for camera in sorted(codes):
        digest.update(np.ascontiguousarray(codes[camera]).data)
    return digest.hexdigest()
