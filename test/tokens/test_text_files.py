"""Text through the tokenizer files that a checkpoint folder brings."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from dfm_vla_ros.tokens.presets import univla_layout
from dfm_vla_ros.tokens.specification import TokenizerError
from dfm_vla_ros.tokens.text import (
    EMU3_PATTERN,
    Emu3Text,
    JsonText,
    TextTokenizer,
    load_text_tokenizer,
)

CORPUS = [
    "Place the block on the plate.",
    "Lift the pot with both hands, it's 25 cm wide!",
    "Put the vegetable in the pot; don't spill 3 or 4.\n\nThen stop.",
    "déjà vu, 把蔬菜放进锅里",
] * 3


def trained() -> tokenizers.Tokenizer:
    """A byte-level tokenizer with Emu3's splitting, trained here, not downloaded."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    splitters = tokenizers.pre_tokenizers
    split = splitters.Split(tokenizers.Regex(EMU3_PATTERN), behavior="isolated")
    levels = splitters.ByteLevel(add_prefix_space=False, use_regex=False)
    model.pre_tokenizer = splitters.Sequence([split, levels])
    alphabet = splitters.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=360, initial_alphabet=alphabet, show_progress=False
    )
    model.train_from_iterator(CORPUS, trainer)
    return model


MODEL = trained()


def letters() -> dict[str, int]:
    """Return letter -> byte of the byte-level alphabet (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {**{chr(b): b for b in printable}, **{chr(256 + i): b for i, b in enumerate(rest)}}


BYTES = letters()


def ranks_of_model() -> dict[bytes, int]:
    vocabulary = MODEL.get_vocab().items()
    return {bytes(BYTES[letter] for letter in token): rank for token, rank in vocabulary}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with MODEL as ``emu3.tiktoken``: base64 of the bytes, and the rank."""
    folder = tmp_path_factory.mktemp("checkpoint")
    ranks = sorted(ranks_of_model().items(), key=lambda item: item[1])
    text = "".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks)
    (folder / "emu3.tiktoken").write_text(text)
    return folder


@pytest.mark.parametrize("sentence", CORPUS[:4])
def test_that_known_sentences_have_the_ids_of_the_library(folder: Path, sentence: str) -> None:
    text = Emu3Text(folder / "emu3.tiktoken")
    assert text.encode(sentence).tolist() == MODEL.encode(sentence).ids


@given(st.text(st.characters(max_codepoint=0x2FF), min_size=1, max_size=60))
def test_that_any_text_without_composition_has_the_ids_of_the_library(sentence: str) -> None:
    if sentence.strip():
        assert TEXT.encode(sentence).tolist() == MODEL.encode(sentence).ids


def text_of_model() -> Emu3Text:
    """Emu3Text with MODEL's ranks, without a file."""
    text = Emu3Text.__new__(Emu3Text)
    text._ranks = ranks_of_model()
    return text


TEXT = text_of_model()


def test_that_text_is_composed_first_and_special_names_are_plain_text(folder: Path) -> None:
    text = Emu3Text(folder / "emu3.tiktoken")
    assert text.encode("de\u0301ja\u0300").tolist() == text.encode("d\u00e9j\u00e0").tolist()
    assert len(text.encode("<|image start|>")) > 3


def test_that_the_published_first_ranks_make_the_size_text_of_the_layout(tmp_path: Path) -> None:
    # The first 256 ranks of Emu3's (and Qwen's) file: single bytes, the printable ones first.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    order = printable + [byte for byte in range(256) if byte not in printable]
    lines = (f"{base64.b64encode(bytes([b])).decode()} {i}\n" for i, b in enumerate(order))
    (tmp_path / "emu3.tiktoken").write_text("".join(lines))
    text = load_text_tokenizer(tmp_path)
    assert text.encode("1*25*25").tolist() == [16, 9, 17, 20, 9, 17, 20]
    univla_layout().check_text(text)


def test_that_another_text_tokenizer_is_refused_by_the_layout() -> None:
    with pytest.raises(TokenizerError, match=r"of '1\*25\*25', the layout \[16, 9"):
        univla_layout().check_text(ShiftedText())


class ShiftedText:
    hash, vocabulary_size = "", 300

    def encode(self, sentence: str) -> object:
        return TEXT.encode(sentence) + 1


def test_that_the_folder_decides_which_tokenizer_reads_the_text(
    folder: Path, tmp_path: Path
) -> None:
    assert isinstance(load_text_tokenizer(folder), Emu3Text)
    TextTokenizer.fit(CORPUS).save(tmp_path)
    assert isinstance(load_text_tokenizer(tmp_path), TextTokenizer)
    MODEL.save(str(tmp_path / "tokenizer" / "tokenizer.json"))
    chosen = load_text_tokenizer(tmp_path)
    assert isinstance(chosen, JsonText)
    assert chosen.encode(CORPUS[0]).tolist() == MODEL.encode(CORPUS[0]).ids
    assert chosen.vocabulary_size == MODEL.get_vocab_size()


def test_that_a_folder_without_text_tokenizer_says_what_to_copy(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"copy emu3\.tiktoken or tokenizer\.json"):
        load_text_tokenizer(tmp_path)


@pytest.mark.parametrize("sentence", ["", "  \n"])
def test_that_an_empty_instruction_is_refused(folder: Path, sentence: str) -> None:
    with pytest.raises(TokenizerError, match="the instruction is empty"):
        load_text_tokenizer(folder).encode(sentence)


def test_that_a_damaged_ranks_file_names_its_line(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "emu3.tiktoken").read_text().splitlines()
    for damaged, message in (
        ([*lines[:40], "!!! 40", *lines[41:]], r"emu3\.tiktoken, line 41"),
        ([*lines[:40], "IQ==", *lines[41:]], r"emu3\.tiktoken, line 41"),
        (lines[:40] + lines[41:], r"emu3\.tiktoken is not whole"),
        (lines[:200], r"emu3\.tiktoken is not whole"),
    ):
        (tmp_path / "emu3.tiktoken").write_text("\n".join(damaged))
        with pytest.raises(TokenizerError, match=message):
            load_text_tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"version": "1.0"})])
def test_that_a_damaged_json_file_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: .*copy the checkpoint again"):
        load_text_tokenizer(tmp_path)
