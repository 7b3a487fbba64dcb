"""Scripted chunks that contradict one another are joined without a step."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small import small_checkpoint

from dfm_vla_ros.cli import main
from dfm_vla_ros.evaluation.motion import MotionRecord
from dfm_vla_ros.evaluation.seams import CASES, LATENCY_S, Case, smooth, worst
from dfm_vla_ros.robot.chunks import JoinMode
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.robot.model import RobotModel
from dfm_vla_ros.sim.twin import HOME
from dfm_vla_ros.tokens.action import ActionTokenizer


def case(mode: JoinMode) -> Case:
    """Return one whose targets swing all joints of both arms, grippers open."""
    swing = 0.2 * np.sin(np.arange(60)[:, None] * 0.2 + np.arange(len(JOINT_NAMES)))
    grippers = [6, 13]
    swing[:, grippers] = 0.0
    middle = np.full(len(JOINT_NAMES), np.nan)
    middle[grippers] = 0.0175
    widths = np.full((8, len(JOINT_NAMES)), 0.003)
    widths[:, grippers] = 0.035 / 255
    tokenizer = ActionTokenizer(JOINT_NAMES, widths, middle, 256, 0.1)
    limits = RobotModel().limits()
    return Case(tokenizer, limits, HOME + swing, mode)


@pytest.mark.parametrize("mode", list(JoinMode))
@pytest.mark.parametrize("name", list(CASES))
def test_that_no_case_has_a_step_in_any_mode(name: str, mode: JoinMode) -> None:
    found = case(mode).play(CASES[name])
    assert found.seams == len(CASES[name]) - 1
    assert smooth(worst([found]))


@pytest.mark.parametrize("mode", list(JoinMode))
def test_that_overlapping_chunks_never_pause_and_consecutive_ones_do_once(mode: JoinMode) -> None:
    assert case(mode).play(CASES["overlapping chunks"]).pauses == 0
    # The first chunk runs 0.8 s and its lead; the second one is joined at 1.2 s and latency.
    found = case(mode).play(CASES["two consecutive chunks"])
    assert found.pauses == 1
    assert found.longest_starved_s == pytest.approx(1.2 + LATENCY_S - (LATENCY_S + 0.82), abs=0.03)


def test_that_committed_steps_take_the_jump_of_acceleration_off_the_seam() -> None:
    steps = {
        mode: np.median(
            [
                case(mode).play(CASES["overlapping chunks"], seed).seam_acceleration_step_rad_s2
                for seed in range(4)
            ]
        )
        for mode in (JoinMode.RTC, JoinMode.LATEST)
    }
    assert steps[JoinMode.RTC] < 0.5 * steps[JoinMode.LATEST]


def test_that_the_worst_of_several_episodes_counts_and_times_add_up() -> None:
    records = [
        MotionRecord(seams=3, pause_s=0.5, longest_pause_s=0.5, speed_scale=1.0),
        MotionRecord(seams=4, pause_s=0.7, longest_pause_s=0.4, speed_scale=0.5),
    ]
    found = worst(records)
    assert (found["seams"], found["longest_pause_s"], found["speed_scale"]) == (7, 0.5, 0.75)
    assert found["pause_s"] == pytest.approx(1.2)


@pytest.mark.slow
def test_that_the_benchmark_prints_and_writes_a_row_for_each_mode_and_latency(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small_checkpoint().save(tmp_path / "c", "# test\n")
    options = ["--checkpoint", f"{tmp_path / 'c'}", "--json", f"{tmp_path / 'seams.json'}"]
    options += ["--modes", "rtc", "synchronous", "--latency", "0", "0.5", "--timeout", "1"]
    assert main(["bench", "seams", "--episodes", "1", "--workers", "1", *options]) in (0, 1)
    content = json.loads((tmp_path / "seams.json").read_text())
    assert [(row["mode"], row["latency_s"]) for row in content["episodes"]] == [
        ("rtc", 0.0),
        ("rtc", 0.5),
        ("synchronous", 0.0),
        ("synchronous", 0.5),
    ]
    assert "latency 0.5 s, rtc" in capfd.readouterr().out
