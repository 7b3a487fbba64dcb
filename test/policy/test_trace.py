"""What a chunk's trace says of how it was decoded."""

from __future__ import annotations

import numpy as np
import pytest
from small import random_observation, small_checkpoint

from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.types import Chunk, Guidance


@pytest.fixture(scope="module")
def policy() -> Policy:
    return Policy(small_checkpoint())


@pytest.fixture(scope="module")
def traced(policy: Policy) -> Chunk:
    return policy.act(random_observation(), seed=5, trace=True)


def test_that_a_trace_changes_no_token_and_comes_only_when_asked_for(
    policy: Policy, traced: Chunk
) -> None:
    plain = policy.act(random_observation(), seed=5)
    assert (traced.tokens == plain.tokens).all()
    assert plain.trace is None


def test_that_there_is_a_row_for_every_evaluation_and_the_last_is_the_chunk(
    traced: Chunk,
) -> None:
    trace = traced.trace
    assert trace.kinds == ("refinement",) * 14 + ("validation",) * 2
    assert (np.diff(trace.times) > 0).all()
    for rows in (trace.tokens, trace.targets, trace.jumped, trace.confidence):
        assert rows.shape == (traced.evaluations, 8 * 14)
    assert (trace.tokens[-1] == traced.tokens.ravel()).all()


def test_that_jumps_are_exactly_the_tokens_that_changed(traced: Chunk) -> None:
    changed = traced.trace.tokens[1:] != traced.trace.tokens[:-1]
    assert (traced.trace.jumped[1:] == changed).all()
    assert traced.trace.jumped[:-2].any()


def test_that_confidences_are_probabilities(traced: Chunk) -> None:
    assert ((traced.trace.confidence > 0) & (traced.trace.confidence <= 1)).all()


def test_that_committed_tokens_are_marked_and_never_jump(policy: Policy) -> None:
    mask = np.repeat(np.arange(8)[:, None] < 3, 14, axis=1)
    guidance = Guidance(mask, np.full((8, 14), 7), None, 3)
    trace = policy.act(random_observation(), guidance=guidance, trace=True).trace
    assert (trace.committed == mask.ravel()).all()
    assert (trace.tokens[:, trace.committed] == 7).all()
    assert not trace.jumped[:, trace.committed].any()


def test_that_a_warm_start_leaves_rows_for_the_steps_that_were_taken(policy: Policy) -> None:
    guidance = Guidance(np.zeros((8, 14), bool), np.full((8, 14), 7), 0.5, 0)
    chunk = policy.act(random_observation(), guidance=guidance, trace=True)
    assert len(chunk.trace.times) == chunk.evaluations == 8
    assert chunk.trace.times[0] == 0.5
