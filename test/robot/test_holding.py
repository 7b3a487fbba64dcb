"""Held, stopped, reset or overtaken: the arms rest, and the account of chunks adds up."""

from __future__ import annotations

import numpy as np
import pytest
from robots import HOME
from test_joining import LEAD_S, ramp, ready

from dfm_vla_ros.robot.executor import Account, ChunkRefused, Executor, Verdict
from dfm_vla_ros.robot.joints import JOINT_NAMES


def running() -> Executor:
    executor = ready()
    executor.receive(ramp(8, observation_s=0.0, goal_id="g", chunk_id=7), 0.0)
    executor.measure(JOINT_NAMES, HOME, 0.3)
    return executor


def test_that_a_hold_brakes_and_follows_no_chunk() -> None:
    executor = running()
    made = executor.hold(0.3)
    assert made.stamp_s == 0.3 and made.end_s < 0.5
    assert not executor.executing(made.end_s) and executor.executing(made.end_s - 0.01)
    progress = executor.progress
    assert (progress.goal_id, progress.chunk_id) == ("g", 7)
    assert (progress.step_period_s, progress.last_step) == (0.0, 3)
    assert progress.at(9.0) == 3.0


def test_that_holding_twice_brakes_once() -> None:
    executor = running()
    end_s = executor.hold(0.3).end_s
    assert executor.hold(0.31) is None
    assert not executor.executing(end_s)


def test_that_there_is_nothing_to_brake_at_rest() -> None:
    assert ready().hold(0.0) is None
    executor = running()
    assert executor.hold(5.0) is None
    assert executor.progress.step_period_s == 0.0


def test_that_braking_consumes_no_steps() -> None:
    executor = running()
    rest_s = executor.hold(0.3).end_s
    reference = executor.sample(rest_s)[0]
    executor.measure(JOINT_NAMES, reference, 1.0)
    made = executor.receive(ramp(4, reference, observation_s=0.4), 1.0)
    assert made.first_step == 0


def test_that_a_stop_lasts_until_resume() -> None:
    executor = running()
    assert executor.stop("the red button", 0.3) is not None
    assert executor.stop("something else", 0.3) is None
    assert executor.stop_reason == "the red button"
    with pytest.raises(ChunkRefused, match="the red button") as caught:
        executor.receive(ramp(4, observation_s=0.3), 0.3)
    assert caught.value.verdict == Verdict.NOT_ACTIVE
    executor.resume()
    assert executor.stop_reason == ""
    executor.receive(ramp(4, observation_s=0.3), 0.3)


def test_that_the_account_tells_begun_from_overtaken_and_refused() -> None:
    executor = ready()
    executor.receive(ramp(4, observation_s=0.0), 0.0)
    assert executor.account(0.0) == Account(received=1, pending=1)
    executor.receive(ramp(4, observation_s=0.0), 0.01)
    assert executor.account(0.01) == Account(received=2, superseded=1, pending=1)
    with pytest.raises(ChunkRefused):
        executor.receive(ramp(4, observation_s=np.nan), 0.02)
    assert executor.account(0.02) == Account(3, refused=1, superseded=1, pending=1)
    assert executor.account(0.01 + LEAD_S) == Account(3, executed=1, refused=1, superseded=1)
    executor.receive(ramp(4, observation_s=0.0), 0.1)
    executor.hold(0.11)
    assert executor.account(9.0) == Account(4, executed=1, refused=1, superseded=2)


def test_that_a_reset_overtakes_what_has_not_begun() -> None:
    executor = ready()
    executor.receive(ramp(4, observation_s=0.0), 0.0)
    executor.reset(0.01)
    assert executor.account(9.0) == Account(received=1, superseded=1)
    assert executor.progress.step_period_s == 0.0


def test_that_a_chunk_refused_elsewhere_is_counted() -> None:
    executor = ready()
    refusal = executor.refuse(Verdict.CONFLICT, "somebody else commands the left arm")
    assert isinstance(refusal, ChunkRefused) and refusal.verdict.brakes
    assert executor.account(0.0) == Account(received=1, refused=1)


def test_that_a_clock_that_went_back_refuses_until_reset() -> None:
    executor = running()
    executor.receive(ramp(8, observation_s=0.1), 0.3)
    with pytest.raises(ChunkRefused) as caught:
        executor.receive(ramp(4, observation_s=0.1), 0.2)
    assert caught.value.verdict == Verdict.CLOCK_JUMPED
    assert executor.hold(0.2) is None
    executor.reset(0.2)
    executor.measure(JOINT_NAMES, HOME, 0.2)
    executor.receive(ramp(4, observation_s=0.2), 0.2)


def test_that_joint_states_of_another_clock_refuse_chunks() -> None:
    executor = ready()
    executor.measure(JOINT_NAMES, HOME, 1e9)
    with pytest.raises(ChunkRefused, match=r"joint states are stamped .* ahead of this clock"):
        executor.receive(ramp(4, observation_s=0.0), 0.0)


def test_that_the_verdicts_that_brake_are_those_after_which_nothing_can_be_trusted() -> None:
    still_good = {verdict for verdict in Verdict if not verdict.brakes}
    assert still_good == {Verdict.OK, Verdict.TOO_LATE, Verdict.NOT_ACTIVE}


def test_that_joint_states_are_the_reference_until_something_is_commanded() -> None:
    executor = Executor(ready().tokenizer, ready().limits)
    turned = HOME.copy()
    for step, angle in enumerate((0.0, 0.1, 0.2)):  # a motion that somebody else began
        turned[0] = angle
        executor.measure(JOINT_NAMES, turned, -0.3 + 0.1 * step)
    np.testing.assert_allclose(executor.sample(0.0)[0], turned)
    executor.receive(ramp(1, turned, observation_s=0.0), 0.0)
    executor.measure(JOINT_NAMES, HOME, 0.1)
    assert np.abs(executor.sample(0.1)[0] - turned).max() < 0.06
