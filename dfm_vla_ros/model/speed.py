"""Times of decoding one chunk: autoregression, masked diffusion, the flow and its caches.

All on one network's layers, one after the other in turns; the shortest of each counts, since what
else runs on a machine only ever adds time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn

from dfm_vla_ros.flow import MetricPath, MixturePath, OrderedDistance, Solver, SolverConfig
from dfm_vla_ros.flow.baselines import (
    Autoregressive,
    Masked,
    MaskedConfig,
    MaskedPath,
)
from dfm_vla_ros.flow.decoding import Decoder
from dfm_vla_ros.model.caching import Caching, ChunkCache
from dfm_vla_ros.model.checkpoint import Checkpoint
from dfm_vla_ros.model.engine import Engine, Incremental
from dfm_vla_ros.model.refiner import Prefix, Refiner
from dfm_vla_ros.model.unified import UnifiedConfig, UnifiedRefiner, restore_buffers

TOKENS, JOINTS, VOCABULARY = 70, 14, 256
SIZES = {
    "tiny-emu3": UnifiedConfig(
        vocabulary_size=4096, width=64, mlp_width=128, layers=2, heads=4, key_value_heads=2
    ),
    "100m": UnifiedConfig(
        vocabulary_size=16_384, width=768, mlp_width=2304, layers=12, heads=12, key_value_heads=4
    ),
    "8.5b": UnifiedConfig(),
}


@dataclass(frozen=True)
class Network:
    """A network to time.

    Attributes:
        name: of the model.
        refiner: for the flow and for masked diffusion.
        causal: for autoregression: the same layers.
        prefixes: what ``prefill`` takes, one or several, used in turns.
        tokens: of a chunk.
    """

    name: str
    refiner: Incremental
    causal: Incremental
    prefixes: Sequence[Any]
    tokens: int = TOKENS


def make(name: str, device: str, prefix: int) -> Network:
    """Return a network of random weights on ``device``, for a prefix of so many positions."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    refiner = random_unified(SIZES[name], device, dtype)
    ids = torch.randint(0, 1024, (1, prefix), device=device)
    return Network(name, refiner, refiner, [ids])


class Lengthened(Refiner):
    """The small network with its prefix repeated until it has ``length`` positions.

    Copies with the positions of their originals leave what the prefix computes as it is; the
    actions weigh it the more against one another. So it predicts much as it does, at that cost.
    """

    length: int

    def prefill(
        self,
        prefix: Prefix,
        caching: Caching | None = None,
        validation_from: int | None = None,
        into: ChunkCache | None = None,
    ) -> ChunkCache:
        """Return the cache of the lengthened prefix; see `Refiner.prefill`."""
        c, once = self.config, self.embed_prefix(prefix)
        embedded = once.repeat(1, -(-self.length // c.prefix_length), 1)[:, : self.length]
        places = torch.arange(self.length, device=once.device) % c.prefix_length
        actions = torch.arange(c.action_length, device=once.device) + c.prefix_length
        return self.stack.prefill(
            embedded,
            c.action_length,
            False,
            caching or Caching(),
            validation_from,
            into,
            torch.cat([places, actions]),
        )


def small(
    checkpoint: Checkpoint,
    device: str,
    prefixes: Sequence[Prefix],
    length: int,
    a_step: bool = True,
) -> Network:
    """Return the shipped network at a prefix of ``length`` positions and 70 tokens.

    Args:
        checkpoint: the shipped one.
        device: "cpu" or "cuda".
        prefixes: of observations.
        length: positions that it is repeated to.
        a_step: whether the refiner has, as the shipped one, a position for each step of 14 joints,
            or one for each token, with a random embedding. A causal network that is to predict a
            token given all before it has one for each token in any case.
    """
    sizes = replace(checkpoint.config.refiner, horizon=TOKENS // JOINTS)
    refiner, causal = (
        _with_shipped_weights(Lengthened(replace(sizes, grouping=group)), checkpoint, device)
        for group in (JOINTS if a_step else 1, 1)
    )
    refiner.length = causal.length = length
    name = "small" if a_step else "small, a position a token"
    return Network(name, refiner, causal, prefixes)


def shipped(checkpoint: Checkpoint, device: str, prefixes: Sequence[Prefix]) -> Network:
    """Return the checkpoint as it is, for the ``prefixes`` of observations."""
    sizes = replace(checkpoint.config.refiner, grouping=1)
    causal = _with_shipped_weights(Refiner(sizes), checkpoint, device)
    tokens = sizes.horizon * sizes.action_dim
    return Network("small, as shipped", checkpoint.refiner, causal, prefixes, tokens)


def _with_shipped_weights(refiner: Refiner, checkpoint: Checkpoint, device: str) -> Refiner:
    """Copy what fits; of the table of positions the first ones."""
    with torch.no_grad():
        fresh = refiner.state_dict()
        for key, value in checkpoint.refiner.state_dict().items():
            if fresh[key].shape[1:] == value.shape[1:]:
                count = min(len(fresh[key]), len(value))
                fresh[key][:count] = value[:count]
    return refiner.to(device).eval().requires_grad_(False)


def random_unified(config: UnifiedConfig, device: str, dtype: torch.dtype) -> UnifiedRefiner:
    """Return a refiner whose weights are drawn on ``device``, one at a time."""
    with torch.device("meta"):
        refiner = UnifiedRefiner(config, range(1024, 1024 + VOCABULARY), TOKENS, 1023)
    for module in refiner.backbone.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            drawn = torch.empty(weight.shape, device=device, dtype=dtype)
            drawn = drawn.fill_(1.0) if weight.ndim == 1 else drawn.normal_(0, 0.02)
            setattr(module, name, nn.Parameter(drawn, requires_grad=False))
    restore_buffers(refiner.backbone, device)
    refiner.ids = refiner.ids.to(device)
    refiner.keep_rows()
    return refiner.eval()


def step_bytes(refiner: Incremental) -> int:
    """Return the bytes of weights that one refinement step reads: layers, norms, action rows."""
    read = sum(p.numel() * p.element_size() for p in refiner.layers.layers.parameters())
    head = getattr(refiner, "head_rows", None)
    return read + (0 if head is None else head.numel() * head.element_size())


REFINEMENT, VALIDATION = 14, 2
STEPS = REFINEMENT + VALIDATION
SLOW_REPEATS = 2
"""Of the decoders that compute the prefix in every evaluation."""
WITHIN = 1
"""Tokens that a prediction may still move when the flow stops early."""


@dataclass(frozen=True)
class Row:
    """One decoder.

    Attributes:
        decoder: its name.
        device: it ran on.
        model: the network's name.
        chunks_per_s: without prefill.
        ms_per_chunk: without prefill: the shortest evaluation times their number.
        prefill_ms: of the prefix, once a chunk; 0 where every evaluation computes it.
        evaluations: a chunk, on average.
    """

    decoder: str
    device: str
    model: str
    chunks_per_s: float
    ms_per_chunk: float
    prefill_ms: float
    evaluations: float


@dataclass(frozen=True)
class Ceiling:
    """What the machine allows.

    Attributes:
        read_gb_s: largest rate of reading memory.
        matrix_tflops: largest rate of a matrix product.
        step_read_ms: to read once the weights that a refinement step needs.
        prefill_ms: arithmetic of the prefill at the matrix rate.
        peak_gb: largest memory of the device in the run, 0 on a CPU.
    """

    read_gb_s: float
    matrix_tflops: float
    step_read_ms: float
    prefill_ms: float
    peak_gb: float


@dataclass
class Case:
    """A decoder on an engine, and what an evaluation and the prefill took at best [s]."""

    name: str
    decoder: Decoder
    engine: Engine
    prefixes: Sequence[Any]
    tokens: int
    validation_from: int | None = None
    step_s: float = math.inf
    prefill_s: float = math.inf
    evaluations: list[int] = field(default_factory=list)

    def run(self, seed: int) -> None:
        """Decode one chunk."""
        device = str(self.decoder.path.device)
        prefix = self.prefixes[seed % len(self.prefixes)]
        began = _now(device)
        cache = self.engine.prefill(prefix, self.validation_from)
        ready = _now(device)
        denoiser: Any = _Asked(self.engine)
        if isinstance(self.decoder, Autoregressive):
            denoiser = self.engine
        solution = self.decoder(denoiser, (1, self.tokens), cache, generators=[seed])
        ended = _now(device)
        self.step_s = min(self.step_s, (ended - ready) / solution.evaluations)
        self.prefill_s = min(self.prefill_s, ready - began)
        self.evaluations.append(solution.evaluations)

    def row(self, device: str, model: str) -> Row:
        """Return the figures."""
        off = self.engine.caching.mode == "off"
        prefill_ms = 0.0 if off else 1e3 * self.prefill_s
        count = mean(self.evaluations)
        decode_s = count * self.step_s
        times = (1 / decode_s, 1e3 * decode_s, prefill_ms)
        return Row(self.name, device, model, *times, count)


@dataclass(frozen=True)
class _Asked:
    """A denoiser as a solver calls it."""

    engine: Engine

    def __call__(self, tokens: Tensor, t: Tensor, cache: Any) -> Tensor:
        return self.engine.denoise(tokens, cache)


def cases(network: Network, device: str, adaptive: Caching) -> list[Case]:
    """Return the decoders to time; names are those of the JSON file."""
    values = torch.linspace(0.0, 1.0, VOCABULARY)
    metric = MetricPath(OrderedDistance(values, 32.0)).to(device)
    flow = Solver(metric, SolverConfig(REFINEMENT, VALIDATION, target="median"))
    stop = {"early_stop": True, "early_stop_within": WITHIN}
    early = Solver(metric, SolverConfig(REFINEMENT, VALIDATION, target="median", **stop))
    masked = Masked(MaskedPath(VOCABULARY).to(device), MaskedConfig(steps=STEPS))
    next_token = Autoregressive(MixturePath(VOCABULARY).to(device))
    off, kept = Caching("off"), Caching("prefix")

    def case(name: str, decoder: Decoder, caching: Caching, last: int | None = None) -> Case:
        return Case(
            name, decoder, Engine(network.refiner, caching), network.prefixes, network.tokens, last
        )

    return [
        Case("ar", next_token, Engine(network.causal, kept), network.prefixes, network.tokens),
        case("masked", masked, off),
        case("masked+cache", masked, kept),
        case("dfm", flow, off),
        case("dfm+prefix", flow, kept),
        case("dfm+adaptive", flow, adaptive, REFINEMENT),
        case("dfm+early_stop", early, kept),
    ]


@torch.inference_mode()
def measure(network: Network, device: str, repeats: int, adaptive: Caching) -> list[Row]:
    """Return a row for every decoder."""
    timed = cases(network, device, adaptive)
    for seed in range(repeats + 1):  # the first also warms up and captures
        for case in timed:
            if case.engine.caching.mode == "off" and seed > SLOW_REPEATS:
                continue
            if seed == 1:
                case.step_s = case.prefill_s = math.inf
                case.evaluations.clear()
            case.run(seed)
    return [case.row(device, network.name) for case in timed]


@torch.inference_mode()
def ceiling(network: Network, device: str) -> Ceiling:
    """Measure what memory and matrix units can do, and what that makes of the network's work."""
    refiner = network.refiner
    prefix = refiner.prefill(network.prefixes[0]).length
    peak = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0
    weight = next(refiner.layers.layers.parameters())
    read_s, matrix_s = _reading_s(weight, device), _product_s(weight, device)
    weights = sum(p.numel() for p in refiner.layers.layers.parameters())
    operations = 2.0 * weights * prefix + _attention_operations(refiner, prefix)
    return Ceiling(
        1e-9 / read_s,
        1e-12 / matrix_s,
        1e3 * read_s * step_bytes(refiner),
        1e3 * matrix_s * operations,
        peak,
    )


def _attention_operations(refiner: Incremental, prefix: int) -> float:
    """Return the operations of q k and of its product with v, of all pairs seen."""
    stack = refiner.stack
    causal = getattr(refiner.config, "attention", "bidirectional") == "causal"
    pairs = prefix * prefix / (2 if causal else 1)
    return 4.0 * len(stack.layers) * stack.heads * stack.head * pairs


def _reading_s(like: Tensor, device: str) -> float:
    """Return the time to read a byte: the better of a sum and of a copy, far beyond any cache."""
    count = 2**31 if device == "cuda" else 2**27
    block = torch.ones(count // like.element_size(), dtype=like.dtype, device=device)
    wide, other = block.view(torch.int32), torch.empty_like(block)
    summed = shortest_s(wide.amax, device) / count
    copied = shortest_s(lambda: other.copy_(block), device) / (2 * count)
    return min(summed, copied)


def _product_s(like: Tensor, device: str) -> float:
    """Return the time of one operation (a multiplication or an addition) of a matrix product."""
    side = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(like.dtype) for _ in range(2))
    return shortest_s(lambda: a @ b, device) / (2 * side**3)


def shortest_s(call: Callable[[], Any], device: str, repeats: int = 10) -> float:
    """Return the shortest wall time of ``call`` [s]."""
    call()
    best = math.inf
    for _ in range(repeats):
        began = _now(device)
        call()
        best = min(best, _now(device) - began)
    return best


def _now(device: str) -> float:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()
