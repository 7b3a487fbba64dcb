from __future__ import annotations

import pytest

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.sim.perturbations import Setting
from dfm_vla_ros.sim.tasks import TASKS
from dfm_vla_ros.sim.twin import Twin
from dfm_vla_ros.sim.variation import KINDS, PHRASINGS, sentence
from dfm_vla_ros.tokens.text import UNKNOWN, TextTokenizer, split_words

EVERY_TRAIN = [said for phrasings in PHRASINGS.values() for said in phrasings.train]


def test_that_no_held_out_sentence_is_in_any_demonstration() -> None:
    for phrasings in PHRASINGS.values():
        assert not set(phrasings.held_out) & set(EVERY_TRAIN)


def test_that_a_sentence_means_one_task_and_fits_a_short_tokenizer() -> None:
    said = EVERY_TRAIN + [s for phrasings in PHRASINGS.values() for s in phrasings.held_out]
    assert len(said) == len(set(said))
    assert all(len(split_words(sentence)) <= 8 for sentence in said)


@pytest.mark.parametrize("task", TASKS)
def test_that_held_out_sentences_recombine_known_words_and_the_last_has_new_ones(
    task: str,
) -> None:
    tokenizer = TextTokenizer.fit(EVERY_TRAIN)
    *known, new = (tokenizer.encode(said) for said in PHRASINGS[task].held_out)
    assert all(UNKNOWN not in tokens for tokens in known)
    assert 1 <= (new == UNKNOWN).sum() <= len(new) - 2


@pytest.mark.parametrize("kind", KINDS)
def test_that_a_seed_always_says_the_same_and_all_sentences_come(kind: str) -> None:
    said = [sentence("place_veg", kind, seed) for seed in range(60)]
    assert said == [sentence("place_veg", kind, seed) for seed in range(60)]
    assert set(said) == set(PHRASINGS["place_veg"].of(kind))


def test_that_the_twin_says_what_the_setting_asks_for(twin: Twin) -> None:
    twin.setting = Setting(phrasing="held_out", instruction_of="pot_lift")
    try:
        twin.reset("place_veg", 3)
        assert twin.instruction in PHRASINGS["pot_lift"].held_out
        assert twin.status().instruction == twin.instruction
        assert twin.other is not None and twin.other.name == "pot_lift"
        twin.reset("place_block", 3)
        assert twin.other is None
    finally:
        twin.setting = Setting()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"phrasing": "rude"}, "unknown phrasing 'rude'"),
        ({"variation": "odd"}, "unknown variation 'odd'; there are off, layout, middle, wide"),
        ({"perturbation": "flood"}, "unknown perturbation 'flood'; there are none, camera_noise"),
        ({"instruction_of": "juggle"}, "unknown task 'juggle' in instruction_of"),
    ],
)
def test_that_a_setting_that_does_not_exist_is_answered_with_those_that_do(
    given: dict[str, str], message: str
) -> None:
    with pytest.raises(DfmVlaError, match=message):
        Setting(**given)
