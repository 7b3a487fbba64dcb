"""The closed loop: what an expert says in tokens is done, what stands still fails."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from dfm_vla_ros.evaluation.runner import Loop, LoopConfig
from dfm_vla_ros.policy.types import Chunk, Observation
from dfm_vla_ros.robot.description import robot_description
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.robot.limits import JointLimits
from dfm_vla_ros.sim.experts import expert_targets
from dfm_vla_ros.sim.twin import Twin
from dfm_vla_ros.tokens.action import ActionTokenizer

TASK, SEED, HORIZON = "place_block", 1_000_100, 8


@pytest.fixture(scope="module")
def twin() -> Iterator[Twin]:
    twin = Twin(camera_size=(32, 32))
    yield twin
    twin.close()


def expert_loop(twin: Twin, latency_s: float) -> Loop:
    """Return a loop whose policy is the expert, its targets put through the tokenizer."""
    twin.reset(TASK, SEED)
    targets = expert_targets(TASK, twin)
    steps = np.minimum(
        np.arange(len(targets))[:, None] + np.arange(1, HORIZON + 1), len(targets) - 1
    )
    tokenizer = ActionTokenizer.fit(targets[steps], targets, JOINT_NAMES, [], 0.1, quantile=1.0)

    def act(observation: Observation, _seed: int) -> Chunk:
        now = min(round(twin.time_s / 0.1), len(targets) - 1)
        tokens = tokenizer.encode(targets[steps[now]], observation.commanded)
        return Chunk(tokens, observation.commanded, 0.0, 1)

    config = LoopConfig(latency_s=latency_s, timeout_s=15.0)
    return Loop(twin, act, tokenizer, JointLimits.from_urdf(robot_description()), config)


@pytest.mark.parametrize("latency_s", [0.0, 0.1, 0.3])
def test_that_the_expert_in_tokens_succeeds_at_any_latency_below_the_chunk(
    twin: Twin, latency_s: float
) -> None:
    result = expert_loop(twin, latency_s).run(TASK, SEED)
    assert result.success
    assert result.refused == 0
    assert result.chunks == pytest.approx(result.seconds / 0.4, abs=1.5)


def test_that_a_policy_that_stays_fails_at_the_timeout(twin: Twin) -> None:
    loop = expert_loop(twin, 0.1)
    stay = np.full((HORIZON, len(JOINT_NAMES)), loop.tokenizer.vocabulary_size // 2)
    loop.act = lambda observation, _: Chunk(stay, observation.commanded, 0.0, 1)
    loop.config = LoopConfig(timeout_s=2.0)
    result = loop.run(TASK, SEED)
    assert not result.success
    assert result.seconds == pytest.approx(2.0, abs=0.01)


def test_that_a_refused_chunk_is_counted_and_moves_nothing(twin: Twin) -> None:
    loop = expert_loop(twin, 0.1)
    far = np.full((HORIZON, len(JOINT_NAMES)), 0)
    loop.act = lambda observation, _: Chunk(far, observation.commanded - 2.0, 0.0, 1)
    loop.config = LoopConfig(timeout_s=1.0)
    twin.reset(TASK, SEED)
    start = twin.commanded
    result = loop.run(TASK, SEED)
    assert result.refused == result.chunks > 0
    assert np.allclose(twin.commanded, start)
