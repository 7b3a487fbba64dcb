"""The decoder that a checkpoint's method asks for, and its network as that decoder's denoiser."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dacite
import numpy as np
import torch
from torch import Tensor

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.flow.baselines import (
    Autoregressive,
    AutoregressiveConfig,
    Masked,
    MaskedConfig,
    OneStep,
    OneStepConfig,
    Remasked,
    RemaskedConfig,
)
from dfm_vla_ros.flow.decoding import Decoder
from dfm_vla_ros.flow.losses import head_log_rates
from dfm_vla_ros.flow.paths import MixturePath, Path
from dfm_vla_ros.flow.solvers import Solver
from dfm_vla_ros.flow.types import Prediction, TraceStep
from dfm_vla_ros.model.caching import Caching, ChunkCache
from dfm_vla_ros.model.engine import Engine
from dfm_vla_ros.model.folder import CheckpointError, DecoderConfig
from dfm_vla_ros.model.unified_weights import Precision
from dfm_vla_ros.policy.types import Guidance, Trace


class DecodingError(DfmVlaError):
    """The text is none that this version wrote."""


@dataclass(frozen=True)
class Decoding:
    """What beside checkpoint, observation, seed and guidance decides the tokens.

    Attributes:
        decoder: steps and choices.
        caching: what evaluations keep.
        precision: of a unified checkpoint's language model; None: as in the file.
    """

    decoder: DecoderConfig
    caching: Caching
    precision: Precision | None = None


def described(decoder: DecoderConfig, caching: Caching, precision: Precision | None) -> str:
    """Return the settings as JSON."""
    return json.dumps(asdict(Decoding(decoder, caching, precision)), sort_keys=True)


def parse(text: str) -> Decoding:
    """Return the settings that `described` wrote.

    Raises:
        DecodingError: it is no such text, or of a version with other settings.
    """
    try:
        content: Any = json.loads(text)
        return dacite.from_dict(Decoding, content, dacite.Config(strict=True))
    except (ValueError, TypeError, AttributeError, dacite.DaciteError, DfmVlaError) as error:
        raise DecodingError(
            f"decoding {text[:80]!r} is not understood ({error}); replay it with the version "
            "that recorded it"
        ) from error


SHARPNESS = 1e3
"""Any positive number: the nearest token is the likeliest whatever it is."""


def make_decoder(config: DecoderConfig, path: Path, grouping: int = 1) -> Decoder:
    """Return the decoder of ``config.method``.

    Args:
        config: steps and choice of tokens.
        path: that the network was trained on.
        grouping: tokens that an autoregressive network predicts at a time.

    Raises:
        FlowError: the settings make no sense.
        CheckpointError: the path is not one that the method decodes.
    """
    method, evaluations = config.method, config.refinement_steps + config.validation_steps
    if method == "flow":
        return Solver(path, config.solver())
    if method == "autoregressive":
        return Autoregressive(path, AutoregressiveConfig(config.target, grouping))
    if method == "one_step":
        return OneStep(path, OneStepConfig(config.target))
    if not hasattr(path, "mask_token"):
        raise CheckpointError(f"method {method!r} needs a path of kind masked")
    if method == "masked":
        return Masked(path, MaskedConfig(evaluations, config.target))
    if method == "remasked":
        return Remasked(path, RemaskedConfig(evaluations, config.target))
    return OneStep(path, OneStepConfig("argmax"))


class NetworkDenoiser:
    """A refiner's outputs as what decoders ask for."""

    def __init__(self, engine: Engine, path: Path, outputs: str = "logits") -> None:
        """Use ``engine``, whose network gives ``outputs``; see `RefinerConfig`.

        Raises:
            CheckpointError: there are rates for a path that is no mixture.
        """
        if outputs == "rates" and not isinstance(path, MixturePath):
            raise CheckpointError("a velocity head needs a path of kind mixture")
        self._engine, self._path, self._outputs = engine, path, outputs

    def __call__(self, tokens: Tensor, t: Tensor, cache: ChunkCache) -> Tensor | Prediction:
        """Return logits (B, N, K), with rates (B, N) where there is a velocity head."""
        answer = self._engine.denoise(tokens, cache)
        if self._outputs == "rates":
            rates = head_log_rates(answer[..., -1], t, self._path.schedule).exp()
            return Prediction(answer[..., :-1], rates)
        if self._outputs == "values":
            return nearest_logits(answer.squeeze(-1), self._path.vocabulary)
        return answer

    def next_logits(self, tokens: Tensor, first: int, count: int, cache: ChunkCache) -> Tensor:
        """Return logits (B, count, K) of the next tokens; see `flow.baselines`."""
        return self._engine.next_logits(tokens, first, count, cache)


def nearest_logits(values: Tensor, vocabulary: int) -> Tensor:
    """Return logits (B, N, K) whose argmax is the token nearest to ``values`` (B, N) in -1..1."""
    grid = torch.linspace(-1, 1, vocabulary, device=values.device)
    return -SHARPNESS * (values.unsqueeze(-1) - grid).square()


def as_trace(steps: Sequence[TraceStep], guidance: Guidance | None) -> Trace:
    """Return the record of a batch of one; waits for the device once a field, not once a step."""

    def stacked(name: str) -> np.ndarray:
        return torch.cat([getattr(step, name) for step in steps]).cpu().numpy()

    tokens = stacked("tokens")
    committed = np.zeros(tokens.shape[1], dtype=bool)
    if guidance is not None:
        committed = guidance.committed.reshape(-1).copy()
    return Trace(
        kinds=tuple(step.kind for step in steps),
        times=np.array([step.t for step in steps]),
        tokens=tokens,
        targets=stacked("target"),
        jumped=stacked("jumped"),
        confidence=stacked("confidence").astype(np.float32),
        committed=committed,
    )
