"""The policy: tokenise an observation, refine action tokens from noise, return them."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.flow.solvers import Solver, SolverConfig
from dfm_vla_ros.model.checkpoint import Checkpoint, DecoderConfig, folder_hash
from dfm_vla_ros.model.refiner import Prefix
from dfm_vla_ros.policy.types import Chunk, Guidance, Observation
from dfm_vla_ros.tokens.action import ActionTokenizer


class ObservationError(DfmVlaError):
    """An observation that the policy cannot use."""


class Policy:
    """A checkpoint, ready to act.

    ``act`` is not thread-safe: call it from one thread.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        checkpoint_hash: str = "",
        decoder: DecoderConfig | None = None,
        device: str = "cpu",
    ) -> None:
        """Use ``checkpoint`` with its own decoder settings unless ``decoder`` is given."""
        self._checkpoint = checkpoint
        self._device = torch.device(device)
        self.checkpoint_hash = checkpoint_hash
        self.decoder = decoder or checkpoint.config.decoder
        path = checkpoint.config.path.build(checkpoint.config.refiner.action_vocabulary)
        self._solver = Solver(path.to(self._device), SolverConfig(**asdict(self.decoder)))
        self._text = lru_cache(maxsize=32)(checkpoint.text.encode)

    @classmethod
    def load(
        cls,
        folder: Path | str,
        device: str = "cpu",
        threads: int = 1,
        refinement_steps: int | None = None,
        validation_steps: int | None = None,
    ) -> Policy:
        """Load a checkpoint folder.

        Args:
            folder: see ``model.checkpoint``.
            device: "cpu" or "cuda".
            threads: CPU threads of torch; more than one collapses on busy cores.
            refinement_steps: instead of the checkpoint's.
            validation_steps: instead of the checkpoint's.

        Raises:
            CheckpointError, TokenizerError: the folder is incomplete or not of one piece.
        """
        torch.set_num_threads(threads)
        checkpoint = Checkpoint.load(Path(folder), device)
        given = {"refinement_steps": refinement_steps, "validation_steps": validation_steps}
        changed = {key: value for key, value in given.items() if value is not None}
        decoder = replace(checkpoint.config.decoder, **changed)
        return cls(checkpoint, folder_hash(Path(folder)), decoder, device)

    @property
    def tokenizer(self) -> ActionTokenizer:
        """The action tokenizer: decodes the tokens of a chunk."""
        return self._checkpoint.action

    @property
    def cameras(self) -> tuple[str, ...]:
        """Views that an observation must have."""
        return self._checkpoint.config.cameras

    @property
    def image_size(self) -> int:
        """Side of the square images that the network sees [px]; others are resized."""
        return self._checkpoint.config.image_tokenizer.image_size

    @property
    def horizon(self) -> int:
        """Steps of a chunk."""
        return self.tokenizer.horizon

    @property
    def control_period_s(self) -> float:
        """Time between the steps of a chunk [s]."""
        return self.tokenizer.control_period_s

    @property
    def execute_steps(self) -> int:
        """Steps to execute before the next chunk is due."""
        return self._checkpoint.config.execute_steps

    @property
    def refinement_steps(self) -> int:
        """CTMC Euler steps a chunk."""
        return self.decoder.refinement_steps

    @property
    def validation_steps(self) -> int:
        """Validation steps a chunk."""
        return self.decoder.validation_steps

    @property
    def tasks(self) -> dict[str, str]:
        """Task -> sentence of the demonstrations that the checkpoint was trained on."""
        return dict(self._checkpoint.config.tasks)

    def check_instruction(self, instruction: str) -> None:
        """Raise TokenizerError if no word of ``instruction`` is known."""
        self._text(instruction)

    @torch.inference_mode()
    def act(
        self, observation: Observation, seed: int = 0, guidance: Guidance | None = None
    ) -> Chunk:
        """Return the next chunk; the same observation, seed and guidance give the same tokens.

        Args:
            observation: one moment.
            seed: of the refinement.
            guidance: tokens to keep and to start from; None: all start as noise.

        Raises:
            ObservationError: a camera is missing, or an image, joint array or guidance is
                malformed.
            TokenizerError: no word of the instruction is known, or a joint is not finite.
            FlowError: the guidance's t0 leaves no step.
        """
        began = time.perf_counter()
        cache = self._checkpoint.refiner.prefill(self._prefix(observation))
        count = self.horizon * len(self.tokenizer.joint_names)
        solution = self._solver(
            lambda tokens, _t, prefix: self._checkpoint.refiner.denoise(tokens, prefix),
            shape=(1, count),
            prefix=cache,
            generators=[seed],
            committed=self._committed(guidance),
            start=self._start(guidance),
        )
        tokens = solution.tokens.cpu().numpy().reshape(self.horizon, -1)
        reference = np.array(observation.commanded, dtype=np.float64)
        return Chunk(
            tokens,
            reference,
            time.perf_counter() - began,
            solution.evaluations,
            guidance.committed_steps if guidance else 0,
        )

    def _committed(self, guidance: Guidance | None) -> tuple[Tensor, Tensor] | None:
        """Return mask and tokens (N,) to hold."""
        if guidance is None:
            return None
        expected = (self.horizon, len(self.tokenizer.joint_names))
        for name in ("committed", "tokens"):
            shape = np.shape(getattr(guidance, name))
            if shape != expected:
                raise ObservationError(f"guidance.{name} has shape {shape}, expected {expected}")
        flat = (guidance.committed.reshape(-1), guidance.tokens.reshape(-1))
        mask, tokens = (torch.from_numpy(part).to(self._device) for part in flat)
        return mask, tokens

    def _start(self, guidance: Guidance | None) -> tuple[Tensor, float] | None:
        """Return tokens (1, N) to start from and their t0."""
        if guidance is None or guidance.start_t0 is None:
            return None
        return self._row(guidance.tokens.reshape(-1)), guidance.start_t0

    def _prefix(self, observation: Observation) -> Prefix:
        config = self._checkpoint.config
        missing = [camera for camera in config.cameras if camera not in observation.images]
        if missing:
            raise ObservationError(f"no image of camera {missing[0]}; needed: {config.cameras}")
        views = [square(observation.images[camera], self.image_size) for camera in config.cameras]
        images = torch.from_numpy(np.stack(views)).to(self._device)
        codes = self._checkpoint.image_tokenizer.encode(images)[None]
        return Prefix(
            self._row(self._text(observation.instruction)), codes, self._joints(observation)
        )

    def _joints(self, observation: Observation) -> Tensor:
        expected = (len(self.tokenizer.joint_names),)
        for name in ("positions", "commanded"):
            shape = np.shape(getattr(observation, name))
            if shape != expected:
                raise ObservationError(f"{name} have shape {shape}, expected {expected}")
        encode = self._checkpoint.proprioception.encode
        return self._row(
            np.concatenate([encode(observation.positions), encode(observation.commanded)])
        )

    def _row(self, tokens: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(tokens)[None].to(self._device)


def square(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the centre square of ``image`` (H, W, 3) uint8, resized to (size, size, 3).

    Raises:
        ObservationError: another type or shape.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ObservationError(
            f"image is {image.dtype} {image.shape}, expected uint8 (H, W, 3): convert it to RGB"
        )
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cut = image[top : top + side, left : left + side]
    return cut if side == size else cv2.resize(cut, (size, size), interpolation=cv2.INTER_AREA)
