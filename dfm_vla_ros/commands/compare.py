"""``dfm-vla compare``: whether results of evaluations differ on the same episodes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm_vla_ros.errors import DfmVlaError

if TYPE_CHECKING:
    from dfm_vla_ros.evaluation.statistics import Paired


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``compare``."""
    parser = subparsers.add_parser(
        "compare", help="exact paired comparison of evaluations on equal seeds"
    )
    parser.add_argument("results", type=Path, nargs="+", help="the first is compared with each")
    parser.add_argument("--json", type=Path, help="write the comparisons there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a line for each task and pair of results."""
    from dfm_vla_ros.evaluation.statistics import holm, paired

    if len(options.results) < 2:
        raise DfmVlaError("one result cannot be compared: give two or more files")
    first, *others = [_read(path) for path in options.results]
    names = [_name(path) for path in options.results]
    found = [
        (name, pair)
        for name, other in zip(names[1:], others, strict=True)
        for pair in paired(first, other)
    ]
    corrected = holm([pair.p_value for _, pair in found])
    for (name, pair), p_holm in zip(found, corrected, strict=True):
        print(_line(names[0], name, pair, p_holm if len(found) > 1 else None))
    if options.json:
        rows = [
            _row(names[0], name, pair, p) for (name, pair), p in zip(found, corrected, strict=True)
        ]
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DfmVlaError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DfmVlaError(f"{path} is not JSON: give what dfm-vla eval --json wrote") from error


def _name(path: Path) -> str:
    return path.parent.name if path.name == "result.json" else path.stem


def _line(a: str, b: str, pair: Paired, p_holm: float | None) -> str:
    (p, q), (low, high), n = pair.rates, pair.interval, pair.episodes
    text = (
        f"{pair.task}: {a} {p:.0%}, {b} {q:.0%} of {n}; only {a} {pair.only_a}, only {b} "
        f"{pair.only_b}; difference {100 * (q - p):+.0f} points [{100 * low:+.0f}, "
        f"{100 * high:+.0f}], exact McNemar p = {pair.p_value:.2g}"
    )
    return text if p_holm is None else f"{text} (Holm {p_holm:.2g})"


def _row(a: str, b: str, pair: Paired, p_holm: float) -> dict[str, Any]:
    return {
        "task": pair.task,
        "a": a,
        "b": b,
        "episodes": pair.episodes,
        "both": pair.both,
        "only_a": pair.only_a,
        "only_b": pair.only_b,
        "neither": pair.neither,
        "difference": pair.rates[1] - pair.rates[0],
        "interval": pair.interval,
        "p": pair.p_value,
        "p_holm": p_holm,
    }
