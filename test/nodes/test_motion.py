"""What a stream samples is what the executor commands: the same curve, C1 across every seam."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "robot"))

from robots import HOME, LIMITS, tokenizer

from dfm_vla_ros.nodes.outputs import REJOIN_S, StreamedMotion
from dfm_vla_ros.robot.executor import ChunkRefused, Executor, Request

RATE_HZ = 200.0
STEPS = st.lists(
    st.tuples(
        st.floats(0.02, 0.7),  # until it is sent
        st.sampled_from(["chunk", "chunk", "chunk", "hold"]),
        st.integers(0, 2**32 - 1),
    ),
    min_size=1,
    max_size=6,
)


def request(executor: Executor, seed: int, now_s: float) -> Request:
    rng = np.random.default_rng(seed)
    known = executor.tokenizer
    walk = np.cumsum(rng.integers(-12, 13, (8, 14)), axis=0) + 128
    walk[:, [6, 13]] = 128 - rng.integers(0, 60, (8, 2))  # 0.5 mm each, from open
    tokens = np.clip(walk, 0, 255).astype(np.int64).ravel()
    reference = executor.sample(now_s)[0].copy()
    reference[[6, 13]] = 0.035
    names, period_s = known.joint_names, known.control_period_s
    return Request(known.hash, names, 8, tokens, reference, period_s, now_s)


@settings(max_examples=40)
@given(STEPS)
def test_that_the_stream_keeps_limits_and_equals_the_executor(steps: list[tuple]) -> None:
    executor, motion = Executor(tokenizer(), LIMITS), StreamedMotion()
    now_s, samples, expected = 100.0, [], []

    def stream(until_s: float) -> None:
        nonlocal now_s
        while now_s < until_s:
            executor.measure(LIMITS.names, HOME, now_s)
            sample = motion.sample(now_s)
            if sample is not None:
                samples.append((now_s, *sample))
                expected.append(executor.sample(now_s))
            now_s += 1 / RATE_HZ

    executor.measure(LIMITS.names, HOME, now_s)
    for wait_s, what, seed in steps:
        stream(now_s + wait_s)
        try:
            plan = executor.hold(now_s) if what == "hold" else None
            if what == "chunk":
                plan = executor.receive(request(executor, seed, now_s), now_s)
        except ChunkRefused:
            continue
        if plan is not None:
            motion.follow(plan, now_s)
    stream(now_s + 12.0)
    check(samples, expected)


def check(samples: list[tuple], expected: list[tuple]) -> None:
    if not samples:
        return
    times = np.array([t for t, _, _ in samples])
    positions = np.array([q for _, q, _ in samples])
    velocities = np.array([v for _, _, v in samples])
    steps = np.diff(times)[:, None]
    np.testing.assert_allclose(positions, [q for q, _ in expected], atol=1e-9)
    np.testing.assert_allclose(velocities, [v for _, v in expected], atol=1e-6)
    assert (positions >= LIMITS.lower - 1e-9).all() and (positions <= LIMITS.upper + 1e-9).all()
    assert (np.abs(velocities) <= LIMITS.velocity + 1e-6).all()
    assert (np.abs(np.diff(positions, axis=0)) <= LIMITS.velocity * steps + 1e-6).all()
    bends = np.abs(np.diff(velocities, axis=0)) / steps
    assert (bends <= LIMITS.acceleration + 1e-3).all()
    assert not velocities[-1].any()


def test_that_nothing_is_commanded_before_the_first_plan_and_after_leaving() -> None:
    executor, motion = Executor(tokenizer(), LIMITS), StreamedMotion()
    executor.measure(LIMITS.names, HOME, 1.0)
    assert motion.sample(1.0) is None
    motion.follow(executor.receive(request(executor, 1, 1.0), 1.0), 1.0)
    np.testing.assert_array_equal(motion.sample(1.0)[0], HOME)
    motion.leave(1.5)
    assert motion.sample(1.49) is not None
    assert motion.sample(1.5) is None
    assert motion.sample(1.2) is None


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.7), st.floats(0.0, 0.03))
def test_that_a_plan_that_comes_late_is_joined_without_a_step(
    seed: int, wait_s: float, late_s: float
) -> None:
    executor, motion, now_s = Executor(tokenizer(), LIMITS), StreamedMotion(), 100.0
    executor.measure(LIMITS.names, HOME, now_s)
    try:
        motion.follow(executor.receive(request(executor, seed, now_s), now_s), now_s)
        now_s += wait_s
        executor.measure(LIMITS.names, HOME, now_s)
        plan = executor.receive(request(executor, seed + 1, now_s), now_s)
    except ChunkRefused:
        return
    at_s = plan.start_s + late_s
    before = motion.sample(at_s - 1e-9)
    motion.follow(plan, at_s)
    after = motion.sample(at_s)
    np.testing.assert_allclose(after[0], before[0], atol=1e-7)
    np.testing.assert_allclose(after[1], before[1], atol=1e-5)
    times = np.arange(at_s, at_s + 0.1, 1 / RATE_HZ)
    velocities = np.array([motion.sample(t)[1] for t in times])
    bends = np.abs(np.diff(velocities, axis=0)) * RATE_HZ
    assert (bends <= 2 * LIMITS.acceleration).all(), "the way back is added to the plan"
    end = motion.sample(at_s + REJOIN_S)
    np.testing.assert_allclose(end[0], executor.sample(at_s + REJOIN_S)[0], atol=1e-9)
