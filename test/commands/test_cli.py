"""The command line as a whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dfm_vla_ros import __version__
from dfm_vla_ros.cli import build_parser, main

WITHOUT_ROS = """
import sys
sys.modules.update(dict.fromkeys(["rclpy", "sensor_msgs", "dfm_vla_ros.msg"]))
from dfm_vla_ros.cli import main
sys.exit(main(["demo"]))
"""


def test_that_every_file_in_commands_is_a_subcommand_with_help() -> None:
    text = build_parser().format_help()
    for command in ("bench", "collect", "demo", "eval", "experts", "train"):
        assert f"    {command} " in text


def test_that_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


def test_that_an_expected_error_is_one_line_and_a_status(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "--config", "nowhere.yaml"]) == 1
    assert "dfm-vla train: nowhere.yaml" in capsys.readouterr().err


def test_that_the_demo_without_ros_says_what_it_needs() -> None:
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_ROS], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 1
    assert "dfm-vla demo: needs ROS 2" in run.stderr
    assert "Traceback" not in run.stderr


def test_that_a_reader_that_leaves_early_gets_no_trace() -> None:
    command = [sys.executable, "-m", "dfm_vla_ros.cli", "train", "--help-config"]
    shown = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    shown.stdout.close()
    _, errors = shown.communicate()
    assert (shown.returncode, errors) == (141, "")
