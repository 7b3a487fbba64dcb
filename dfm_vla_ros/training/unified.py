"""A unified refiner and its data as the training loop wants them; see `Trainable`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dfm_vla_ros.model.folder import folder_hash
from dfm_vla_ros.model.unified import UnifiedRefiner
from dfm_vla_ros.model.unified_checkpoint import UnifiedCheckpoint
from dfm_vla_ros.training.config import ConfigError, TrainConfig
from dfm_vla_ros.training.draws import Draws
from dfm_vla_ros.training.frames import Frames, make_frames, split
from dfm_vla_ros.training.objectives import make_objective
from dfm_vla_ros.training.preparing import load_sources
from dfm_vla_ros.training.run_folder import RunFolder
from dfm_vla_ros.training.trainable import Batch
from dfm_vla_ros.training.unified_frames import Codes, UnifiedFrames, encode_all, tokenize
from dfm_vla_ros.training.unified_weights import load_to_train, saved_checkpoint


class UnifiedTrainable:
    """A unified checkpoint that is fine-tuned; see `trainable.Trainable`.

    Attributes:
        network: with adapters if there are any.
        samples: number of training frames.
        fingerprint: of the data and the weights that it began with.
    """

    def __init__(
        self,
        config: TrainConfig,
        checkpoint: UnifiedCheckpoint,
        frames: UnifiedFrames,
        split: tuple[Tensor, Tensor],
        fingerprint: str,
        device: torch.device,
    ) -> None:
        """Use the refiner of ``checkpoint``, which is in the folder ``config.init``.

        Args:
            config: of the run.
            checkpoint: its refiner is ready to be trained.
            frames: tokens of all episodes.
            split: frames that are trained on, and those that are only measured.
            fingerprint: see the class.
            device: that losses are computed on.
        """
        self._config, self._checkpoint, self._frames = config, checkpoint, frames
        self._index, self._held = split
        self._device, vocabulary = device, checkpoint.action.vocabulary_size
        self._objective = make_objective(config, vocabulary, device)
        self._noise = make_objective(config, vocabulary, "cpu")
        self.network: UnifiedRefiner = checkpoint.refiner
        self.samples, self.fingerprint = len(self._index), fingerprint

    def matrices(self, name: str, parameter: nn.Parameter) -> bool:
        """Return whether ``parameter`` is a projection of the layers: adapters are not."""
        return parameter.ndim == 2 and ".layers." in name and ".lora_" not in name

    def batch(self, draws: Draws) -> Batch:
        """Return prefixes and noised actions; see `Trainable.batch`."""
        index = self._index[draws.samples(self.samples)]
        return self._batch(index, self._noise.times(draws), draws)

    def _batch(self, index: Tensor, times: Tensor, draws: Draws) -> Batch:
        ids, padding = self._frames.prefixes(index.tolist())
        x1 = self._frames.actions[index]
        shape = (2, times.shape[1], x1.shape[1])
        xt = self._noise.corrupt(x1, times, draws.uniform("noise", shape).transpose(0, 1))
        tensors = {"ids": ids, "x1": x1, "xt": xt, "times": times}
        if bool(padding.any()):
            tensors["padding"] = padding
        return Batch(tensors, self._noise.weight(xt))

    def loss(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return the sum of the losses; see `Trainable.loss`."""
        tensors = batch.tensors
        answer = self._answer(network, tensors)
        return self._objective.loss(answer, tensors["xt"], tensors["x1"], tensors["times"])

    def _answer(self, network: nn.Module, tensors: Mapping[str, Tensor]) -> Tensor:
        causal, padding = self._objective.causal, tensors.get("padding")
        return network(tensors["ids"], tensors["xt"], causal, padding)

    def held_out(self, network: nn.Module) -> dict[str, float]:
        """Return loss and median error [tokens] from pure noise, on held-out episodes."""
        if not len(self._held):
            return {}
        loss = error = weight = 0.0
        for number, index in enumerate(self._held.split(self._config.batch)):
            draws = Draws(0, number, len(index), range(len(index)))
            batch = self._batch(index, torch.zeros(len(index), 1), draws)
            tensors = {name: value.to(self._device) for name, value in batch.tensors.items()}
            answer, x1 = self._answer(network, tensors), tensors["x1"]
            loss += float(self._objective.loss(answer, tensors["xt"], x1, tensors["times"]))
            error += float((self._objective.guess(answer)[:, 0] - x1).abs().sum())
            weight += float(x1.numel())
        return {"held_loss": loss / weight, "held_error_bins": error / weight}

    def save(self, folder: Path, weights: Mapping[str, Tensor], readme: str) -> None:
        """Write an ordinary checkpoint, adapters merged; see `Trainable.save`."""
        saved_checkpoint(self._config, self._checkpoint, weights).save(folder, readme)


def make_trainable(
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
        split(frames.episode, config.held_out, config.seed),
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
