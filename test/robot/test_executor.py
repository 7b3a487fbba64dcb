"""The executor takes a chunk whole or refuses it whole, and holds."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from robots import HOME, LIMITS, tokenizer

from dfm_vla_ros.robot.executor import ChunkRefused, Executor, Request, Verdict
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.tokens.dct import DctTokenizer

TOKENIZER = tokenizer()


def request(token: int = 128, **changes: Any) -> Request:
    made = Request(
        tokenizer_hash=TOKENIZER.hash,
        joint_names=JOINT_NAMES,
        horizon=8,
        tokens=np.full(8 * 14, token, dtype=np.uint16),
        reference=HOME.copy(),
        control_period_s=0.1,
        observation_s=10.0,
    )
    return replace(made, **changes)


def ready() -> Executor:
    executor = Executor(TOKENIZER, LIMITS)
    executor.measure(JOINT_NAMES, HOME, 9.99)
    return executor


def test_that_a_chunk_moves_the_reference() -> None:
    executor = ready()
    up = np.full((8, 14), 128, dtype=np.uint16)
    up[:, 0] = 138
    executor.receive(request(tokens=up.ravel()), 10.05)
    assert executor.executing(10.86) and not executor.executing(10.88)
    np.testing.assert_allclose(executor.sample(10.88)[0][0], 0.05)


def test_that_tokens_need_not_belong_to_one_step_each() -> None:
    rng = np.random.default_rng(0)
    targets = HOME + rng.uniform(0.0, 0.1, (50, 1, 14)) * np.linspace(0.1, 1.0, 8)[:, None]
    targets[..., 6::7] = 0.03
    grippers = ("left_gripper", "right_gripper")
    reference = np.tile(HOME, (50, 1))
    waves = DctTokenizer.fit(targets, reference, JOINT_NAMES, grippers, 0.1, coefficients=4)
    assert waves.token_count == 4 * 14
    executor = Executor(waves, LIMITS)
    executor.measure(JOINT_NAMES, HOME, 9.99)
    tokens = waves.encode(targets[0], HOME)
    executor.receive(request(tokenizer_hash=waves.hash, tokens=tokens.ravel()), 10.0)
    np.testing.assert_allclose(executor.sample(11.0)[0], targets[0, -1], atol=5e-3)


def test_that_joints_are_found_by_name() -> None:
    executor = Executor(TOKENIZER, LIMITS)
    executor.measure((*JOINT_NAMES[::-1], "extra"), np.append(HOME[::-1], 9.0), 1.0)
    np.testing.assert_array_equal(executor.sample(1.0)[0], HOME)


NAN = np.where(np.arange(14) == 3, np.nan, HOME)


@pytest.mark.parametrize(
    ("changes", "verdict", "message"),
    [
        ({"tokenizer_hash": "beef"}, Verdict.UNKNOWN_TOKENIZER, "tokenizer_hash is 'beef'"),
        ({"joint_names": JOINT_NAMES[::-1]}, Verdict.WRONG_JOINTS, "joint_names are"),
        ({"horizon": 7}, Verdict.MALFORMED, "horizon 7 is not 8"),
        ({"tokens": np.zeros(5, np.uint16)}, Verdict.MALFORMED, "5 tokens, not 112"),
        ({"reference": HOME[:7]}, Verdict.MALFORMED, "7 reference positions, not 14"),
        ({"reference": NAN}, Verdict.MALFORMED, "not finite"),
        ({"control_period_s": np.nan}, Verdict.MALFORMED, "control_period is nan s, not 0.1 s"),
        ({"token": 256}, Verdict.MALFORMED, "token 256 is out of vocabulary"),
        ({"observation_s": 5.0}, Verdict.TOO_LATE, "is 5.050 s old, allowed is 2.0"),
        ({"observation_s": np.nan}, Verdict.MALFORMED, "time is nan s, not finite"),
        ({"observation_s": 99.0}, Verdict.MALFORMED, "lies 88.950 s ahead"),
        ({"tokens": np.full(112, -1)}, Verdict.MALFORMED, "token -1 is out of vocabulary"),
        ({"mode": 9}, Verdict.MALFORMED, "mode is 9, known are 0 .. 3"),
        ({"committed_steps": 9}, Verdict.MALFORMED, "committed_steps is 9, allowed are 0 .. 8"),
        ({"execute_steps": 9}, Verdict.MALFORMED, "execute_steps is 9, allowed are 0 .. 8"),
        ({"expected_interval_s": np.nan}, Verdict.MALFORMED, "expected_interval is nan s"),
        ({"reference": HOME + 0.9}, Verdict.LIMIT_VIOLATED, "right_joint"),
    ],
)
def test_that_a_broken_chunk_is_refused_and_changes_nothing(
    changes: dict[str, Any], verdict: Verdict, message: str
) -> None:
    executor = ready()
    before = executor.sample(10.4)
    with pytest.raises(ChunkRefused) as caught:
        executor.receive(request(**changes), 10.05)
    assert caught.value.verdict == verdict
    assert message in str(caught.value) or "joint" in message
    np.testing.assert_array_equal(executor.sample(10.4), before)


def test_that_a_chunk_without_joint_states_is_refused() -> None:
    with pytest.raises(ChunkRefused) as caught:
        Executor(TOKENIZER, LIMITS).receive(request(), 10.05)
    assert caught.value.verdict == Verdict.NO_REFERENCE


def test_that_old_joint_states_refuse_a_chunk() -> None:
    executor = Executor(TOKENIZER, LIMITS)
    executor.measure(JOINT_NAMES, HOME, 9.0)
    with pytest.raises(ChunkRefused, match=r"joint states are 1\.050 s old, allowed is 0.5 s"):
        executor.receive(request(), 10.05)


@pytest.mark.parametrize(
    ("names", "positions", "message"),
    [
        (("left_gripper", "right_gripper"), [0.0, 0.0], "the joint states lack left_joint1"),
        (JOINT_NAMES, NAN, "left_joint4 is nan, not finite"),
        (JOINT_NAMES, HOME[:3], "the joint states lack left_joint4"),
    ],
)
def test_that_unusable_joint_states_do_not_count_as_new(
    names: tuple[str, ...], positions: Any, message: str
) -> None:
    executor = ready()
    with pytest.raises(ChunkRefused, match=message):
        executor.measure(names, positions, 11.0)
    np.testing.assert_array_equal(executor.sample(11.0)[0], HOME)
    with pytest.raises(ChunkRefused, match=r"joint states are 1\.010 s old"):
        executor.receive(request(observation_s=11.0), 11.0)


def test_that_a_chunk_older_than_the_running_one_is_refused() -> None:
    executor = ready()
    executor.receive(request(), 10.05)
    with pytest.raises(ChunkRefused, match="only one policy"):
        executor.receive(request(observation_s=9.9), 10.06)


def test_that_a_reset_waits_for_joint_states_from_after_it() -> None:
    executor = ready()
    executor.reset(10.1)
    executor.measure(JOINT_NAMES, HOME, 10.09)
    assert executor.sample(10.1) is None
    executor.measure(JOINT_NAMES, HOME + 0.01, 10.11)
    np.testing.assert_allclose(executor.sample(10.2)[0], HOME + 0.01)
    with pytest.raises(ChunkRefused, match="before the robot was reset"):
        executor.receive(request(), 10.2)


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.13, 0.31])
def test_that_consecutive_chunks_meet_without_a_step(delay: float) -> None:
    executor = ready()
    rng = np.random.default_rng(3)
    executor.receive(request(tokens=rng.integers(120, 137, 112).astype(np.uint16)), 10.05)
    now = 10.4 + delay
    executor.measure(JOINT_NAMES, HOME, now)
    times = now + np.linspace(0.0, 0.019, 20)
    old = [executor.sample(at) for at in times]
    tokens = rng.integers(120, 137, 112).astype(np.uint16)
    reference = executor.sample(10.4)[0]
    executor.receive(request(tokens=tokens, observation_s=10.4, reference=reference), now)
    new = [executor.sample(at) for at in times]
    for before, after in zip(old, new, strict=True):
        np.testing.assert_allclose(before, after, atol=1e-9)


def test_that_the_executor_never_loads_torch() -> None:
    code = (
        "import sys, dfm_vla_ros.robot.executor, dfm_vla_ros.tokens.action;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
