"""What a layout must keep to: every part once, every id for one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dfm_vla_ros.tokens.ids import IdRange
from dfm_vla_ros.tokens.specification import TokenizerError

if TYPE_CHECKING:
    from dfm_vla_ros.tokens.layout import Layout

IMAGE = "image:"
FRAMING = ("boi", "img", "eof", "eoi")
ALWAYS = ("pad", "mask")


def check_order(layout: Layout) -> None:
    """Raise TokenizerError unless every part of the sequence is there once, at a sound place."""
    order, images = layout.order, [IMAGE + slot.camera for slot in layout.images]
    if order.count("action") != 1 or len(set(order)) != len(order):
        raise TokenizerError(f"order {order} must have each part once, and an action")
    if len(set(images)) != len(images):
        raise TokenizerError(f"images {images} must have each camera once")
    if layout.size_text and not set(layout.size_text) >= set("*0123456789"):
        raise TokenizerError(f"size_text {layout.size_text} needs the digits and *")
    if layout.text_length < 0 or layout.proprioception_length < 0 or layout.patch_px < 1:
        raise TokenizerError("text_length, proprioception_length and patch_px: not negative")
    known = {*layout.special, *layout.lengths}
    for name in (*ALWAYS, *(FRAMING if images else ()), *order):
        if name not in known:
            raise TokenizerError(f"no id for {name!r}: add it to special or images")
    _check_places(layout, images)


def _check_places(layout: Layout, images: list[str]) -> None:
    order = layout.order
    prefix, suffix = order[: order.index("action")], order[order.index("action") + 1 :]
    joints = ["proprioception"] if layout.proprioception_length else []
    for name in (*images, *joints):
        if name not in prefix:
            raise TokenizerError(f"{name!r} must come before the action in {order}")
    if not set(suffix) <= set(layout.special):
        raise TokenizerError(f"only special ids may follow the action in {order}")


def check_ids(layout: Layout) -> None:
    """Raise TokenizerError if an id means two things or is out of the vocabulary."""
    places = [IdRange(number, 1) for number in layout.special.values()]
    used = [*places, layout.visual, layout.action, layout.proprioception]
    for i, one in enumerate(used):
        if any(one.overlaps(other) for other in used[:i]):
            raise TokenizerError(f"ids {one} are used twice")
    largest = max(one.highest for one in (*used, layout.text))
    if largest >= layout.vocabulary_size:
        raise TokenizerError(f"id {largest} is out of the vocabulary of {layout.vocabulary_size}")
    for one in (*places, layout.visual):
        if one.overlaps(layout.text):
            raise TokenizerError(f"ids {one} are text too")
    if not all(number in layout.text for number in layout.size_text.values()):
        raise TokenizerError(f"size_text {layout.size_text} has ids that are no text")
    if layout.action_end is not None and layout.action_end not in layout.special.values():
        raise TokenizerError(f"action_end {layout.action_end} is none of the special ids")
