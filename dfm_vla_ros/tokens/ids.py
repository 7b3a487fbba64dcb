"""Runs of ids in a vocabulary that text, images and actions share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.tokens.specification import Fields, TokenizerError

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
