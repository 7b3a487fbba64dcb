"""The arguments of eval and bench seams."""

from __future__ import annotations

import pytest

from dfm_vla_ros.cli import build_parser
from dfm_vla_ros.evaluation.options import loop_config
from dfm_vla_ros.policy.types import MODE, MODES
from dfm_vla_ros.robot.chunks import JoinMode
from dfm_vla_ros.sim.perturbations import PLAIN_SETTING, Setting, setting


def test_that_every_mode_has_a_name() -> None:
    assert {name.upper() for name in MODES} == {mode.name for mode in JoinMode}


def test_that_the_arguments_reach_the_loop() -> None:
    given = ["--mode", "blend", "--latency", "0.5", "--warm-start", "0.6", "--speed", "0.5"]
    config = loop_config(build_parser().parse_args(["eval", *given]))
    assert (config.mode, config.latency_s) == (JoinMode.BLEND, 0.5)
    assert (config.warm_start_t0, config.speed) == (0.6, 0.5)


def test_that_a_warm_start_of_zero_is_none_and_the_default_mode_is_the_policys() -> None:
    config = loop_config(build_parser().parse_args(["eval", "--warm-start", "0"]))
    assert config.warm_start_t0 is None
    assert config.mode.name.lower() == MODE


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("--mode", "fastest", "choose from"),
        ("--latency", "-0.1", "-0.1 is not within 0 .. 60.0 s"),
        ("--latency", "nan", "nan is not within 0 .. 60.0 s"),
        ("--warm-start", "1", "1.0 is not at least 0 (noise) and below 1"),
        ("--speed", "0", "0.0 is not above 0 and at most 1"),
        ("--speed", "1.5", "1.5 is not above 0 and at most 1"),
    ],
)
def test_that_a_value_out_of_range_is_refused_with_its_range(
    argument: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["eval", argument, value])
    assert message in capsys.readouterr().err


def test_that_the_conditions_reach_the_twin() -> None:
    given = ["--variation", "wide", "--phrasing", "held_out", "--perturb", "light"]
    parsed = build_parser().parse_args(["eval", *given, "--instruction-of", "pot_lift"])
    assert setting(parsed) == Setting("wide", "held_out", "light", "pot_lift")
    assert setting(build_parser().parse_args(["eval"])) == PLAIN_SETTING


def test_that_demonstrations_cannot_have_held_out_sentences(
    capsys: pytest.CaptureFixture[str],
) -> None:
    collect = ["collect", "--task", "all", "--out", "x", "--phrasing"]
    assert setting(build_parser().parse_args([*collect, "train"])).phrasing == "train"
    with pytest.raises(SystemExit):
        build_parser().parse_args([*collect, "held_out"])
    assert "invalid choice: 'held_out'" in capsys.readouterr().err
