"""Train one network a decoder on the toy and measure validity and diversity of its samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from dfm_vla_ros.errors import FlowError
from dfm_vla_ros.flow.baselines import (
    Autoregressive,
    AutoregressiveConfig,
    Masked,
    MaskedConfig,
    MaskedPath,
    OneStep,
    OneStepConfig,
    Remasked,
    RemaskedConfig,
)
from dfm_vla_ros.flow.decoding import Decoder
from dfm_vla_ros.flow.distances import OrderedDistance
from dfm_vla_ros.flow.losses import cross_entropy, head_log_rates, head_rate_loss
from dfm_vla_ros.flow.paths import MetricPath, MixturePath, Path
from dfm_vla_ros.flow.solvers import Solver, SolverConfig
from dfm_vla_ros.flow.toy.data import MirroredWalk, spread
from dfm_vla_ros.flow.toy.network import ToyNetwork
from dfm_vla_ros.flow.types import Denoiser

DECODERS = (
    "AR",
    "one step",
    "masked",
    "re-masked",
    "embed",
    "embed greedy",
    "head",
    "head greedy",
)
EVALUATIONS = (4, 8, 16, 32)
# Chosen on seed 100, apart from the table's: d = |i - j| (of 3/2, 3, 7, 21 over the range),
CONFIDENCE_NOISE = 4.0  # of 0, 0.5, 1, 2, 4
ETA = 0.1  # of 0, 0.1, 0.2, 0.5, 1; 0 would not re-mask
VALIDATION = 0.25  # share of the evaluations, of none, one, two, four in eight and in 32


@dataclass(frozen=True)
class ToyConfig:
    """Size of the experiment.

    Attributes:
        walk: The data.
        steps: Training steps a network.
        batch: Sequences a step.
        samples: Sequences drawn for a cell of the table.
        learning_rate: AdamW's peak; rises over 50 steps, then falls to 0 along a cosine.
    """

    walk: MirroredWalk = field(default_factory=MirroredWalk)
    steps: int = 1500
    batch: int = 64
    samples: int = 2000
    learning_rate: float = 3e-3

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "samples"):
            if getattr(self, name) < 1:
                raise FlowError(f"{name} is {getattr(self, name)}; give at least 1")


@dataclass(frozen=True)
class Cell:
    """One decoder at one number of evaluations and one seed.

    Attributes:
        decoder: Its name.
        evaluations: Network calls counted while decoding.
        seed: Of training and decoding.
        validity: Share of samples that keep every constraint.
        diversity: Spread of the valid samples over that of the data; 1 is as diverse as the
            data, NaN with fewer than two valid samples.
        distinct: Share of samples that are valid and occur first.
    """

    decoder: str
    evaluations: int
    seed: int
    validity: float
    diversity: float
    distinct: float


class Trained:
    """The networks of one seed, trained when first asked for.

    Args:
        config: Size of the experiment.
        seed: Of the start, the data and the noise.
    """

    def __init__(self, config: ToyConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        levels = config.walk.levels
        self.metric = MetricPath(OrderedDistance(torch.arange(levels)))
        self.mixture, self.masked = MixturePath(levels), MaskedPath(levels)
        self._networks: dict[str, ToyNetwork] = {}

    def decoder(self, name: str, evaluations: int) -> tuple[Decoder, Denoiser]:
        """Return a decoder of so many evaluations and its denoiser.

        Raises:
            FlowError: If there is no such decoder.
        """
        if name == "AR":
            group = -(-self.config.walk.length // evaluations)
            config = AutoregressiveConfig("sample", group)
            return Autoregressive(self.mixture, config), self.network(f"AR {group}").denoise
        if name == "one step":
            return OneStep(self.masked, OneStepConfig("sample")), self.network("masked").denoise
        if name == "masked":
            config = MaskedConfig(evaluations, "sample", confidence_noise=CONFIDENCE_NOISE)
            return Masked(self.masked, config), self.network("masked").denoise
        if name == "re-masked":
            config = RemaskedConfig(evaluations, eta=ETA)
            return Remasked(self.masked, config), self.network("masked").denoise
        if name in ("embed", "embed greedy"):
            return self._solver(self.metric, name, evaluations), self.network("embed").denoise
        if name in ("head", "head greedy"):
            denoise = partial(self.network("head").denoise_with_rates, self.mixture.schedule)
            return self._solver(self.mixture, name, evaluations), denoise
        raise FlowError(f"decoder is {name!r}; choose one of {', '.join(DECODERS)}")

    def _solver(self, path: Path, name: str, evaluations: int) -> Solver:
        """Return a solver that samples x1hat, or takes its argmax where it is greedy."""
        validation = max(1, round(VALIDATION * evaluations))
        target = "argmax" if name.endswith("greedy") else "sample"
        return Solver(path, SolverConfig(evaluations - validation, validation, target=target))

    def network(self, name: str) -> ToyNetwork:
        """Return a network: ``AR g`` (groups of g), ``masked``, ``embed`` or ``head``."""
        if name not in self._networks:
            self._networks[name] = self._train(name)
        return self._networks[name]

    def _train(self, name: str) -> ToyNetwork:
        config, walk = self.config, self.config.walk
        torch.manual_seed(self.seed)
        generator = torch.Generator().manual_seed(self.seed)
        group = int(name.split()[1]) if name.startswith("AR") else 0
        network = ToyNetwork(walk.length, walk.levels, group=group)
        optimiser = torch.optim.AdamW(network.parameters(), config.learning_rate, (0.9, 0.95))
        rate = torch.optim.lr_scheduler.LambdaLR(optimiser, partial(warm_cosine, config.steps))
        for _ in range(config.steps):
            loss = self._loss(
                name.split()[0], network, walk.draw(config.batch, generator), generator
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
        return network.eval()

    def _loss(
        self, kind: str, network: ToyNetwork, x1: Tensor, generator: torch.Generator
    ) -> Tensor:
        t = torch.rand(len(x1), generator=generator).clamp(max=0.999)
        if kind == "AR":
            return cross_entropy(network(x1, torch.zeros_like(t))[0], x1)
        path: Path = {"embed": self.metric, "head": self.mixture, "masked": self.masked}[kind]
        xt = path.sample(x1, t, generator)
        logits, raw = network(xt, t)
        if kind == "masked":
            return cross_entropy(logits, x1, mask=xt == self.masked.mask_token)
        loss = cross_entropy(logits, x1)
        if kind == "head":
            schedule = self.mixture.schedule
            # 1 / w_t evens out the rate loss, which else is all about t near 1.
            weights = (1.0 / schedule.hazard(t)).unsqueeze(-1).expand_as(raw)
            log_rates = head_log_rates(raw, t, schedule)
            loss = loss + head_rate_loss(logits, log_rates, xt, x1, t, schedule, weights)
        return loss


def measure(trained: Trained, name: str, evaluations: int) -> Cell:
    """Return one cell of the table."""
    config, walk = trained.config, trained.config.walk
    decoder, denoiser = trained.decoder(name, evaluations)
    generator = torch.Generator().manual_seed(trained.seed)
    solution = decoder(denoiser, (config.samples, walk.length), generators=generator)
    valid = solution.tokens[walk.valid(solution.tokens)]
    data = walk.draw(config.samples, generator)
    return Cell(
        decoder=name,
        evaluations=solution.evaluations,
        seed=trained.seed,
        validity=len(valid) / config.samples,
        diversity=spread(valid, walk.levels) / spread(data, walk.levels),
        distinct=len(valid.unique(dim=0)) / config.samples,
    )


def run_table(
    config: ToyConfig, seeds: list[int], report: Callable[[Cell], None] = lambda cell: None
) -> list[Cell]:
    """Return every decoder at every number of evaluations and seed; one step has but one."""
    cells = []
    for seed in seeds:
        trained = Trained(config, seed)
        for name in DECODERS:
            for evaluations in (1,) if name == "one step" else EVALUATIONS:
                cells.append(measure(trained, name, evaluations))
                report(cells[-1])
    return cells


def warm_cosine(steps: int, step: int) -> float:
    """Return the learning rate's factor: 50 steps up, then a cosine down to 0."""
    fall = torch.tensor(step / steps * torch.pi)
    return min(1.0, (step + 1) / 50) * 0.5 * (1.0 + float(fall.cos()))
