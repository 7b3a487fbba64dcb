"""What a new chunk keeps of the running one, and when the next one is due."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfm_vla_ros.policy.realtime import Continuation, RealtimeError, RealtimeSession
from dfm_vla_ros.policy.types import Chunk, Guidance, Observation
from dfm_vla_ros.robot.chunks import JoinMode
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.robot.progress import Progress
from dfm_vla_ros.tokens.action import ActionTokenizer
from dfm_vla_ros.tokens.dct import DctTokenizer

HORIZON, JOINTS, PERIOD_S = 8, len(JOINT_NAMES), 0.1
GRIPPERS = [6, 13]
RUNNING = Progress("goal", 1, 10.0, PERIOD_S, HORIZON)


def tokenizer(vocabulary_size: int = 256, width: float = 0.002) -> ActionTokenizer:
    """Return one whose bins are equal at all steps, arms relative and grippers absolute."""
    middle = np.full(JOINTS, np.nan)
    middle[GRIPPERS] = 0.0175
    widths = np.full((HORIZON, JOINTS), width)
    widths[:, GRIPPERS] = 0.035 / 255
    return ActionTokenizer(JOINT_NAMES, widths, middle, vocabulary_size, PERIOD_S)


def chunk(seed: int, steps: int = 40) -> Chunk:
    """Return a chunk whose joints walk by up to ``steps`` bins a step."""
    rng = np.random.default_rng(seed)
    walk = 128 + np.cumsum(rng.integers(-steps, steps + 1, (HORIZON, JOINTS)), axis=0)
    reference = rng.uniform(-0.5, 0.5, JOINTS)
    reference[GRIPPERS] = 0.02
    return Chunk(np.clip(walk, 0, 255), reference, 0.0, 1)


def guided(
    running: Chunk,
    phase: float,
    commanded: np.ndarray | None = None,
    inference_s: float = 0.1,
    known: ActionTokenizer | None = None,
    progress: Progress | None = RUNNING,
    mode: JoinMode = JoinMode.RTC,
) -> Guidance | None:
    """Return the guidance of an observation made ``phase`` steps into ``running``."""
    continuation = Continuation(known or tokenizer(), mode)
    continuation.remember("goal", 1, running)
    observed_s = 10.0 + phase * PERIOD_S
    reference = running.reference if commanded is None else commanded
    return continuation.guidance(progress, observed_s, reference, observed_s + inference_s)


@given(st.integers(0, 1000), st.integers(0, HORIZON - 1))
def test_that_after_whole_steps_and_from_the_same_reference_the_tokens_are_the_old_ones_shifted(
    seed: int, k: int
) -> None:
    running = chunk(seed, steps=10)
    found = guided(running, k)
    assert (found.tokens[: HORIZON - k] == running.tokens[k:]).all()
    assert (found.tokens[HORIZON - k :] == running.tokens[-1]).all()


@given(st.integers(0, 1000), st.floats(0.01, HORIZON - 0.01))
def test_that_a_new_reference_and_a_part_of_a_step_give_the_old_targets_within_half_a_bin(
    seed: int, phase: float
) -> None:
    running, known = chunk(seed, steps=4), tokenizer()
    commanded = running.reference + np.random.default_rng(seed).uniform(-0.05, 0.05, JOINTS)
    found = guided(running, phase, commanded)
    old = np.vstack([running.reference, known.decode(running.tokens, running.reference)])
    for row, target in enumerate(known.decode(found.tokens, commanded)):
        step = min(phase + row + 1, HORIZON)
        low = min(int(step), HORIZON - 1)
        expected = old[low] + (step - low) * (old[low + 1] - old[low])
        assert (np.abs(target - expected) <= known.widths[row] / 2 + 1e-9).all()


@given(st.integers(0, 100), st.floats(0.0, 7.9), st.floats(0.0, 1.5), st.floats(1.0, 4.0))
def test_that_every_step_executed_until_the_joining_is_committed_and_none_beyond_the_motion(
    seed: int, phase: float, inference_s: float, scale: float
) -> None:
    period_s = PERIOD_S * scale
    observed_s = 10.0 + phase * period_s
    progress = Progress("goal", 1, 10.0, period_s, HORIZON)
    continuation = Continuation(tokenizer(), JoinMode.RTC)
    running = chunk(seed, steps=4)
    continuation.remember("goal", 1, running)
    found = continuation.guidance(
        progress, observed_s, running.reference, observed_s + inference_s
    )
    executed = progress.at(observed_s + inference_s) - phase
    assert found.committed_steps >= min(int(executed - 1e-5), HORIZON - 1)
    # The next one that is due half a step later or more is the one that the arms go to then.
    assert found.committed_steps <= min(HORIZON - phase + 1e-5, executed + 1.5 + 1e-5)
    assert found.committed_steps < HORIZON
    assert (found.committed.all(axis=1) == (np.arange(HORIZON) < found.committed_steps)).all()
    assert (found.committed.any(axis=1) == found.committed.all(axis=1)).all()


def test_that_a_step_beyond_the_tokens_range_is_committed_as_the_last_token() -> None:
    tokens = np.full((HORIZON, JOINTS), 128)
    tokens[3:, 2] = 250
    commanded = np.zeros(JOINTS)
    commanded[2] = -0.05  # 25 bins lower: the target would be token 275
    found = guided(Chunk(tokens, np.zeros(JOINTS), 0.0, 1), 0.0, commanded, 0.5)
    assert found.committed_steps == 6
    assert (found.tokens[3:, 2] == 255).all()


def test_that_committed_steps_are_remembered_as_they_were_and_not_as_tokens() -> None:
    known, running = tokenizer(), chunk(5, steps=4)
    continuation = Continuation(known, JoinMode.RTC)
    continuation.remember("goal", 0, running)
    targets = known.decode(running.tokens, running.reference)
    far = running.reference + 1.0  # every arm joint's token is the first of the range
    first = continuation.guidance(Progress("goal", 0, 10.0, PERIOD_S, HORIZON), 10.1, far, 10.5)
    kept = Chunk(first.tokens, far, 0.0, 1, first.committed_steps)
    continuation.remember("goal", 1, kept, first)
    near = Progress("goal", 1, 10.1, PERIOD_S, HORIZON)
    second = continuation.guidance(near, 10.3, targets[2], 10.4)
    assert (second.tokens[:2] == known.encode(np.roll(targets, -3, axis=0), targets[2])[:2]).all()


def test_that_a_gripper_keeps_its_tokens_whatever_its_reference_is() -> None:
    running = chunk(1, steps=10)
    commanded = running.reference.copy()
    commanded[GRIPPERS] = 0.0
    assert (
        guided(running, 2, commanded).tokens[:6, GRIPPERS] == running.tokens[2:, GRIPPERS]
    ).all()


def test_that_a_chunk_cut_short_rests_at_its_last_step() -> None:
    running, known = chunk(3, steps=4), tokenizer()
    found = guided(running, 2.0, progress=Progress("goal", 1, 10.0, PERIOD_S, 5))
    assert (
        found.tokens[3:]
        == known.encode(
            np.repeat(known.decode(running.tokens, running.reference)[4][None], HORIZON, 0),
            running.reference,
        )[3:]
    ).all()


@pytest.mark.parametrize(
    ("phase", "progress", "mode"),
    [
        (2.0, None, JoinMode.RTC),
        (2.0, Progress("goal", 1, 10.0, 0.0, HORIZON), JoinMode.RTC),
        (2.0, Progress("goal", 2, 10.0, PERIOD_S, HORIZON), JoinMode.RTC),
        (2.0, Progress("another", 1, 10.0, PERIOD_S, HORIZON), JoinMode.RTC),
        (8.0, RUNNING, JoinMode.RTC),
        (2.0, RUNNING, JoinMode.LATEST),
        (2.0, RUNNING, JoinMode.BLEND),
        (2.0, RUNNING, JoinMode.SYNCHRONOUS),
    ],
)
def test_that_without_a_known_chunk_in_motion_or_in_another_mode_nothing_is_kept(
    phase: float, progress: Progress | None, mode: JoinMode
) -> None:
    assert guided(chunk(0), phase, progress=progress, mode=mode) is None


def test_that_tokens_that_are_not_of_one_step_each_commit_nothing() -> None:
    running = chunk(0)
    targets = tokenizer().decode(running.tokens, running.reference)
    waves = DctTokenizer.fit(
        targets[None], running.reference[None], JOINT_NAMES, (), PERIOD_S, coefficients=4
    )
    whole = Chunk(waves.encode(targets, running.reference), running.reference, 0.0, 1)
    assert guided(whole, 2.0, known=waves) is None


@pytest.mark.parametrize("t0", [0.0, 1.0, -0.5, float("nan")])
def test_that_a_warm_start_outside_its_range_is_refused(t0: float) -> None:
    with pytest.raises(RealtimeError, match="between 0"):
        Continuation(tokenizer(), JoinMode.RTC, t0)


# RealtimeSession


def paced(mode: JoinMode = JoinMode.RTC, durations_s: tuple[float, ...] = ()) -> RealtimeSession:
    """Return a session that has seen inferences of these durations, the last ended at 10 s."""
    made = RealtimeSession(tokenizer(), mode, 4)
    made.begin("goal")
    for duration_s in durations_s:
        made.accept(made.ask(observation(), 10.0 - duration_s, None), chunk(0), 10.0)
    return made


def observation() -> Observation:
    return Observation({}, np.zeros(JOINTS), np.zeros(JOINTS), "go")


def test_that_the_slowest_of_ten_inferences_is_expected_and_the_cold_one_only_at_first() -> None:
    assert paced().expected_inference_s == 0
    assert paced(durations_s=(0.9,)).expected_inference_s == pytest.approx(0.9)
    assert paced(durations_s=(0.9, 0.2, 0.3)).expected_inference_s == pytest.approx(0.3)
    assert paced(durations_s=(0.9, 0.5) + (0.2,) * 10).expected_inference_s == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("inference_s", "interval_s"), [(0.1, 0.4), (0.3, 0.4), (0.5, 0.5), (1.0, 1.0)]
)
def test_that_chunks_follow_at_the_executed_steps_or_as_fast_as_they_are_made(
    inference_s: float, interval_s: float
) -> None:
    assert paced(durations_s=(1.5, inference_s)).expected_interval_s == pytest.approx(interval_s)


@pytest.mark.parametrize(("inference_s", "step"), [(0.1, 4), (0.3, 4), (0.5, 2), (0.65, 0.5)])
def test_that_a_chunk_is_due_after_the_executed_steps_or_while_enough_motion_is_left(
    inference_s: float, step: float
) -> None:
    made = paced(durations_s=(2.0, inference_s))
    progress = Progress("goal", 2, 10.2, PERIOD_S, HORIZON)
    assert not made.due(10.2 + PERIOD_S * step - 0.02, progress)
    assert made.due(10.2 + PERIOD_S * step, progress)


def test_that_a_synchronous_chunk_waits_for_rest() -> None:
    made = paced(JoinMode.SYNCHRONOUS, (0.1, 0.1))
    progress = Progress("goal", 2, 10.0, PERIOD_S, 4)
    assert not made.due(10.39, progress)
    assert made.due(10.4, progress)


@pytest.mark.parametrize(("mode", "steps"), [(JoinMode.SYNCHRONOUS, 4), (JoinMode.RTC, 0)])
def test_that_only_a_synchronous_chunk_ends_after_the_execution_horizon(
    mode: JoinMode, steps: int
) -> None:
    made = paced(mode)
    assert made.accept(made.ask(observation(), 9.0, None), chunk(0), 9.1).execute_steps == steps


def test_that_the_next_chunk_waits_for_the_executors_answer_but_not_for_long() -> None:
    made = paced(durations_s=(0.2, 0.2))
    former = Progress("goal", 0, 9.0, PERIOD_S, HORIZON)
    assert not made.due(10.05, former)
    assert made.due(10.1, former)
    assert made.due(10.1, None)


def test_that_calls_are_a_control_period_apart_though_all_are_refused() -> None:
    made = paced()
    made.ask(observation(), 10.0, None)
    assert not made.due(10.08, None)
    assert made.due(10.1, None)


@pytest.mark.parametrize("steps", [0, HORIZON + 1])
def test_that_more_steps_than_a_chunk_has_are_refused(steps: int) -> None:
    with pytest.raises(RealtimeError, match=r"execute_steps is \d+; give 1 .. 8"):
        RealtimeSession(tokenizer(), JoinMode.RTC, steps)


def test_that_a_session_numbers_calls_and_chunks_and_continues_what_it_sent() -> None:
    session = RealtimeSession(tokenizer(), JoinMode.RTC, 4)
    session.begin("goal", 1000)
    assert session.due(10.0, None), "a new goal does not wait"
    call = session.ask(observation(), 10.0, None)
    assert (call.seed, call.guidance) == (1000, None)
    request = session.accept(call, chunk(0), 10.2)
    assert (request.goal_id, request.chunk_id, request.observation_s) == ("goal", 1, 10.0)
    assert request.expected_interval_s == pytest.approx(0.4)
    assert not session.due(10.25, None)
    again = session.ask(observation(), 10.6, Progress("goal", 1, 10.2, PERIOD_S, HORIZON))
    assert again.seed == 1001
    assert again.guidance.committed_steps == 3


@pytest.mark.parametrize("between", ["hold", "another goal"])
def test_that_a_chunk_asked_for_before_a_hold_or_for_another_goal_is_dropped(between: str) -> None:
    session = RealtimeSession(tokenizer(), JoinMode.RTC, 4)
    session.begin("goal")
    call = session.ask(observation(), 10.0, None)
    session.hold() if between == "hold" else session.begin("other")
    assert session.accept(call, chunk(0), 10.2) is None
    assert (session.dropped, session.published) == (1, 0)


def test_that_after_a_hold_no_earlier_chunk_is_continued() -> None:
    session = RealtimeSession(tokenizer(), JoinMode.RTC, 4)
    session.begin("goal")
    session.accept(session.ask(observation(), 10.0, None), chunk(0), 10.2)
    session.hold()
    assert session.ask(observation(), 10.5, RUNNING).guidance is None
