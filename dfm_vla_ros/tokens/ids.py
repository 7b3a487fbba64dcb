"""Runs of ids in a vocabulary that text, images and actions share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.tokens.specification import Fields, TokenizerError

if TYPE_CHECKING:
    from dfm_vla_ros.tokens.layout import Layout


Ids = NDArray[np.int64]


@dataclass(frozen=True)
class IdRange:
    """Token t in 0..count-1 has the id ``first + step t``.

    Attributes:
        first: id of token 0.
        count: number of tokens.
        step: 1, or -1 for ids that run down from ``first``.
    """

    first: int
    count: int
    step: int = 1

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.count < 1 or self.step not in (-1, 1) or self.lowest < 0:
            raise TokenizerError(f"{self} is no range of ids")

    @property
    def lowest(self) -> int:
        """The smallest id."""
        return min(self.first, self.first + self.step * (self.count - 1))

    @property
    def highest(self) -> int:
        """The largest id."""
        return max(self.first, self.first + self.step * (self.count - 1))

    def overlaps(self, other: IdRange) -> bool:
        """Return whether both have an id in common."""
        return self.lowest <= other.highest and other.lowest <= self.highest

    def __contains__(self, number: int) -> bool:
        return self.lowest <= number <= self.highest

    def to_ids(self, tokens: NDArray[np.integer], what: str) -> Ids:
        """Return the ids of ``tokens``.

        Raises:
            TokenizerError: one is not in 0..count-1; the message calls them ``what``.
        """
        tokens = np.asarray(tokens)
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < self.count:
            raise TokenizerError(
                f"{what} span {tokens.min()}..{tokens.max()}, allowed are 0..{self.count - 1}: "
                "tokenizer and layout are of different checkpoints"
            )
        return self.first + self.step * tokens.astype(np.int64)

    @classmethod
    def read(cls, content: dict) -> IdRange:
        """Return the range that a file describes."""
        fields = Fields(content, {"first", "count", "step"})
        return cls(*(fields.integer(key) for key in ("first", "count", "step")))

    def __str__(self) -> str:
        return f"{self.first}..{self.first + self.step * (self.count - 1)}"


@dataclass(frozen=True)
class ImageSlot:
    """Where one camera's codes go: ``rows`` times ``columns`` of them, row by row."""

    camera: str
    rows: int
    columns: int

    def __post_init__(self) -> None:
        """Check the size."""
        if self.rows < 1 or self.columns < 1:
            raise TokenizerError(f"{self.camera} has {self.rows} x {self.columns} codes")

    @property
    def count(self) -> int:
        """Number of codes."""
        return self.rows * self.columns

    @classmethod
    def read(cls, content: dict) -> ImageSlot:
        """Return the slot that a file describes."""
        fields = Fields(content, {"camera", "rows", "columns"})
        return cls(fields.text("camera"), fields.integer("rows"), fields.integer("columns"))


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
