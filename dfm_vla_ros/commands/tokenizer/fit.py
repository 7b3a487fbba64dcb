"""``dfm-vla tokenizer fit``: an action tokenizer from demonstrations."""

from __future__ import annotations

import argparse
from pathlib import Path

from dfm_vla_ros.errors import DfmVlaError

OPTIONS = {
    "uniform": ("vocabulary_size", "quantile"),
    "maat": ("vocabulary_size", "quantile"),
    "dct": ("vocabulary_size", "quantile", "coefficients"),
    "fast": ("vocabulary_size", "scale"),
}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``fit``."""
    parser = subparsers.add_parser("fit", help="fit an action tokenizer on demonstrations")
    parser.add_argument("--kind", choices=sorted(OPTIONS), required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder that collect made")
    parser.add_argument("--out", type=Path, required=True, help="gets tokenizer/action.json")
    parser.add_argument("--horizon", type=int, default=8, help="steps of a chunk")
    parser.add_argument("--episodes", type=int, default=0, help="of each task; 0: all")
    parser.add_argument(
        "--vocabulary", dest="vocabulary_size", type=int, help="tokens (FAST: without the end)"
    )
    parser.add_argument("--quantile", type=float, help="maat: cut off at each end; else kept")
    parser.add_argument("--coefficients", type=int, help="dct: low frequencies to keep")
    parser.add_argument("--scale", type=float, help="fast: symbols per unit of a coefficient")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Fit, write, and say what came out."""
    from dfm_vla_ros.commands.tokenizer.inspect import describe_action
    from dfm_vla_ros.evaluation.tokenizers import fit, load_chunks
    from dfm_vla_ros.tokens.codec import FILE

    chosen = chosen_options(options)
    if (options.out / FILE).exists():
        raise DfmVlaError(f"{options.out / FILE} exists: give another folder, or move it away")
    chunks = load_chunks(options.data, options.horizon, options.episodes)
    codec = fit(options.kind, chunks, **chosen)
    codec.save(options.out)
    print("\n".join(describe_action(codec)))
    print(f"fitted on {len(chunks.targets)} chunks, written to {options.out / FILE}")
    return 0


def chosen_options(options: argparse.Namespace) -> dict[str, float | int]:
    """Return the options that were given; refuse those that the kind does not have."""
    names = dict.fromkeys(name for names in OPTIONS.values() for name in names)
    given = {name: getattr(options, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in OPTIONS[options.kind]:
            flag = name.removesuffix("_size")
            raise DfmVlaError(f"--{flag} has no meaning for {options.kind}: leave it out")
    if options.horizon < 1 or options.episodes < 0:
        raise DfmVlaError("--horizon must be at least 1 and --episodes at least 0")
    if not 0 <= given.get("quantile", 0) <= 1:
        raise DfmVlaError(f"--quantile is {given['quantile']}, give a share within 0..1")
    return given
