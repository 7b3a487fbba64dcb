"""``dfm-vla bench flow``: what the solver costs beside the network."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm_vla_ros.errors import DfmVlaError

if TYPE_CHECKING:
    from dfm_vla_ros.flow import Denoiser, Solver

SHAPES = ((1, 112, 256), (32, 112, 256), (1, 700, 2001), (32, 700, 2001))
VARIANTS = (("metric", "median"), ("metric", "sample"), ("mixture", "sample"))
REFINEMENT_STEPS = 14
# Of one forward pass, at batch 1 (issue 3).
LARGEST_RATIO = 0.1


@dataclass(frozen=True)
class Row:
    """One measurement; ``peak_logits`` is the peak memory in fp32 tensors of (B, N, K)."""

    device: str
    batch: int
    positions: int
    vocabulary: int
    path: str
    target: str
    ms_per_step: float
    peak_logits: float


@dataclass(frozen=True)
class Forward:
    """The solver beside the shipped network, a step of refinement at its shape.

    Attributes:
        checkpoint: Folder of the network.
        positions: N.
        vocabulary: K.
        forward_ms: One forward pass within a solve.
        solver_ms_per_step: The solver without a network.
        ratio: Of these two.
        in_loop_ms_per_step: What the solver adds while the network empties the caches in turn.
        in_loop_ratio: Of that to a forward.
    """

    checkpoint: str
    positions: int
    vocabulary: int
    forward_ms: float
    solver_ms_per_step: float
    ratio: float
    in_loop_ms_per_step: float
    in_loop_ratio: float


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``bench flow``."""
    parser = subparsers.add_parser("flow", help="solver time without the network, and its memory")
    parser.add_argument("--repeats", type=int, default=21, help="solves a row; the fastest counts")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--checkpoint", type=Path, help="instead of the shipped one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table; 0 unless the solver takes a tenth of a forward of the network."""
    import torch

    if options.repeats < 1 or options.threads < 1:
        raise DfmVlaError("--repeats and --threads must be at least 1")
    torch.set_num_threads(options.threads)
    rows = measure_rows(options.repeats)
    _print_rows(rows)
    forward = measure_forward(options.checkpoint, options.repeats)
    _print_forward(forward)
    if options.json is not None:
        _write(options.json, rows, forward, options.threads)
    return 0 if forward is None or forward.ratio < LARGEST_RATIO else 1


def measure_rows(repeats: int) -> list[Row]:
    """Return a row for every device, shape and variant."""
    import torch

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    return [
        measure_row(device, shape, variant, repeats)
        for device in devices
        for shape in SHAPES
        for variant in VARIANTS
    ]


def measure_row(
    device: str, shape: tuple[int, int, int], variant: tuple[str, str], repeats: int
) -> Row:
    """Return the time and the memory of one refinement step without a network."""
    import torch

    from dfm_vla_ros.flow.peak_memory import peak_in_logits

    (batch, positions, vocabulary), (path, target) = shape, variant
    solver = _solver(path, target, vocabulary, device)
    logits = torch.randn(batch, positions, vocabulary, device=device)

    def solve() -> None:
        solver(lambda tokens, t, prefix: logits, (batch, positions), generators=range(batch))

    peak = peak_in_logits(solve, (batch, positions), vocabulary)
    # Seconds a solve: the largest shapes are not repeated as often.
    large = batch * positions * vocabulary > 1_000_000
    solve_ms = fastest_ms([solve], 3 if large else repeats, device)[0]
    step_ms = solve_ms / REFINEMENT_STEPS
    return Row(device, batch, positions, vocabulary, path, target, step_ms, peak)


def measure_forward(folder: Path | None, repeats: int) -> Forward | None:
    """Return what the solver adds to the network's own time; None without a checkpoint.

    Raises:
        DfmVlaError: ``folder`` is given and holds no checkpoint.
    """
    import torch

    from dfm_vla_ros.model.checkpoint import Checkpoint
    from dfm_vla_ros.resources import resource_roots

    if folder is None:
        shipped = [root / "checkpoints" / "default" for root in resource_roots()]
        folder = next((path for path in shipped if path.is_dir()), None)
    if folder is None:
        return None
    checkpoint = Checkpoint.load(folder)
    config = checkpoint.config.refiner
    positions, vocabulary = config.horizon * config.action_dim, config.action_vocabulary
    cache = checkpoint.refiner.prefill(_blank_prefix(config))
    solver = _solver("metric", "median", vocabulary, "cpu")
    inside: list[float] = []

    def denoise(tokens: torch.Tensor, t: torch.Tensor, prefix: Any) -> torch.Tensor:
        began = time.perf_counter()
        logits = checkpoint.refiner.denoise(tokens, prefix)
        inside.append(1e3 * (time.perf_counter() - began))
        return logits

    def solve(denoiser: Denoiser, seed: int) -> float:
        inside.clear()
        began = time.perf_counter()
        solver(denoiser, (1, positions), cache, generators=[seed])
        return (1e3 * (time.perf_counter() - began) - sum(inside)) / REFINEMENT_STEPS

    with torch.inference_mode():
        logits = checkpoint.refiner.denoise(torch.zeros(1, positions, dtype=torch.int64), cache)
        # What else runs on the machine only ever adds time, so the shortest is the code's own.
        forward_ms = in_loop_ms = alone_ms = math.inf
        for seed in range(repeats + 1):
            in_loop_ms = min(in_loop_ms, solve(denoise, seed))
            forward_ms = min(forward_ms, sum(inside) / REFINEMENT_STEPS)
            alone_ms = min(alone_ms, solve(lambda tokens, t, prefix: logits, seed))
    ratios = alone_ms / forward_ms, in_loop_ms / forward_ms
    return Forward(
        str(folder), positions, vocabulary, forward_ms, alone_ms, ratios[0], in_loop_ms, ratios[1]
    )


def fastest_ms(calls: list[Callable[[], None]], repeats: int, device: str) -> list[float]:
    """Return the shortest wall time of each call [ms]; the calls take turns.

    What else runs on the machine only ever adds time, so the shortest is the code's own.
    """
    for call in calls:
        call()
    best = [math.inf] * len(calls)
    for _ in range(repeats):
        for index, call in enumerate(calls):
            _synchronise(device)
            began = time.perf_counter()
            call()
            _synchronise(device)
            best[index] = min(best[index], 1e3 * (time.perf_counter() - began))
    return best


def _synchronise(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def _solver(path: str, target: str, vocabulary: int, device: str) -> Solver:
    import torch

    from dfm_vla_ros.flow import MetricPath, MixturePath, OrderedDistance, Solver, SolverConfig

    values = torch.linspace(0.0, 1.0, vocabulary)
    made = MetricPath(OrderedDistance(values, 48.0)) if path == "metric" else None
    made = made or MixturePath(vocabulary)
    return Solver(made.to(device), SolverConfig(REFINEMENT_STEPS, 0, target=target))


def _blank_prefix(config: Any) -> Any:
    """Return a prefix of zeros in the shapes of ``config``: time does not depend on content."""
    import torch

    from dfm_vla_ros.model.refiner import Prefix

    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(1, *shape, dtype=torch.int64)

    images = zeros(config.views, config.grid**2)
    return Prefix(zeros(config.text_length), images, zeros(2 * config.action_dim))


def _print_rows(rows: list[Row]) -> None:
    print("solver without network, one refinement step (peak memory in fp32 (B, N, K) tensors)")
    print(
        f"{'device':6} {'B':>3} {'N':>4} {'K':>5}  {'path':8} {'target':7} {'ms':>9} {'peak':>5}"
    )
    for row in rows:
        print(
            f"{row.device:6} {row.batch:3} {row.positions:4} {row.vocabulary:5}  {row.path:8} "
            f"{row.target:7} {row.ms_per_step:9.3f} {row.peak_logits:5.2f}"
        )


def _print_forward(forward: Forward | None) -> None:
    if forward is None:
        print("no shipped checkpoint: no ratio to a forward of the network")
        return
    print(
        f"{forward.checkpoint}, batch 1, N = {forward.positions}, K = {forward.vocabulary}: "
        f"forward {forward.forward_ms:.2f} ms\n"
        f"solver alone {forward.solver_ms_per_step:.3f} ms a step, "
        f"{100 * forward.ratio:.1f}% of a forward (bound {100 * LARGEST_RATIO:.0f}%); between "
        f"forwards {forward.in_loop_ms_per_step:.3f} ms, {100 * forward.in_loop_ratio:.1f}%"
    )


def _write(file: Path, rows: list[Row], forward: Forward | None, threads: int) -> None:
    content = {
        "rows": [asdict(row) for row in rows],
        "forward": None if forward is None else asdict(forward),
        "threads": threads,
    }
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
