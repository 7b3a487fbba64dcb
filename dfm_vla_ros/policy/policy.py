"""The policy: tokenise an observation, refine action tokens from noise, return them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

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
from dfm_vla_ros.flow.paths import MixturePath
from dfm_vla_ros.flow.paths import Path as FlowPath
from dfm_vla_ros.flow.solvers import Solver
from dfm_vla_ros.flow.types import Prediction, TraceStep
from dfm_vla_ros.model.caching import Caching, ChunkCache
from dfm_vla_ros.model.engine import Engine
from dfm_vla_ros.model.folder import CheckpointError, DecoderConfig, folder_hash
from dfm_vla_ros.model.loading import AnyCheckpoint, load_checkpoint
from dfm_vla_ros.model.unified_weights import Precision
from dfm_vla_ros.model.vision import ObservationError
from dfm_vla_ros.policy.types import Chunk, Guidance, Observation, Trace
from dfm_vla_ros.schema import parse
from dfm_vla_ros.tokens.codec import ActionCodec


class Policy:
    """A checkpoint of either kind, ready to act.

    ``act`` is not thread-safe: call it from one thread.

    Attributes:
        checkpoint_hash: of the folder; empty if it was never saved.
        decoder: steps and choices of the decoding.
        tokenizer: decodes the tokens of a chunk.
        cameras: views that an observation must have.
        image_sizes: camera -> (height, width) that the network sees [px]; others are cut and
            resized.
        pose_names: of the numbers in ``Observation.poses``; empty for a policy that needs none.
        horizon: steps of a chunk.
        control_period_s: time between the steps of a chunk [s].
        execute_steps: steps to execute before the next chunk is due.
        tasks: task -> sentence of the demonstrations that the checkpoint was trained on.
    """

    def __init__(
        self,
        checkpoint: AnyCheckpoint,
        checkpoint_hash: str = "",
        decoder: DecoderConfig | None = None,
        device: str = "cpu",
        caching: Caching | None = None,
    ) -> None:
        """Use ``checkpoint`` with its own decoder settings unless ``decoder`` is given.

        ``caching`` says what the evaluations of a chunk keep; default: the prefix, exactly.
        """
        config = checkpoint.config
        self._checkpoint, self._device = checkpoint, torch.device(device)
        self.checkpoint_hash, self.decoder = checkpoint_hash, decoder or config.decoder
        self.tokenizer: ActionCodec = checkpoint.action
        self.horizon = self.tokenizer.horizon
        self.control_period_s = self.tokenizer.control_period_s
        self.cameras, self.image_sizes = config.cameras, checkpoint.image_sizes
        self.pose_names = checkpoint.pose_names
        self.execute_steps, self.tasks = config.execute_steps, dict(config.tasks)
        path = config.path.build(self.tokenizer.vocabulary_size).to(self._device)
        self._solver = make_decoder(self.decoder, path, checkpoint.grouping)
        self._engine = Engine(checkpoint.refiner, caching)
        self._denoiser = NetworkDenoiser(self._engine, path, checkpoint.outputs)
        self._precision: Precision | None = None

    @classmethod
    def load(
        cls,
        folder: Path | str,
        device: str = "cpu",
        threads: int = 1,
        refinement_steps: int | None = None,
        validation_steps: int | None = None,
        early_stop_within: int | None = None,
        caching: Caching | None = None,
        precision: Precision | None = None,
    ) -> Policy:
        """Load a checkpoint folder.

        Args:
            folder: see ``model.checkpoint``.
            device: "cpu" or "cuda".
            threads: CPU threads of torch; more than one collapses on busy cores.
            refinement_steps: instead of the checkpoint's.
            validation_steps: instead of the checkpoint's.
            early_stop_within: instead of the checkpoint's; see ``DecoderConfig``.
            caching: what the evaluations of a chunk keep; default: the prefix.
            precision: of a unified checkpoint's language model; None: as in the file.

        Raises:
            CheckpointError, TokenizerError: the folder is incomplete or not of one piece.
        """
        torch.set_num_threads(threads)
        checkpoint = load_checkpoint(folder, device, precision)
        given = {
            "refinement_steps": refinement_steps,
            "validation_steps": validation_steps,
            "early_stop_within": early_stop_within,
        }
        changed = {key: value for key, value in given.items() if value is not None}
        decoder = replace(checkpoint.config.decoder, **changed)
        policy = cls(checkpoint, folder_hash(Path(folder)), decoder, device, caching)
        policy._precision = precision
        return policy

    @property
    def image_size(self) -> int:
        """Longest side of the images that the network sees [px], 0 without; others are resized."""
        return max((max(size) for size in self.image_sizes.values()), default=0)

    @property
    def decoding(self) -> str:
        """How chunks are decoded, as JSON: what ``policy.repeating`` needs to do it again."""
        settings = Decoding(self.decoder, self._engine.caching, self._precision)
        return json.dumps(asdict(settings), sort_keys=True)

    @property
    def computed_share(self) -> float:
        """Share of the action positions that the last chunk computed, 1 without reuse."""
        return self._engine.computed_share

    def check_instruction(self, instruction: str) -> None:
        """Raise TokenizerError if ``instruction`` says nothing that is known."""
        self._checkpoint.text.encode(instruction)

    @torch.inference_mode()
    def act(
        self,
        observation: Observation,
        seed: int = 0,
        guidance: Guidance | None = None,
        trace: bool = False,
    ) -> Chunk:
        """Return the next chunk; the same observation, seed and guidance give the same tokens.

        Args:
            observation: one moment.
            seed: of the refinement.
            guidance: tokens to keep and to start from; None: all start as noise.
            trace: whether to record every evaluation; the tokens are the same.

        Raises:
            ObservationError: a camera is missing, or an image, joint array or guidance is
                malformed.
            TokenizerError: no word of the instruction is known, or a joint is not finite.
            FlowError: the guidance's t0 leaves no step.
        """
        began = time.perf_counter()
        prefix = self._checkpoint.encode_prefix(
            observation.instruction,
            observation.images,
            observation.positions,
            observation.commanded,
            observation.poses,
        )
        committed, start = (None, None) if guidance is None else self._guided(guidance)
        solution = self._solver(
            self._denoiser,
            shape=(1, self.tokenizer.token_count),
            prefix=self._engine.prefill(prefix, self._refinements(start)),
            generators=[seed],
            committed=committed,
            start=start,
            trace=trace,
        )
        return Chunk(
            solution.tokens.cpu().numpy().reshape(self.tokenizer.token_shape),
            np.array(observation.commanded, dtype=np.float64),
            time.perf_counter() - began,
            solution.evaluations,
            guidance.committed_steps if guidance else 0,
            as_trace(solution.trace, guidance) if trace else None,
        )

    def _refinements(self, start: tuple[Tensor, float] | None) -> int:
        """Return the evaluations before validation begins."""
        if start is None or not isinstance(self._solver, Solver):
            return self.decoder.refinement_steps
        return sum(time > start[1] for time in self._solver.config.refinement_grid())

    def _guided(
        self, guidance: Guidance
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, float] | None]:
        """Return mask and tokens (N,) to hold; tokens (1, N) to start from and their t0."""
        if not self.tokenizer.per_step:
            raise ObservationError(
                f"guidance is given, but a token of kind {self.tokenizer.kind!r} belongs to no "
                "step: join chunks in another mode than rtc"
            )
        expected = (self.horizon, len(self.tokenizer.joint_names))
        for name, part in (("committed", guidance.committed), ("tokens", guidance.tokens)):
            if part.shape != expected:
                raise ObservationError(
                    f"guidance.{name} has shape {part.shape}, expected {expected}"
                )
        mask, tokens = (
            torch.from_numpy(part.reshape(-1)).to(self._device)
            for part in (guidance.committed, guidance.tokens)
        )
        t0 = guidance.start_t0
        return (mask, tokens), None if t0 is None else (tokens[None], t0)


def load_like(folder: Path | str, decoding: str, device: str = "cpu", threads: int = 1) -> Policy:
    """Return the policy in ``folder`` with the settings of ``Policy.decoding``.

    Args:
        folder: a checkpoint, the same or another.
        decoding: of the policy that is repeated.
        device: "cpu" or "cuda".
        threads: CPU threads of torch.

    Raises:
        DecodingError: the settings are not understood.
        CheckpointError, TokenizerError: the folder is incomplete or not of one piece.
    """
    settings = parse_decoding(decoding)
    torch.set_num_threads(threads)
    checkpoint = load_checkpoint(folder, device, settings.precision)
    digest = folder_hash(Path(folder))
    return Policy(checkpoint, digest, settings.decoder, device, settings.caching)


class DecodingError(DfmVlaError):
    """Settings of a decoding that this version does not understand."""


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


def parse_decoding(text: str) -> Decoding:
    """Return the settings of ``Policy.decoding``.

    Raises:
        DecodingError: it is no such text, or of a version with other settings.
    """
    try:
        return parse(Decoding, json.loads(text), error=DecodingError)
    except (ValueError, DecodingError) as error:
        raise DecodingError(
            f"decoding {text[:80]!r} is not understood ({error}); replay it with the version "
            "that recorded it"
        ) from error


SHARPNESS = 1e3
"""Any positive number: the nearest token is the likeliest whatever it is."""


def make_decoder(config: DecoderConfig, path: FlowPath, grouping: int = 1) -> Decoder:
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

    def __init__(self, engine: Engine, path: FlowPath, outputs: str = "logits") -> None:
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
