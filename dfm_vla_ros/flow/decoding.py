"""The loop that the solver and every baseline share: ask the denoiser, advance, hold, record."""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dfm_vla_ros.errors import FlowError
from dfm_vla_ros.flow.paths import Path, check_tokens
from dfm_vla_ros.flow.sampling import (
    Draw,
    Generators,
    Noise,
    check_sharpening,
    confidence,
    sharpen,
)
from dfm_vla_ros.flow.types import (
    Committed,
    Denoiser,
    Prediction,
    Solution,
    TraceStep,
    as_prediction,
    committed_positions,
)

Start = tuple[Tensor, float]


class Step(NamedTuple):
    """One network evaluation.

    Attributes:
        kind: Its name in a trace.
        t: Time in [0, 1] that the denoiser is told.
        h: Length of the step, 0 where it has none.
        moment: What the decoder wants to know about it, computed once.
    """

    kind: str
    t: float
    h: float = 0.0
    moment: Any = None


class Advance(NamedTuple):
    """What a step made of the tokens.

    Attributes:
        tokens: (B, N) after the step.
        target: (B, N) predicted x_1.
        rates: (B, N) rates of leaving, None where the step has none.
    """

    tokens: Tensor
    target: Tensor
    rates: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Sharpening:
    """What is done to logits before tokens are chosen from them.

    Attributes:
        temperature: Divides the logits, > 0.
        top_k: Only the k likeliest tokens are considered, None for all.
    """

    temperature: float = 1.0
    top_k: int | None = None

    def __post_init__(self) -> None:
        check_sharpening(self.temperature, self.top_k)


class Decoder(abc.ABC):
    """Anything that turns a denoiser into tokens.

    Args:
        path: Path that the denoiser was trained on; the decoder runs on its device.
        sharpening: Temperature and top-k.
    """

    def __init__(self, path: Path, sharpening: Sharpening) -> None:
        self.path, self.sharpening = path, sharpening
        self._outside = path.outside()

    @torch.no_grad()
    def __call__(
        self,
        denoiser: Denoiser,
        shape: tuple[int, int],
        prefix: Any = None,
        generators: Generators = None,
        committed: tuple[Tensor, Tensor] | None = None,
        start: Start | None = None,
        trace: bool = False,
    ) -> Solution:
        """Return decoded tokens.

        Args:
            denoiser: See `flow.types.Denoiser`.
            shape: (B, N).
            prefix: Handed to the denoiser.
            generators: None, one generator for the batch, or B seeds or generators (then a
                sample does not depend on its batch).
            committed: (mask, tokens), each (N,) or (B, N): positions that stay as they are.
            start: (tokens (B, N), t0): re-noise these to t0 and start there, not at noise.
            trace: Whether to record every step.

        Raises:
            FlowError: If an argument has a wrong shape or a token outside the vocabulary.
        """
        self._check_shape(shape)
        noise = Noise(generators, shape, self.path.device)
        fixed = committed_positions(committed, shape, self.path.device)
        if fixed is not None:
            check_tokens(fixed.tokens.where(fixed.mask, 0), self.path)
        tokens, steps = self.begin(shape, noise, start, fixed)
        if fixed is not None:
            tokens = fixed.hold(tokens)
        return self._run(denoiser, tokens, prefix, noise, fixed, steps, trace)

    @abc.abstractmethod
    def begin(
        self, shape: tuple[int, int], noise: Noise, start: Start | None, fixed: Committed | None
    ) -> tuple[Tensor, list[Step]]:
        """Return the first tokens (B, N) and the steps to do."""

    @abc.abstractmethod
    def advance(self, tokens: Tensor, prediction: Prediction, step: Step, draw: Draw) -> Advance:
        """Do one step on a prediction: no network, no synchronisation with a GPU.

        Args:
            tokens: (B, N).
            prediction: Sharpened logits (B, N, K), and rates where there is a head.
            step: One of those that `begin` returned.
            draw: The step's random numbers.
        """

    def settled(
        self,
        before: Tensor,
        target: Tensor,
        prediction: Prediction,
        fixed: Committed | None,
        previous: Tensor | None = None,
    ) -> Tensor | None:
        """Return (B, 1) bool, samples that need no further step; None never to stop early.

        ``previous`` is the target of the step before, None at the first.
        """
        return None

    def rest(self, before: Tensor, target: Tensor) -> Tensor:
        """Return the tokens (B, N) that settled samples end with."""
        return before

    def ask(
        self, denoiser: Denoiser, tokens: Tensor, step: Step, t: Tensor, prefix: Any
    ) -> Prediction:
        """Return the denoiser's sharpened prediction, -inf where a position has no token."""
        answer = as_prediction(denoiser(tokens, t, prefix))
        expected = (*tokens.shape, self.path.vocabulary)
        if answer.logits.shape != expected:
            got = tuple(answer.logits.shape)
            raise FlowError(f"the denoiser gave logits of shape {got}; {expected} is needed")
        if answer.rates is not None and answer.rates.shape != tokens.shape:
            got = tuple(answer.rates.shape)
            raise FlowError(f"the denoiser gave rates of shape {got}; {expected[:2]} is needed")
        return Prediction(self.sharpen(answer.logits), answer.rates)

    def sharpen(self, logits: Tensor) -> Tensor:
        """Return fp32 logits with temperature, top-k and each position's vocabulary applied."""
        if self._outside is not None:
            logits = logits.masked_fill(self._outside, -math.inf)
        return sharpen(logits, self.sharpening.temperature, self.sharpening.top_k)

    def _run(
        self,
        denoiser: Denoiser,
        tokens: Tensor,
        prefix: Any,
        noise: Noise,
        fixed: Committed | None,
        steps: list[Step],
        trace: bool,
    ) -> Solution:
        record: list[TraceStep] = []
        done: Tensor | None = None
        previous: Tensor | None = None
        times = torch.tensor([step.t for step in steps], device=tokens.device)
        times = times.unsqueeze(-1).expand(-1, tokens.shape[0])
        evaluations = 0
        for step, t in zip(steps, times, strict=True):
            before = tokens
            prediction = self.ask(denoiser, before, step, t, prefix)
            evaluations += 1
            tokens, target, rates = self.advance(before, prediction, step, noise.draw())
            if fixed is not None:
                tokens = fixed.hold(tokens)
            now = self.settled(before, target, prediction, fixed, previous)
            previous = target
            if now is not None:
                rest = self.rest(before, target)
                tokens = torch.where(now, rest if fixed is None else fixed.hold(rest), tokens)
                if done is not None:
                    tokens = torch.where(done, before, tokens)
                done = now if done is None else done | now
            if trace:
                record.append(_record(step, before, tokens, target, rates, prediction))
            if done is not None and bool(done.all()):
                break
        check_finite(prediction)
        return Solution(tokens, evaluations, tuple(record))

    def _check_shape(self, shape: tuple[int, int]) -> None:
        if len(shape) != 2 or min(shape) < 1:
            raise FlowError(f"shape is {shape}; give (B, N), both at least 1")
        if self.path.positions not in (None, shape[1]):
            raise FlowError(f"{shape[1]} positions for a path of {self.path.positions}")


def check_finite(prediction: Prediction) -> None:
    """Raise `FlowError` if a solve's last prediction is not a number somewhere.

    Once a solve, for it waits for a GPU. -inf is a logit like any other: an impossible token.
    """
    for name, part in (("logits", prediction.logits), ("rates", prediction.rates)):
        if part is not None and not bool((part < math.inf).all()):
            raise FlowError(
                f"the denoiser gave {name} that are NaN or infinite; its weights or its input are"
            )


def renoise(path: Path, start: Start, shape: tuple[int, int], draw: Draw) -> Tensor:
    """Return the start's tokens noised to its t0, (B, N).

    Raises:
        FlowError: If the tokens do not fit the shape or t0 leaves [0, 1].
    """
    tokens, t0 = start
    if tokens.shape != torch.Size(shape):
        raise FlowError(f"start tokens are {tuple(tokens.shape)}; {tuple(shape)} is decoded")
    t = torch.full(shape[:1], float(t0), device=path.device)
    return path.corrupt(tokens.to(path.device), t, (draw.target, draw.place))


def _record(
    step: Step,
    before: Tensor,
    tokens: Tensor,
    target: Tensor,
    rates: Tensor | None,
    prediction: Prediction,
) -> TraceStep:
    return TraceStep(
        kind=step.kind,
        t=step.t,
        tokens=tokens,
        target=target,
        rates=torch.zeros_like(tokens, dtype=torch.float32) if rates is None else rates,
        jumped=tokens != before,
        confidence=confidence(prediction.logits, target),
    )
