"""``dfm-vla bench decode``: chunks a second of every way to decode, on one network.

A prefix of 1250 positions, 70 action tokens, 16 evaluations (14 + 2); prefill apart. Models:
``small`` is the shipped network looking at the twin at twelve moments, its prefix repeated to that
length; also with a position for each token instead of one a step, and as it is shipped (prefix
37, 112 tokens). AR has the same layers and a position a token. ``tiny-emu3``, ``100m`` and
``8.5b`` (UniVLA's size) are random weights of Emu3's class, for which the evaluations until an
early stop mean nothing. On a GPU in bf16 with CUDA graphs, and with two ceilings: reading a step's
weights once, and the arithmetic of the prefill at the rate of a large matrix product.
Exit status 0: the fastest flow is at least 4 times as fast as autoregression.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.options import positive_count, versions

if TYPE_CHECKING:
    from dfm_vla_ros.model.checkpoint import Checkpoint
    from dfm_vla_ros.model.refiner import Prefix
    from dfm_vla_ros.model.speed import Ceiling, Network, Row

PREFIX = 1250
MODELS = ("small", "tiny-emu3", "100m", "8.5b")
LEAST_RATIO = 4.0
LOOKS = 4
"""Moments of each task that the small network looks at."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``decode``."""
    parser = subparsers.add_parser(
        "decode",
        help="chunks a second of autoregression, masked diffusion and the flow",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", choices=MODELS, default="small")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda if there is one")
    parser.add_argument("--checkpoint", type=Path, help="of the small model; default: the shipped")
    parser.add_argument("--prefix", type=positive_count, default=PREFIX, help="positions")
    parser.add_argument("--ratio", type=float, default=0.25, help="of the adaptive cache")
    parser.add_argument("--repeats", type=positive_count, default=12)
    parser.add_argument("--threads", type=positive_count, default=1, help="of a CPU")
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print a table; 0 if the flow is fast enough."""
    import torch

    from dfm_vla_ros.model.caching import Caching
    from dfm_vla_ros.model.speed import ceiling, measure

    torch.set_num_threads(options.threads)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise DfmVlaError("--device cuda: torch finds no GPU; leave it out to use the CPU")
    if device == "cpu" and options.model == "8.5b":
        raise DfmVlaError("--model 8.5b needs a GPU with 24 GB; on a CPU take small or 100m")
    adaptive = Caching("adaptive", options.ratio)
    rows: list[Row] = []
    ceilings: dict[str, Any] = {}
    for network in _networks(options, device):
        found = measure(network, device, options.repeats, adaptive)
        _print_rows(found)
        limit = ceiling(network, device)
        _print_ceiling(limit, found)
        rows += found
        ceilings[network.name] = asdict(limit)
    if options.json is not None:
        content = {"rows": [asdict(row) for row in rows], "prefix": options.prefix}
        content |= {"ceilings": ceilings, "versions": versions(), "machine": _machine(device)}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if _ratio(rows[:7]) >= LEAST_RATIO else 1


def _networks(options: argparse.Namespace, device: str) -> Iterator[Network]:
    """Yield the network, or the three forms of the small one."""
    from dfm_vla_ros.model import speed
    from dfm_vla_ros.model.checkpoint import Checkpoint
    from dfm_vla_ros.resources import resource_path

    if options.model != "small":
        yield speed.make(options.model, device, options.prefix)
        return
    folder = options.checkpoint or resource_path("checkpoints/default")
    checkpoint = Checkpoint.load(folder, device)
    seen = _seen(checkpoint)
    yield speed.small(checkpoint, device, seen, options.prefix)
    yield speed.small(checkpoint, device, seen, options.prefix, a_step=False)
    yield speed.shipped(checkpoint, device, seen)


def _seen(checkpoint: Checkpoint) -> list[Prefix]:
    """Return what the checkpoint makes of moments of every task, as the expert does it."""
    import numpy as np

    from dfm_vla_ros.sim.experts import CONTROL_PERIOD_S, expert_targets
    from dfm_vla_ros.sim.twin import Twin

    twin, seen = Twin(), []
    for task in checkpoint.config.tasks:
        twin.reset(task, 0)
        targets = expert_targets(task, twin)
        for number, target in enumerate(targets):
            if number % (len(targets) // LOOKS + 1) == 0:
                state = (twin.positions, np.array(twin.commanded))
                seen.append(checkpoint.encode_prefix(twin.instruction, twin.render(), *state))
            twin.command(target)
            for _ in range(round(CONTROL_PERIOD_S / twin.timestep_s)):
                twin.step()
    twin.close()
    return seen


def _ratio(rows: list[Row]) -> float:
    """Return how many times as fast as autoregression the fastest flow is."""
    best = max(row.chunks_per_s for row in rows if row.decoder.startswith("dfm"))
    return best / next(row.chunks_per_s for row in rows if row.decoder == "ar")


def _print_rows(rows: list[Row]) -> None:
    slowest = next(row for row in rows if row.decoder == "ar")
    print(f"{rows[0].model} on {rows[0].device}")
    print(
        f"{'decoder':15} {'chunks/s':>9} {'ms/chunk':>9} {'x ar':>6} {'evaluations':>11} "
        f"{'ms each':>8} {'prefill ms':>10}"
    )
    for row in rows:
        print(
            f"{row.decoder:15} {row.chunks_per_s:9.2f} {row.ms_per_chunk:9.2f} "
            f"{row.chunks_per_s / slowest.chunks_per_s:6.2f} {row.evaluations:11.1f} "
            f"{row.ms_per_chunk / row.evaluations:8.3f} {row.prefill_ms:10.2f}",
            flush=True,
        )


def _print_ceiling(limit: Ceiling, rows: list[Row]) -> None:
    cached = next(row for row in rows if row.decoder == "dfm+prefix")
    step_ms = cached.ms_per_chunk / cached.evaluations
    print(
        f"memory is read at {limit.read_gb_s:.0f} GB/s, so the weights of a step in "
        f"{limit.step_read_ms:.3f} ms: a step takes {step_ms / limit.step_read_ms:.2f} times it; "
        f"matrix products run at {limit.matrix_tflops:.2f} TFLOP/s, so the prefill's in "
        f"{limit.prefill_ms:.2f} ms: it takes {cached.prefill_ms / limit.prefill_ms:.2f} times it"
        + (f"; peak memory {limit.peak_gb:.1f} GB" if limit.peak_gb else "")
    )


def _machine(device: str) -> str:
    import platform

    import torch

    if device == "cuda":
        return torch.cuda.get_device_name()
    return platform.processor() or platform.machine()
