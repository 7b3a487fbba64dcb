"""Layouts to start from: UniVLA's published ids, and a compact one for small models."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from dfm_vla_ros.tokens.ids import IMAGE, IdRange, ImageSlot
from dfm_vla_ros.tokens.layout import Layout

# Third view 200 x 200 px, wrists 80 x 80 px, 8 px a code (UniVLA's CALVIN set-up).
UNIVLA_IMAGES = (
    ImageSlot("third", 25, 25),
    ImageSlot("left_wrist", 10, 10),
    ImageSlot("right_wrist", 10, 10),
)
UNIVLA_SPECIAL = {
    "pad": 151643,
    "mask": 151646,  # <|extra_0|>, of no use in Emu3
    "boa": 151844,
    "eoa": 151845,
    "eol": 151846,
    "eof": 151847,
    "bos": 151849,
    "eos": 151850,
    "img": 151851,
    "boi": 151852,
    "eoi": 151853,
}
LAST_TEXT_ID = 151642
# Characters are tokens of their own in Emu3's text vocabulary, which is Qwen's (qwen.tiktoken).
SIZE_TEXT = {"*": 9, **{str(digit): 15 + digit for digit in range(10)}}
SMALL_SPECIAL = ("pad", "mask", "bos", "boi", "img", "eof", "eoi", "boa", "eoa")
PROPRIOCEPTION_COUNT = 2048
LARGEST_ACTION_COUNT = 2048


def univla_layout(
    action_count: int = 1024,
    end_token: bool = True,
    images: Sequence[ImageSlot] = UNIVLA_IMAGES,
    proprioception_length: int = 28,
    text_length: int = 0,
) -> Layout:
    """Return UniVLA's ids and framing, with proprioception after the images.

    Ids and framing are those of the code at github.com/baaivision/UniVLA:
    ``reference/Emu3/emu3/mllm/{tokenization,configuration,processing}_emu3.py`` (specials, modes
    VLA and VLA_ALOHA of ``video_process``, ``format_video_prompt``) and ``train/datasets.py``
    (``last_vocab_idx - id``, ``wrap_action_sequence``). UniVLA has no joints in its sequence;
    their ids are chosen here, below those of the actions.

    Args:
        action_count: tokens without the end token: 1024 of FAST, 2001 of the grid.
        end_token: whether one more token ends the actions (FAST); its id is that of eoa.
        images: cameras in order.
        proprioception_length: joint tokens; 0 leaves them out, as UniVLA does.
        text_length: fixed number of text ids; 0: as many as there are.
    """
    special = dict(UNIVLA_SPECIAL)
    proprioception = ("proprioception",) if proprioception_length else ()
    views = [IMAGE + slot.camera for slot in images]
    return Layout(
        name="univla",
        vocabulary_size=184622,
        text=IdRange(0, LAST_TEXT_ID + 1),
        visual=IdRange(151854, 32768),
        action=IdRange(LAST_TEXT_ID, action_count, -1),
        proprioception=IdRange(LAST_TEXT_ID - LARGEST_ACTION_COUNT, PROPRIOCEPTION_COUNT, -1),
        special=special,
        images=tuple(images),
        order=("bos", "text", *views, *proprioception, "boa", "action", "eoa"),
        action_end=special["eoa"] if end_token else None,
        proprioception_length=proprioception_length,
        size_text=SIZE_TEXT,
        text_length=text_length,
    )


def small_layout(
    text_count: int,
    visual_count: int,
    action_count: int,
    images: Sequence[ImageSlot],
    proprioception_count: int = PROPRIOCEPTION_COUNT,
    proprioception_length: int = 28,
    end_token: bool = False,
    text_length: int = 0,
    patch_px: int = 8,
) -> Layout:
    """Return a layout without gaps, without size text: text, specials, codes, joints, actions.

    Args:
        text_count: tokens of the text tokenizer.
        visual_count: codes of the image tokenizer.
        action_count: action tokens without the end token.
        images: cameras in order.
        proprioception_count: tokens of the joint tokenizer.
        proprioception_length: joint tokens in a sequence.
        end_token: whether one more token ends the actions (FAST); its id is that of eoa.
        text_length: fixed number of text ids; 0: as many as there are.
        patch_px: side of the square of pixels that a code stands for.
    """
    sizes = (text_count, len(SMALL_SPECIAL), visual_count, proprioception_count, action_count)
    _, specials, visual, joints, action, total = accumulate(sizes, initial=0)
    special = {name: specials + i for i, name in enumerate(SMALL_SPECIAL)}
    views = [IMAGE + slot.camera for slot in images]
    return Layout(
        name="small",
        vocabulary_size=total,
        text=IdRange(0, text_count),
        visual=IdRange(visual, visual_count),
        action=IdRange(action, action_count),
        proprioception=IdRange(joints, proprioception_count),
        special=special,
        images=tuple(images),
        order=("bos", "text", *views, "proprioception", "boa", "action", "eoa"),
        action_end=special["eoa"] if end_token else None,
        proprioception_length=proprioception_length,
        text_length=text_length,
        patch_px=patch_px,
    )
