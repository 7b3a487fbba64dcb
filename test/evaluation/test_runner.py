"""The closed loop: what an expert says in tokens is done, what stands still fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from dfm_vla_ros.evaluation.runner import OTHER, SUCCESS, TIMEOUT, Loop, LoopConfig
from dfm_vla_ros.policy.types import Chunk, Guidance, Observation
from dfm_vla_ros.robot.chunks import JoinMode
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.robot.model import RobotModel
from dfm_vla_ros.sim.experts import expert_targets
from dfm_vla_ros.sim.perturbations import Setting
from dfm_vla_ros.sim.twin import Twin
from dfm_vla_ros.tokens.action import ActionTokenizer

TASK, SEED, HORIZON = "place_block", 1_000_100, 8


@pytest.fixture(scope="module")
def twin() -> Iterator[Twin]:
    twin = Twin(camera_size=(32, 32))
    yield twin
    twin.close()


def expert_loop(
    twin: Twin,
    latency_s: float,
    mode: JoinMode = JoinMode.LATEST,
    scene: str = TASK,
    expert: str = TASK,
) -> Loop:
    """Return a loop whose policy is an expert in a scene, its targets put through the tokenizer.

    The expert goes on from where the arms are on its path, not from the time, so that it waits
    for arms that rest or run slowly, and keeps what it is told to keep.
    """
    twin.reset(scene, SEED)
    targets = expert_targets(expert, twin)
    steps = np.minimum(
        np.arange(len(targets))[:, None] + np.arange(1, HORIZON + 1), len(targets) - 1
    )
    tokenizer = ActionTokenizer.fit(targets[steps], targets, JOINT_NAMES, [], 0.1, quantile=1.0)
    done = 0

    def act(observation: Observation, _seed: int, guidance: Guidance | None) -> Chunk:
        nonlocal done
        done = 0 if twin.time_s == 0 else done
        near = np.abs(targets[done : done + 10] - observation.commanded).max(axis=1)
        done += int(np.argmin(near))
        tokens = tokenizer.encode(targets[steps[done]], observation.commanded)
        if guidance is None:
            return Chunk(tokens, observation.commanded, 0.0, 1)
        kept = np.where(guidance.committed, guidance.tokens, tokens)
        return Chunk(kept, observation.commanded, 0.0, 1, guidance.committed_steps)

    config = LoopConfig(latency_s=latency_s, timeout_s=40.0, mode=mode)
    return Loop(twin, act, tokenizer, RobotModel().limits(), config)


@pytest.mark.parametrize("latency_s", [0.0, 0.1, 0.3])
def test_that_the_expert_in_tokens_succeeds_at_any_latency_below_the_chunk(
    twin: Twin, latency_s: float
) -> None:
    result = expert_loop(twin, latency_s).run(TASK, SEED)
    assert result.success
    assert result.refused == 0
    assert result.chunks == pytest.approx(result.seconds / 0.4, abs=2.5)
    assert (result.ended, result.other_progress, len(result.moved)) == (SUCCESS, None, 1)


@pytest.mark.parametrize("latency_s", [0.0, 0.2, 0.5, 0.7])
def test_that_in_real_time_mode_the_motion_has_no_step_and_never_ends_before_the_next_chunk(
    twin: Twin, latency_s: float
) -> None:
    loop = expert_loop(twin, latency_s, JoinMode.RTC)
    loop.config = replace(loop.config, timeout_s=4.0)
    motion = loop.run(TASK, SEED).motion
    assert motion.starved_s == 0
    assert motion.seams > 2
    assert motion.seam_position_step_rad < 1e-6
    assert motion.seam_velocity_step_rad_s < 1e-4


@pytest.mark.parametrize("latency_s", [0.2, 1.0])
def test_that_a_synchronous_loop_rests_while_it_thinks_and_still_succeeds(
    twin: Twin, latency_s: float
) -> None:
    result = expert_loop(twin, latency_s, JoinMode.SYNCHRONOUS).run(TASK, SEED)
    assert result.success
    motion = result.motion
    assert motion.longest_starved_s == pytest.approx(latency_s, abs=0.03)
    assert motion.pause_s >= motion.starved_s
    assert motion.seam_velocity_step_rad_s < 1e-4


def test_that_no_look_is_made_before_the_former_chunk_has_arrived(twin: Twin) -> None:
    loop, looks = expert_loop(twin, 0.9, JoinMode.LATEST), []
    act = loop.act

    def watched(observation: Observation, seed: int, guidance: Guidance | None) -> Chunk:
        looks.append(twin.time_s)
        return act(observation, seed, guidance)

    loop.act, loop.config = watched, replace(loop.config, timeout_s=5.0)
    loop.run(TASK, SEED)
    assert np.diff(looks).min() >= 0.9 - 1e-9


def test_that_slow_mode_takes_longer_along_the_same_path(twin: Twin) -> None:
    loop = expert_loop(twin, 0.1, JoinMode.RTC)
    whole = loop.run(TASK, SEED)
    loop.config = replace(loop.config, speed=0.5)
    half = loop.run(TASK, SEED)
    assert whole.success and half.success
    assert half.motion.speed_scale <= 0.5
    assert half.seconds > 1.6 * whole.seconds


def test_that_a_policy_that_stays_fails_at_the_timeout(twin: Twin) -> None:
    loop = expert_loop(twin, 0.1)
    stay = np.full((HORIZON, len(JOINT_NAMES)), loop.tokenizer.vocabulary_size // 2)
    loop.act = lambda observation, *_: Chunk(stay, observation.commanded, 0.0, 1)
    loop.config = LoopConfig(timeout_s=2.0)
    result = loop.run(TASK, SEED)
    assert not result.success
    assert result.seconds == pytest.approx(2.0, abs=0.01)
    assert result.motion.pause_s == pytest.approx(2.0, abs=0.2)
    assert (result.ended, result.moved) == (TIMEOUT, ())


def test_that_doing_the_task_of_another_sentence_ends_the_episode_as_such(twin: Twin) -> None:
    loop = expert_loop(twin, 0.1, JoinMode.RTC, scene="place_veg", expert="pot_lift")
    twin.setting = Setting(instruction_of="pot_lift")
    result = loop.run("place_veg", SEED)
    twin.setting = Setting()
    assert (result.success, result.ended, result.other_progress) == (False, OTHER, 1.0)
    assert result.instruction == "lift the pot with both hands"
    assert result.moved == ("left", "right")


def test_that_a_refused_chunk_is_counted_and_moves_nothing(twin: Twin) -> None:
    loop = expert_loop(twin, 0.1)
    far = np.full((HORIZON, len(JOINT_NAMES)), 0)
    loop.act = lambda observation, *_: Chunk(far, observation.commanded - 2.0, 0.0, 1)
    loop.config = LoopConfig(timeout_s=1.0)
    twin.reset(TASK, SEED)
    start = twin.commanded
    result = loop.run(TASK, SEED)
    assert result.refused == result.verdicts["LIMIT_VIOLATED"] > 0
    assert result.refused >= result.chunks - 1
    assert np.allclose(twin.commanded, start)
