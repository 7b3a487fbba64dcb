"""Words and joint readings as tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dfm_vla_ros.tokens.bins import ProprioceptionTokenizer
from dfm_vla_ros.tokens.specification import TokenizerError
from dfm_vla_ros.tokens.text import TextTokenizer

SENTENCES = ["Place the block on the plate.", "Lift the pot with both arms."]


def test_that_case_and_punctuation_do_not_matter() -> None:
    tokenizer = TextTokenizer.fit(SENTENCES)
    assert (
        tokenizer.encode("PLACE the block, on the plate!") == tokenizer.encode(SENTENCES[0])
    ).all()


def test_that_sentences_of_different_tasks_differ() -> None:
    tokenizer = TextTokenizer.fit(SENTENCES)
    assert (tokenizer.encode(SENTENCES[0]) != tokenizer.encode(SENTENCES[1])).any()


@pytest.mark.parametrize("sentence", ["", "   ", "?!", "völlig fremde wörter"])
def test_that_an_instruction_without_a_known_word_is_refused(sentence: str) -> None:
    with pytest.raises(TokenizerError, match="no word of the instruction"):
        TextTokenizer.fit(SENTENCES).encode(sentence)


def test_that_a_long_sentence_is_cut_to_the_length() -> None:
    tokens = TextTokenizer.fit(SENTENCES, length=4).encode("the pot " * 1000)
    assert tokens.shape == (4,)


def test_that_proprioception_keeps_order_and_clips() -> None:
    tokenizer = ProprioceptionTokenizer(("a", "b"), np.array([-1.0, 0]), np.array([1.0, 2]), 101)
    tokens = tokenizer.encode(np.array([[-5.0, 0.0], [0.0, 1.0], [5.0, 2.0]]))
    assert tokens.tolist() == [[0, 0], [50, 50], [100, 100]]


def test_that_a_reading_that_is_not_finite_names_its_joint() -> None:
    tokenizer = ProprioceptionTokenizer(("a", "b"), np.zeros(2), np.ones(2))
    with pytest.raises(TokenizerError, match="position of b is not finite"):
        tokenizer.encode(np.array([0.5, np.nan]))


def test_that_both_read_back_with_the_same_hash(tmp_path: Path) -> None:
    text = TextTokenizer.fit(SENTENCES)
    joints = ProprioceptionTokenizer(("a", "b"), np.zeros(2), np.ones(2))
    text.save(tmp_path)
    joints.save(tmp_path)
    assert TextTokenizer.load(tmp_path).hash == text.hash
    assert ProprioceptionTokenizer.load(tmp_path).hash == joints.hash


@pytest.mark.parametrize("key", ["words", "length", "lower", "upper", "vocabulary_size"])
def test_that_a_value_of_another_type_is_an_error_that_names_it(key: str, tmp_path: Path) -> None:
    TextTokenizer.fit(SENTENCES).save(tmp_path)
    ProprioceptionTokenizer(("a", "b"), np.zeros(2), np.ones(2)).save(tmp_path)
    for tokenizer, name in ((TextTokenizer, "text"), (ProprioceptionTokenizer, "proprioception")):
        path = tmp_path / "tokenizer" / f"{name}.json"
        content = json.loads(path.read_text())
        if key in content:
            path.write_text(json.dumps(content | {key: "7"}))
            with pytest.raises(TokenizerError, match=rf"{name}\.json: '{key}' is '7'"):
                tokenizer.load(tmp_path)
