"""The unified sequence: UniVLA's published ids and framing, and what a layout refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokens.chunks import fitted

from dfm_vla_ros.tokens.bins import ProprioceptionTokenizer
from dfm_vla_ros.tokens.ids import IdRange, ImageSlot
from dfm_vla_ros.tokens.layout import FILE, Layout
from dfm_vla_ros.tokens.presets import small_layout, univla_layout
from dfm_vla_ros.tokens.specification import TokenizerError

UNIVLA = univla_layout()
VIEWS = (ImageSlot("third", 4, 3), ImageSlot("wrist", 2, 2))
SMALL = small_layout(15, 64, 100, VIEWS, proprioception_count=32, proprioception_length=4)
LAYOUTS = {"univla": UNIVLA, "small": SMALL, "grid": univla_layout(2001, end_token=False)}


def published_ids() -> dict[str, int]:
    """Name -> id as Emu3's tokenizer numbers them: from 151643, extras, then vision tokens."""
    vision = ["<|image token|>", "<|image start|>", "<|image end|>"]
    vision += [f"<|visual token {code:06d}|>" for code in range(32768)]
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    names += [f"<|extra_{i}|>" for i in range(205)] + vision
    return {name: 151643 + i for i, name in enumerate(names)}


def published_image(codes: np.ndarray) -> list[int]:
    """The ids of UniVLA's ``format_video_prompt`` for one frame of ``codes`` (rows, columns)."""
    ids = published_ids()
    single = {**{str(digit): 15 + digit for digit in range(10)}, "*": 9}
    size = [single[letter] for letter in f"1*{codes.shape[0]}*{codes.shape[1]}"]
    visual = [ids[f"<|visual token {code:06d}|>"] for code in codes.flatten()]
    ends = [ids["<|extra_201|>"], ids["<|image end|>"]]
    return [ids["<|image start|>"], *size, ids["<|image token|>"], *visual, *ends]


def random_parts(layout: Layout, seed: int) -> tuple:
    rng = np.random.default_rng(seed)
    codes = {
        slot.camera: rng.integers(0, layout.visual.count, (slot.rows, slot.columns))
        for slot in layout.images
    }
    joints = rng.integers(0, layout.proprioception.count, layout.proprioception_length)
    return rng.integers(0, 15, 6), codes, joints


def test_that_a_prefix_is_that_of_univla_with_joints_before_boa() -> None:
    text, codes, joints = random_parts(UNIVLA, 0)
    ids = published_ids()
    expected = [ids["<|extra_203|>"], *text]
    for camera in ("third", "left_wrist", "right_wrist"):
        expected += published_image(codes[camera])
    expected += [*(151642 - 2048 - joints).tolist(), ids["<|extra_198|>"]]
    assert UNIVLA.prefix(text, codes, joints).tolist() == expected
    assert UNIVLA.suffix.tolist() == [ids["<|extra_199|>"]] == [151845]


def test_that_the_published_numbers_hold() -> None:
    assert UNIVLA.vocabulary_size == max(published_ids().values()) + 1 == 184622
    assert (str(UNIVLA.text), str(UNIVLA.visual)) == ("0..151642", "151854..184621")
    special = UNIVLA.special
    assert [special[n] for n in ("pad", "boa", "eoa")] == [151643, 151844, 151845]
    assert [special[n] for n in ("boi", "eoi")] == [151852, 151853]
    assert special["mask"] == published_ids()["<|extra_0|>"]
    assert [slot.count for slot in UNIVLA.images] == [625, 100, 100]


def test_that_fast_ids_run_down_from_the_last_text_id_and_end_with_eoa() -> None:
    tokens = np.array([[0, 1], [1023, 1024]])
    assert UNIVLA.to_ids(tokens).tolist() == [[151642, 151641], [150619, 151845]]
    assert UNIVLA.action_vocabulary == 1025


def test_that_the_size_of_the_sequence_is_known_beforehand() -> None:
    assert UNIVLA.prefix_length(6) == 1 + 6 + 636 + 111 + 111 + 28 + 1
    for layout in LAYOUTS.values():
        assert len(layout.prefix(*random_parts(layout, 1))) == layout.prefix_length(6)
        parts = list(layout.parts(6, action_count=12))
        assert [part.name for part in parts] == list(layout.order)
        assert [part.begin for part in parts[1:]] == [part.begin + part.length for part in parts][
            :-1
        ]


@given(name=st.sampled_from(sorted(LAYOUTS)), seed=st.integers(0, 1000))
def test_that_action_tokens_and_ids_are_one_to_one(name: str, seed: int) -> None:
    layout = LAYOUTS[name]
    tokens = np.random.default_rng(seed).integers(0, layout.action_vocabulary, (3, 5))
    assert (layout.to_tokens(layout.to_ids(tokens)) == tokens).all()
    assert len(set(layout.action_ids.tolist())) == layout.action_vocabulary


@given(name=st.sampled_from(sorted(LAYOUTS)), number=st.integers(-5, 184700))
def test_that_an_id_that_is_no_action_is_refused(name: str, number: int) -> None:
    layout = LAYOUTS[name]
    if number in layout.action_ids:
        assert layout.to_ids(layout.to_tokens(np.array([number]))) == number
    else:
        with pytest.raises(TokenizerError, match=f"id {number} is no action"):
            layout.to_tokens(np.array([number]))


def test_that_every_id_of_a_small_layout_means_one_thing() -> None:
    ranges = (SMALL.text, SMALL.visual, SMALL.action, SMALL.proprioception)
    used = [i for one in ranges for i in range(one.lowest, one.highest + 1)]
    assert sorted(used + list(SMALL.special.values())) == list(range(SMALL.vocabulary_size))


def test_that_short_text_is_padded_in_front_to_a_fixed_length() -> None:
    layout = replace(SMALL, text_length=9)
    text, codes, joints = random_parts(layout, 2)
    ids = layout.prefix(text, codes, joints)
    pad = layout.special["pad"]
    assert ids[1:10].tolist() == [pad, pad, pad, *text]
    assert len(ids) == layout.prefix_length(0) == layout.prefix_length(6)


def test_that_a_layout_reads_back_equal_with_the_same_hash(tmp_path: Path) -> None:
    for name, layout in LAYOUTS.items():
        layout.save(tmp_path / name)
        loaded = Layout.load(tmp_path / name)
        assert (loaded, loaded.hash) == (layout, layout.hash)
    assert len({layout.hash for layout in LAYOUTS.values()}) == 3


def test_that_every_missing_or_mistyped_key_is_an_error_that_names_the_file(
    tmp_path: Path,
) -> None:
    SMALL.save(tmp_path)
    whole = json.loads((tmp_path / FILE).read_text())
    for key in set(whole) - {"kind", "action_end"}:
        changes = [{k: v for k, v in whole.items() if k != key}]
        changes += [whole | {key: wrong} for wrong in ("x" if key != "name" else 3, [[]], True)]
        for changed in changes:
            (tmp_path / FILE).write_text(json.dumps(changed))
            with pytest.raises(TokenizerError, match=r"layout\.json: "):
                Layout.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": ("text", "action", "action")}, "each part once"),
        ({"order": ("text", "image:third")}, "each part once"),
        ({"order": ("text", "image:hand", "action")}, "no id for 'image:hand'"),
        ({"order": ("text", "image:third", "action")}, "'image:wrist' must come before"),
        ({"order": (*SMALL.order[:4], "boa", "action")}, "'proprioception' must come before"),
        ({"order": (*SMALL.order[:-1], "text2")}, "no id for 'text2'"),
        ({"order": ("bos", *SMALL.order[2:], "text")}, "only special ids may follow"),
        ({"images": (*VIEWS, VIEWS[0])}, "each camera once"),
        ({"visual": IdRange(20, 64)}, r"ids .* used twice"),
        ({"action": IdRange(SMALL.vocabulary_size - 50, 100)}, "out of the vocabulary"),
        ({"text": IdRange(0, 16)}, "are text too"),
        ({"action_end": 3}, "none of the special ids"),
        ({"size_text": {"*": 1}}, "needs the digits"),
        ({"special": {"bos": 15}}, "no id for 'pad'"),
        ({"special": {"bos": 15, "pad": 16}}, "no id for 'mask'"),
    ],
)
def test_that_a_layout_that_contradicts_itself_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        replace(SMALL, **changes)


def test_that_parts_that_do_not_fit_are_named() -> None:
    text, codes, joints = random_parts(SMALL, 3)
    for bad, message in (
        ((text, {"third": codes["third"]}, joints), "no codes of camera 'wrist'"),
        ((text, codes | {"wrist": np.zeros((3, 2), int)}, joints), r"wrist .*resize .*16 x 16 px"),
        ((text, codes | {"wrist": np.full(4, 64)}, joints), r"codes of wrist span 64\.\.64"),
        ((text, codes, joints[:3]), r"proprioception has shape \(3,\), expected \(4,\)"),
        ((np.array([15]), codes, joints), "text tokens span"),
    ):
        with pytest.raises(TokenizerError, match=message):
            SMALL.prefix(*bad)


def test_that_a_word_whose_id_is_an_action_is_refused() -> None:
    _, codes, joints = random_parts(UNIVLA, 4)
    with pytest.raises(TokenizerError, match="text id 151600 stands for an action"):
        UNIVLA.prefix(np.array([5, 151600]), codes, joints)


def test_that_a_layout_knows_its_tokenizers() -> None:
    grid = fitted("maat")
    joints = ProprioceptionTokenizer(tuple("abcdefg"), np.zeros(7), np.ones(7))
    LAYOUTS["grid"].check(grid, joints)
    with pytest.raises(TokenizerError, match="has 2001 tokens, the layout 1025 ids"):
        UNIVLA.check(grid, joints)
    with pytest.raises(TokenizerError, match="of 7 joints with 2049 tokens, the layout has 28"):
        LAYOUTS["grid"].check(grid, replace(joints, vocabulary_size=2049))
    with pytest.raises(TokenizerError, match="of 6 joints"):
        six = ProprioceptionTokenizer(tuple("abcdef"), np.zeros(6), np.ones(6))
        LAYOUTS["grid"].check(grid, six)
