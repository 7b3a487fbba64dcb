"""``dfm-vla toy``: the decoders of discrete flow matching on a toy with long-range constraints."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dfm_vla_ros.errors import DfmVlaError

if TYPE_CHECKING:
    import numpy as np

    from dfm_vla_ros.flow.toy.experiment import Cell, ToyConfig, Trained

FIGURE_EVALUATIONS = 16
SETTLING = ("AR", "one step", "masked", "re-masked", "embed", "head")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``toy``."""
    parser = subparsers.add_parser("toy", help="compare decoders on a toy, minutes on a CPU")
    parser.add_argument("--seeds", type=int, default=3, help="trainings and decodings")
    parser.add_argument("--steps", type=int, help="training steps a network")
    parser.add_argument("--samples", type=int, help="sequences drawn for a cell")
    parser.add_argument("--shuffled", action="store_true", help="take numeric order from the ids")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the cells here")
    parser.add_argument(
        "--figure", type=Path, metavar="FILE", help="instead draw tokens settling, a PNG"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table, or draw the figure."""
    import torch

    from dfm_vla_ros.flow.toy.experiment import Trained, run_table

    if options.seeds < 1 or options.threads < 1:
        raise DfmVlaError("--seeds and --threads must be at least 1")
    torch.set_num_threads(options.threads)
    config = _config(options)
    if options.figure is not None:
        draw_figure(Trained(config, seed=0), options.figure)
        return 0
    began = time.monotonic()
    cells = run_table(config, list(range(options.seeds)), _report)
    print_table(cells)
    print(f"{time.monotonic() - began:.0f} s")
    if options.json is not None:
        text = json.dumps({"cells": [asdict(cell) for cell in cells]}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


def print_table(cells: list[Cell]) -> None:
    """Print validity and diversity by decoder and evaluations: mean and half-range of seeds."""
    columns = sorted({cell.evaluations for cell in cells})
    print("valid sequences [%] / diversity (data = 1), mean over seeds +- half their range")
    print(f"{'evaluations':13}" + "".join(f"{count:>22}" for count in columns))
    for name in dict.fromkeys(cell.decoder for cell in cells):
        row = [[c for c in cells if (c.decoder, c.evaluations) == (name, n)] for n in columns]
        print(f"{name:13}" + "".join(f"{_entry(group):>22}" for group in row))


def draw_figure(trained: Trained, file: Path) -> None:
    """Draw one sequence settling step by step for each decoder."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(11, 6.2), layout="constrained")
    for axis, name in zip(axes.flat, SETTLING, strict=True):
        image, title = _settling(trained, name)
        colours = pyplot.get_cmap("viridis").with_extremes(bad="0.9")
        # One scale for all panels, or the colour bar would be true of the last alone.
        scale = {"vmin": 0, "vmax": trained.config.walk.levels - 1}
        extent = (-0.5, image.shape[1] - 0.5, len(image) + 0.5, 0.5)
        shown = axis.imshow(
            image, cmap=colours, aspect="auto", interpolation="nearest", extent=extent, **scale
        )
        axis.set(title=title, xlabel="position", ylabel="evaluation")
        axis.yaxis.get_major_locator().set_params(integer=True)
    figure.colorbar(shown, ax=axes, label="token (grey: not decided)", shrink=0.7)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=70)
    pyplot.close(figure)
    print(file)


def _settling(trained: Trained, name: str) -> tuple[np.ma.MaskedArray, str]:
    """Return tokens (evaluations, N), undecided masked, and a title."""
    import numpy as np

    walk = trained.config.walk
    evaluations = {"AR": walk.length, "one step": 1}.get(name, FIGURE_EVALUATIONS)
    decoder, denoiser = trained.decoder(name, evaluations)
    solution = decoder(denoiser, (1, walk.length), generators=[trained.seed], trace=True)
    tokens = np.stack([step.tokens[0].numpy() for step in solution.trace])
    undecided = tokens >= walk.levels
    if name == "AR":
        undecided = np.arange(walk.length) > np.arange(len(tokens))[:, None]
    verdict = "valid" if bool(walk.valid(solution.tokens)) else "not valid"
    many = "s" if solution.evaluations > 1 else ""
    title = f"{name}, {solution.evaluations} evaluation{many}: {verdict}"
    return np.ma.masked_array(tokens, undecided), title


def _config(options: argparse.Namespace) -> ToyConfig:
    from dfm_vla_ros.flow.toy.data import MirroredWalk
    from dfm_vla_ros.flow.toy.experiment import ToyConfig

    given = {"steps": options.steps, "samples": options.samples}
    chosen = {name: value for name, value in given.items() if value is not None}
    return ToyConfig(walk=MirroredWalk(shuffled=options.shuffled), **chosen)


def _report(cell: Cell) -> None:
    print(
        f"seed {cell.seed} {cell.decoder:12} {cell.evaluations:2} evaluations: "
        f"valid {100 * cell.validity:5.1f}%, diversity {cell.diversity:.2f}",
        flush=True,
    )


def _entry(cells: list[Cell]) -> str:
    """Return ``valid +- half-range / diversity``; a dash where there is nothing to say."""
    if not cells:
        return "-"
    valid = [100 * cell.validity for cell in cells]
    diverse = [cell.diversity for cell in cells if cell.diversity == cell.diversity]
    spread = f"{statistics.mean(diverse):.2f}" if diverse else "-"
    return f"{statistics.mean(valid):.1f} +- {(max(valid) - min(valid)) / 2:.1f} / {spread}"
