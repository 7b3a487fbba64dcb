"""Arguments that several subcommands share."""

from __future__ import annotations

import argparse

import pytest

from dfm_vla_ros.cli import main
from dfm_vla_ros.options import add_black_cameras, black_cameras
from dfm_vla_ros.robot.joints import CAMERAS


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [([], ()), (["--black-cameras"], CAMERAS), (["--black-cameras", "third"], ("third",))],
)
def test_that_no_name_means_every_camera(arguments: list[str], expected: tuple[str, ...]) -> None:
    parser = argparse.ArgumentParser()
    add_black_cameras(parser)
    assert black_cameras(parser.parse_args(arguments)) == expected


@pytest.mark.parametrize("command", ["demo", "eval"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--episodes", "0"], "0 is below 1"),
        (["--seed", "-1"], "-1 is not within"),
        (["--timeout", "0"], "not above 0"),
        (["--timeout", "nan"], "not above 0"),
        (["--black-cameras", "thrid"], "invalid choice: 'thrid'"),
    ],
)
def test_that_an_unusable_argument_is_refused_before_anything_starts(
    command: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([command, *arguments])
    assert message in capsys.readouterr().err
