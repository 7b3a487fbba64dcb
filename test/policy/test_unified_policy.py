"""One policy, both kinds of checkpoint: a tiny Emu3 saved as UniVLA would be, a small Llama."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small import INSTRUCTION, random_observation
from tiny_univla import action_tokenizer, save_univla, save_vision, unified_checkpoint

from dfm_vla_ros.cli import main
from dfm_vla_ros.model.caching import Caching
from dfm_vla_ros.model.folder import DecoderConfig
from dfm_vla_ros.policy.policy import ObservationError, Policy
from dfm_vla_ros.policy.types import Guidance
from dfm_vla_ros.tokens.dct import DctTokenizer


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("univla")
    save_univla(folder / "model")
    save_vision(folder / "vision", "baai")
    action_tokenizer().save(folder / "actions")
    arguments = ["--out", str(folder / "checkpoint"), "--vision", str(folder / "vision")]
    arguments += ["--tokenizer", str(folder / "actions"), "--task", f"place_block={INSTRUCTION}"]
    assert main(["checkpoint", "import-univla", str(folder / "model"), *arguments]) == 0
    return folder / "checkpoint"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama") / "checkpoint"
    unified_checkpoint().save(folder, "# test\n")
    return folder


@pytest.mark.parametrize("kind", ["imported", "llama"])
def test_that_a_unified_checkpoint_acts(kind: str, request: pytest.FixtureRequest) -> None:
    policy = Policy.load(request.getfixturevalue(kind))
    chunk = policy.act(random_observation(), seed=3)
    assert chunk.tokens.shape == (5, 14)
    assert chunk.evaluations == 16
    assert (chunk.tokens == policy.act(random_observation(), seed=3).tokens).all()
    assert (chunk.tokens != policy.act(random_observation(seed=1), seed=3).tokens).any()
    assert policy.cameras == ("third", "left_wrist", "right_wrist")
    assert policy.image_size == (200 if kind == "imported" else 32)
    assert len(policy.checkpoint_hash) == 64


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_that_it_acts_in_lower_precision(llama: Path, precision: str) -> None:
    exact = Policy.load(llama).act(random_observation()).tokens
    rough = Policy.load(llama, precision=precision).act(random_observation()).tokens
    assert np.abs(rough - exact).mean() < 8


def test_that_committed_steps_are_kept_and_a_warm_start_is_shorter(llama: Path) -> None:
    policy = Policy.load(llama, caching=Caching("adaptive", 0.5))
    tokens = np.full((5, 14), 9)
    committed = np.zeros((5, 14), dtype=bool)
    committed[:2] = True
    chunk = policy.act(random_observation(), guidance=Guidance(committed, tokens, 0.5, 2))
    assert (chunk.tokens[:2] == 9).all()
    assert chunk.evaluations < 16


def test_that_the_cache_can_be_chosen(llama: Path) -> None:
    answers = {
        name: Policy.load(llama, caching=caching).act(random_observation()).tokens
        for name, caching in (
            ("prefix", None),
            ("off", Caching("off")),
            ("all", Caching("adaptive", 1.0)),
            ("some", Caching("adaptive", 0.2)),
        )
    }
    assert (answers["off"] == answers["prefix"]).all()
    assert (answers["all"] == answers["prefix"]).all()
    assert (answers["some"] == answers["prefix"]).mean() > 0.2


def test_that_policies_of_one_network_do_not_meet() -> None:
    checkpoint = unified_checkpoint()
    caching = Caching("adaptive", 0.3)
    one, two = (Policy(checkpoint, caching=caching) for _ in range(2))
    expected = one.act(random_observation()).tokens
    two.act(random_observation(seed=5))
    assert (one.act(random_observation()).tokens == expected).all()


def test_that_an_early_stop_saves_evaluations(llama: Path) -> None:
    decoder = DecoderConfig(early_stop_within=64)
    chunk = Policy(unified_checkpoint(), decoder=decoder).act(random_observation())
    assert chunk.evaluations == 2


def test_that_tokens_without_a_step_of_their_own_are_not_committed() -> None:
    checkpoint = unified_checkpoint()
    rng = np.random.default_rng(0)
    reference = rng.uniform(-0.1, 0.1, (40, 14))
    targets = reference[:, None] + rng.normal(0, 0.01, (40, 5, 14)).cumsum(1)
    checkpoint.action = DctTokenizer.fit(
        targets,
        reference,
        checkpoint.action.joint_names,
        [],
        0.1,
        vocabulary_size=64,
    )
    checkpoint.refiner.token_count = checkpoint.action.token_count
    policy = Policy(checkpoint)
    assert policy.act(random_observation()).tokens.shape == checkpoint.action.token_shape
    with pytest.raises(ObservationError, match="kind 'dct' belongs to no step"):
        policy.act(
            random_observation(),
            guidance=Guidance(np.zeros((5, 14), bool), np.zeros((5, 14), int), None, 0),
        )


def test_that_an_early_stop_is_given_at_loading(llama: Path) -> None:
    assert Policy.load(llama, early_stop_within=64).act(random_observation()).evaluations == 2
    assert Policy.load(llama).act(random_observation()).evaluations == 16
