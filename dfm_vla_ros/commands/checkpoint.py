"""``dfm-vla checkpoint``: show or check a checkpoint folder, or make one of UniVLA's weights."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``checkpoint`` with ``show``, ``verify`` and ``import-univla``."""
    parser = subparsers.add_parser("checkpoint", help="show, verify or import a checkpoint folder")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, run, help_text in (
        ("show", _show, "print what is in a folder, as JSON"),
        ("verify", _verify, "read every weight and tokenizer; print the folder's hash"),
    ):
        added = actions.add_parser(name, help=help_text)
        added.add_argument("folder", type=Path, nargs="?", help="default: the shipped one")
        added.set_defaults(run=run)
    _add_import(actions)


def _add_import(actions: argparse._SubParsersAction) -> None:
    added = actions.add_parser(
        "import-univla",
        help="make a checkpoint folder of UniVLA's weights",
        description=(
            "Put a folder as UniVLA saves it (config.json, safetensors, emu3.tiktoken), an Emu3 "
            "image tokenizer and an action tokenizer into one checkpoint folder. Names and shapes "
            "are checked, weights are not changed; no code in the folder is run."
        ),
    )
    added.add_argument("source", type=Path, help="UniVLA's folder")
    added.add_argument("--out", type=Path, required=True, help="the new folder")
    added.add_argument("--vision", type=Path, required=True, help="folder of the image tokenizer")
    added.add_argument(
        "--tokenizer", type=Path, required=True, help="folder with tokenizer/action.json"
    )
    added.add_argument("--text", type=Path, help="emu3.tiktoken, if it is not in the source")
    added.add_argument(
        "--task", action="append", required=True, metavar="NAME=SENTENCE", help="may be repeated"
    )
    added.add_argument(
        "--camera",
        action="append",
        metavar="NAME=PIXELS",
        help="in order; default: third=200 left_wrist=80 right_wrist=80",
    )
    added.add_argument(
        "--attention", choices=("causal", "bidirectional", "full"), default="causal"
    )
    added.add_argument("--execute-steps", type=int, default=4, metavar="N")
    added.add_argument("--copy", action="store_true", help="copy the weights, do not link them")
    added.set_defaults(run=_import)


def _folder(options: argparse.Namespace) -> Path:
    from dfm_vla_ros.resources import resource_path

    return options.folder or resource_path("checkpoints/default")


def _show(options: argparse.Namespace) -> int:
    """Print the folder as JSON."""
    from dfm_vla_ros.model.loading import describe

    print(json.dumps(describe(_folder(options)), indent=1))
    return 0


def _verify(options: argparse.Namespace) -> int:
    """Print the hash of a sound folder; what is wrong with another is raised."""
    from dfm_vla_ros.model.loading import verify

    folder = _folder(options)
    print(f"{folder}: sound, sha256 {verify(folder)}")
    return 0


def _import(options: argparse.Namespace) -> int:
    """Import, and say where the checkpoint is."""
    from dfm_vla_ros.model import univla
    from dfm_vla_ros.tokens import load_action_tokenizer
    from dfm_vla_ros.tokens.presets import UNIVLA_IMAGES

    action = load_action_tokenizer(options.tokenizer)
    cameras = options.camera
    what = univla.Import(
        options.source,
        options.vision,
        action,
        univla.joints_of(options.tokenizer, action),
        univla.task_sentences(options.task),
        UNIVLA_IMAGES if cameras is None else univla.camera_slots(cameras),
        options.attention,
        options.execute_steps,
        not options.copy,
        options.text,
    )
    univla.import_univla(what, options.out)
    print(f"checkpoint: {options.out}")
    return 0
