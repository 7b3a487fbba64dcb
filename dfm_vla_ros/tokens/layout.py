"""The unified vocabulary and sequence as data: which ids stand for what, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.tokens.bins import ProprioceptionTokenizer
from dfm_vla_ros.tokens.codec import ActionCodec
from dfm_vla_ros.tokens.ids import FRAMING, IMAGE, IdRange, Ids, ImageSlot, check_ids, check_order
from dfm_vla_ros.tokens.specification import (
    Fields,
    TokenizerError,
    content_hash,
    naming,
    read_specification,
    write_specification,
)
from dfm_vla_ros.tokens.text import TextEncoder

FILE = Path("tokenizer") / "layout.json"
KIND = "layout"
RANGES = ("text", "visual", "action", "proprioception")


@dataclass(frozen=True)
class Part:
    """A stretch of the sequence.

    Attributes:
        name: an entry of ``Layout.order``.
        begin: position of its first id.
        length: number of ids, framing included.
    """

    name: str
    begin: int
    length: int


@dataclass(frozen=True)
class Layout:
    """One vocabulary of ids for text, images, joints and actions, and their order.

    ``order`` lists specials by name, "text", "image:CAMERA", "proprioception" and, once, "action".
    All before "action" is the prefix. An image is framed as boi, the text "1*rows*columns" if
    ``size_text`` is given, img, codes row by row, eof, eoi. Action and proprioception may take the
    places of rare text ids, as in UniVLA: an instruction that has one of those is refused.

    Attributes:
        name: of the preset, for people.
        vocabulary_size: number of ids, the rows of the embedding.
        text: ids of the text tokenizer's tokens.
        visual: ids of the image codes.
        action: ids of the action tokens, the end token of FAST apart.
        proprioception: ids of the joint tokens.
        special: name -> id; pad, mask (for masked diffusion), boi, img, eof, eoi and those in
            ``order``.
        images: the cameras, with the size of their code grids.
        order: the sequence.
        action_end: id of the action token that follows the last of ``action``, if there is one.
        proprioception_length: joint tokens in a sequence, as measured and as commanded.
        size_text: character -> id for the size of an image; empty: no size.
        text_length: fixed number of text ids, short texts padded in front, long ones cut; 0: as
            they come.
        patch_px: side of the square of pixels that a code stands for.
    """

    name: str
    vocabulary_size: int
    text: IdRange
    visual: IdRange
    action: IdRange
    proprioception: IdRange
    special: dict[str, int]
    images: tuple[ImageSlot, ...]
    order: tuple[str, ...]
    action_end: int | None = None
    proprioception_length: int = 28
    size_text: dict[str, int] = field(default_factory=dict)
    text_length: int = 0
    patch_px: int = 8

    def __post_init__(self) -> None:
        """Check that every part is there once and has ids, and that no id means two things."""
        check_order(self)
        check_ids(self)

    @cached_property
    def lengths(self) -> dict[str, int]:
        """Ids of every part whose length is fixed; text counts 0 unless it is padded."""
        lengths = {"text": self.text_length, "action": 0}
        lengths["proprioception"] = self.proprioception_length
        for slot in self.images:
            lengths[IMAGE + slot.camera] = len(self._size(slot)) + slot.count + len(FRAMING)
        return lengths

    def _size(self, slot: ImageSlot) -> list[int]:
        if not self.size_text:
            return []
        return [self.size_text[letter] for letter in f"1*{slot.rows}*{slot.columns}"]

    @property
    def action_vocabulary(self) -> int:
        """Number of action tokens K, the end token included."""
        return self.action.count + (self.action_end is not None)

    @cached_property
    def action_ids(self) -> Ids:
        """(K,): the id of every action token."""
        ids = self.action.to_ids(np.arange(self.action.count), "action tokens")
        return ids if self.action_end is None else np.append(ids, self.action_end)

    def to_ids(self, tokens: NDArray[np.integer]) -> Ids:
        """Return the ids of action ``tokens`` in 0..K-1, of any shape.

        Raises:
            TokenizerError: a token is out of vocabulary.
        """
        positions = IdRange(0, self.action_vocabulary).to_ids(tokens, "action tokens")
        return self.action_ids[positions]

    def to_tokens(self, ids: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the action tokens of ``ids``, of any shape.

        Raises:
            TokenizerError: an id stands for no action token.
        """
        ids = np.asarray(ids)
        tokens = (ids.astype(np.int64) - self.action.first) * self.action.step
        if self.action_end is not None:
            tokens = np.where(ids == self.action_end, self.action.count, tokens)
        wrong = (tokens < 0) | (tokens >= self.action_vocabulary)
        if self.action_end is not None:
            wrong |= (tokens == self.action.count) & (ids != self.action_end)
        if wrong.any():
            raise TokenizerError(f"id {ids[wrong].flat[0]} is no action; actions: {self.action}")
        return tokens

    def prefix(
        self,
        text: NDArray[np.integer],
        codes: Mapping[str, NDArray[np.integer]],
        proprioception: NDArray[np.integer],
    ) -> Ids:
        """Return (L,) ids of everything before the actions.

        Args:
            text: (n,) tokens of the instruction.
            codes: camera -> (rows, columns) or (rows * columns,) image codes.
            proprioception: (proprioception_length,) joint tokens.

        Raises:
            TokenizerError: a camera is missing, a size is another, or a token has no id.
        """
        parts = {"text": self._text_ids(text), "proprioception": self._joint_ids(proprioception)}
        for slot in self.images:
            parts[IMAGE + slot.camera] = self._image_ids(slot, codes)
        names = self.order[: self.order.index("action")]
        pieces = [parts[n] if n in parts else np.array([self.special[n]]) for n in names]
        return np.concatenate(pieces)

    @property
    def suffix(self) -> Ids:
        """Ids after the actions."""
        names = self.order[self.order.index("action") + 1 :]
        return np.array([self.special[name] for name in names], dtype=np.int64)

    def parts(self, text_count: int, action_count: int = 0) -> Iterator[Part]:
        """Yield the stretches of a sequence with ``text_count`` text ids, in order."""
        begin = 0
        variable = {"text": self.text_length or text_count, "action": action_count}
        for name in self.order:
            length = variable.get(name, self.lengths.get(name, 1))
            yield Part(name, begin, length)
            begin += length

    def prefix_length(self, text_count: int) -> int:
        """Return the number of ids before the actions."""
        return next(p.begin for p in self.parts(text_count) if p.name == "action")

    def check(self, action: ActionCodec, joints: ProprioceptionTokenizer) -> None:
        """Raise TokenizerError unless every token of ``action`` and ``joints`` has an id."""
        if action.vocabulary_size != self.action_vocabulary:
            raise TokenizerError(
                f"the action tokenizer has {action.vocabulary_size} tokens, the layout "
                f"{self.action_vocabulary} ids for them: take both from one checkpoint"
            )
        count, length = len(joints.joint_names), self.proprioception_length
        if length % count or (length and joints.vocabulary_size > self.proprioception.count):
            raise TokenizerError(
                f"proprioception is of {count} joints with {joints.vocabulary_size} tokens, the "
                f"layout has {length} with {self.proprioception.count}: take both from one "
                "checkpoint"
            )

    def check_text(self, text: TextEncoder) -> None:
        """Raise TokenizerError unless ``text`` is the tokenizer that the layout was made for."""
        if text.vocabulary_size > self.text.count:
            raise TokenizerError(
                f"the text tokenizer has {text.vocabulary_size} tokens, the layout "
                f"{self.text.count} ids for them: take both from one checkpoint"
            )
        for slot in self.images if self.size_text else ():
            size = f"1*{slot.rows}*{slot.columns}"
            found = text.encode(size).tolist()
            if found != self._size(slot):
                raise TokenizerError(
                    f"the text tokenizer makes {found} of {size!r}, the layout {self._size(slot)}"
                )

    def _text_ids(self, text: NDArray[np.integer]) -> Ids:
        ids = self.text.to_ids(text, "text tokens")
        for taken in (self.action, self.proprioception):
            clash = (ids >= taken.lowest) & (ids <= taken.highest)
            if clash.any():
                raise TokenizerError(
                    f"text id {ids[clash][0]} stands for an action or a joint: say it otherwise"
                )
        if not self.text_length:
            return ids
        ids = ids[: self.text_length]
        padding = np.full(self.text_length - len(ids), self.special["pad"])
        return np.concatenate([padding, ids])

    def _joint_ids(self, tokens: NDArray[np.integer]) -> Ids:
        if np.shape(tokens) != (self.proprioception_length,):
            raise TokenizerError(
                f"proprioception has shape {np.shape(tokens)}, expected "
                f"({self.proprioception_length},)"
            )
        return self.proprioception.to_ids(tokens, "proprioception tokens")

    def _image_ids(self, slot: ImageSlot, codes: Mapping[str, NDArray[np.integer]]) -> Ids:
        if slot.camera not in codes:
            raise TokenizerError(f"no codes of camera {slot.camera!r}; given: {sorted(codes)}")
        found = np.asarray(codes[slot.camera])
        if found.shape not in ((slot.rows, slot.columns), (slot.count,)):
            raise TokenizerError(
                f"codes of {slot.camera} have shape {found.shape}, expected "
                f"({slot.rows}, {slot.columns}): resize its image to "
                f"{slot.columns * self.patch_px} x {slot.rows * self.patch_px} px"
            )
        visual = self.visual.to_ids(found.reshape(-1), f"codes of {slot.camera}")
        boi, img, eof, eoi = (self.special[name] for name in FRAMING)
        return np.concatenate([[boi, *self._size(slot), img], visual, [eof, eoi]])

    @property
    def hash(self) -> str:
        """Sha256 of the content, hex."""
        return content_hash(self._content())

    def save(self, folder: Path) -> None:
        """Write ``tokenizer/layout.json`` in the checkpoint ``folder``."""
        write_specification(Path(folder) / FILE, self._content())

    @classmethod
    def load(cls, folder: Path) -> Layout:
        """Read it back.

        Raises:
            TokenizerError: the file is missing, malformed or of another kind, or two things
                share an id.
        """
        path = Path(folder) / FILE
        content = read_specification(path, KIND)
        with naming(path):
            return _read(content)

    def _content(self) -> dict[str, Any]:
        content = asdict(self) | {"kind": KIND, "order": list(self.order)}
        content["images"] = [asdict(slot) for slot in self.images]
        return content


def _read(content: dict[str, Any]) -> Layout:
    keys = {*Layout.__dataclass_fields__, "kind"}
    fields = Fields(content, keys)
    ranges = {key: IdRange.read(fields.table(key)) for key in RANGES}
    for key in ("special", "size_text"):
        numbers = Fields(fields.table(key), set(fields.table(key)))
        ranges[key] = {name: numbers.integer(name) for name in fields.table(key)}
    end = None if content["action_end"] is None else fields.integer("action_end")
    integers = ("vocabulary_size", "proprioception_length", "text_length", "patch_px")
    return Layout(
        name=fields.text("name"),
        images=tuple(ImageSlot.read(slot) for slot in fields.items("images", dict, "objects")),
        order=fields.names("order"),
        action_end=end,
        **ranges,
        **{key: fields.integer(key) for key in integers},
    )
