"""``dfm-vla tokenizer inspect``: layout, ids, tokenizers and hashes of a checkpoint."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dfm_vla_ros.tokens import ActionCodec
    from dfm_vla_ros.tokens.layout import Layout

WORDS = 6
"""Text ids of the example whose sequence is printed."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``inspect``."""
    parser = subparsers.add_parser("inspect", help="print layout, ids, tokenizers and hashes")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: the shipped one")
    what.add_argument(
        "--preset", choices=("univla", "univla-grid"), help="instead a layout that is built in"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what the folder, or the preset, says."""
    from dfm_vla_ros.resources import resource_path
    from dfm_vla_ros.tokens.presets import univla_layout

    if options.preset:
        grid = options.preset == "univla-grid"
        layout = univla_layout(2001, end_token=False) if grid else univla_layout()
        print("\n".join(describe_layout(layout)))
        return 0
    folder = options.checkpoint or resource_path("checkpoints/default")
    print("\n".join(describe_folder(folder)))
    return 0


def describe_folder(folder: Path) -> Iterator[str]:
    """Yield the lines about a checkpoint folder's tokenizers; check that they fit together."""
    from dfm_vla_ros.tokens import load_action_tokenizer
    from dfm_vla_ros.tokens.bins import ProprioceptionTokenizer
    from dfm_vla_ros.tokens.layout import FILE, Layout
    from dfm_vla_ros.tokens.text import load_text_tokenizer

    action, text = load_action_tokenizer(folder), load_text_tokenizer(folder)
    joints = ProprioceptionTokenizer.load(folder)
    yield from describe_action(action)
    count = len(joints.joint_names)
    yield f"proprioception  {count} joints, {joints.vocabulary_size} bins each"
    yield f"  hash          {joints.hash}"
    yield f"text            {type(text).__name__}, {text.vocabulary_size} tokens"
    yield f"  hash          {text.hash}"
    if not (folder / FILE).is_file():
        yield "layout          none: text, images, joints and actions have tables of their own"
        return
    layout = Layout.load(folder)
    layout.check(action, joints)
    layout.check_text(text)
    yield from describe_layout(layout)


def describe_action(codec: ActionCodec) -> Iterator[str]:
    """Yield the lines about an action tokenizer."""
    grippers = [name.endswith("gripper") for name in codec.joint_names]
    arms = [not flag for flag in grippers]
    yield f"action          {codec.kind}, {codec.vocabulary_size} tokens"
    yield f"  hash          {codec.hash}"
    yield f"  chunk         {codec.horizon} steps of {codec.control_period_s:g} s, " + (
        f"{len(codec.joint_names)} joints, {codec.token_count} tokens"
    )
    yield f"  a token       {_meaning(codec)}"
    if any(arms):
        yield f"  round trip    within {1e3 * codec.bound[:, arms].max():.2f} mrad"
    if any(grippers):
        yield f"                within {1e3 * codec.bound[:, grippers].max():.3f} mm (grippers)"
    yield f"  joints        {', '.join(codec.joint_names)}"


def _meaning(codec: ActionCodec) -> str:
    return "is one joint at one step" if codec.per_step else "concerns many steps"


def describe_layout(layout: Layout) -> Iterator[str]:
    """Yield the lines about a layout: ids, and a sequence of ``WORDS`` text ids."""
    yield f"layout            {layout.name}, {layout.vocabulary_size} ids"
    yield f"  hash            {layout.hash}"
    for name in ("text", "visual", "action", "proprioception"):
        ids = getattr(layout, name)
        yield f"  {name:14}{ids!s:18} {ids.count} tokens"
    if layout.action_end is not None:
        yield f"  action end      {layout.action_end}"
    for name, number in sorted(layout.special.items(), key=lambda item: item[1]):
        yield f"  {name:16}{number}"
    for slot in layout.images:
        size = f"{slot.columns * layout.patch_px} x {slot.rows * layout.patch_px} px"
        yield f"  image           {slot.camera}: {slot.rows} x {slot.columns} codes, {size}"
    if layout.images:
        size = '"1*rows*columns", ' if layout.size_text else ""
        yield f"  framing         boi, {size}img, codes, eof, eoi"
    yield f"sequence          with {WORDS} text ids"
    for part in layout.parts(WORDS):
        length = "N" if part.name == "action" else str(part.length)
        yield f"  {part.begin:<6}{length:>5}   {part.name}"
    yield f"prefix            {layout.prefix_length(WORDS)} ids"
