"""``dfm-vla convert`` as a user runs it, and what it owes to the live node."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dfm_vla_ros.bags.conversion import Converter
from dfm_vla_ros.bags.episodes import EpisodeSettings
from dfm_vla_ros.bags.synthetic import Run, write_messages
from dfm_vla_ros.cli import main
from dfm_vla_ros.data.dataset import Dataset

RUN = Run(seconds=12.0, episode_s=4.0, side_px=32)
"""Three goals of two seconds."""


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_messages(tmp_path_factory.mktemp("recorded") / "run", RUN.messages())


def command(bag: Path, out: Path, *options: str) -> list[str]:
    words = ["convert", str(bag), "--out", str(out), "--storage", "image", *options]
    return [sys.executable, "-m", "dfm_vla_ros.cli", *words]


def convert(bag: Path, out: Path, *options: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        command(bag, out, *options), capture_output=True, text=True, check=False, timeout=120
    )


def assert_equal(one: Path, other: Path) -> None:
    """Check that two data sets hold the same episodes, to the bit."""
    first, second = Dataset.open(one), Dataset.open(other)
    assert first.keys == second.keys
    for i in range(len(first)):
        a, b = first.episode(i), second.episode(i)
        for name in ("positions", "commanded", "targets"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        for camera in first.cameras:
            np.testing.assert_array_equal(a.images[camera], b.images[camera])
        assert (a.instruction, a.seed, a.task, a.success) == (
            b.instruction,
            b.seed,
            b.task,
            b.success,
        )


def test_that_a_bag_becomes_a_data_set_with_an_account_of_it(bag: Path, tmp_path: Path) -> None:
    done = convert(bag, tmp_path / "data")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum("'place the block on the plate', success  added" in line for line in lines) == 3
    assert lines[-2].split()[1:] == ["3", "0", "0", "60", "0", "0"]
    assert "peak memory" in lines[-1]
    data = Dataset.open(tmp_path / "data")
    assert len(data) == 3
    assert data.period_s == pytest.approx(0.1)
    assert [data.episode(i).seed for i in range(3)] == [0, 1, 2]
    again = convert(bag, tmp_path / "data")
    assert again.returncode == 0
    assert again.stdout.splitlines()[-2].split()[1:] == ["0", "3", "0", "60", "0", "0"]
    assert len(Dataset.open(tmp_path / "data")) == 3


def test_that_an_error_in_one_bag_is_named_and_the_others_are_converted(
    bag: Path, tmp_path: Path
) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(bag, torn)
    data = (torn / "run.mcap").read_bytes()
    (torn / "run.mcap").write_bytes(data[: len(data) // 2])
    words = command(tmp_path / "nowhere", tmp_path / "data")
    words[4:4] = [str(torn)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "nowhere does not exist" in done.stdout
    assert "fault run.mcap: cut off in a record at byte" in done.stdout
    assert len(Dataset.open(tmp_path / "data")) >= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--topic", "third"], "--topic 'third' is none: give NAME=TOPIC"),
        (["--topic", "third=/front"], "lacks /front (third): give --topic"),
        (["--namespace", "robot"], "lacks /robot/third_camera/image_raw (third)"),
        (["--arm-joint-names", "a,b"], "give 7, joints 1 to 6 and the gripper"),
    ],
)
def test_that_wrong_options_are_refused_by_name(
    bag: Path,
    tmp_path: Path,
    options: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(command(bag, tmp_path / "data", *options)[3:]) == 1
    captured = capsys.readouterr()
    assert said in captured.out + captured.err


def test_that_another_rate_is_refused_by_a_data_set_that_has_one(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(bag, tmp_path / "data")[3:]) == 0
    assert main(command(bag, tmp_path / "data", "--rate", "20")[3:]) == 1
    assert "frames per second 10, not 20" in capsys.readouterr().err


def test_that_a_bag_without_frames_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    idle = write_messages(tmp_path / "idle", Run(seconds=0.9, side_px=16).messages())
    assert main(command(idle, tmp_path / "data")[3:]) == 1
    said = capsys.readouterr().out
    assert "idle holds no frame: no usable image of /third_camera/image_raw came while a goal" in (
        said
    )


class Killed(BaseException):
    """Stands for a process that ends."""


@pytest.mark.parametrize("episodes", [0, 1, 2])
def test_that_what_was_added_before_an_end_is_kept_and_nothing_is_there_twice(
    bag: Path, tmp_path: Path, episodes: int
) -> None:
    lines = []

    def say(line: str) -> None:
        lines.append(line)
        if len(lines) == 1 + episodes:
            raise Killed

    with pytest.raises(Killed), Converter(tmp_path / "data", "image", say=say) as converter:
        converter.convert(bag)
    there = len(Dataset.open(tmp_path / "data")) if episodes else 0
    assert there == episodes
    with Converter(tmp_path / "data", "image", say=lambda line: None) as converter:
        account = converter.convert(bag)
    assert (account.known, account.added) == (episodes, 3 - episodes)
    with Converter(tmp_path / "whole", "image", say=lambda line: None) as converter:
        converter.convert(bag)
    assert_equal(tmp_path / "data", tmp_path / "whole")


def test_that_an_episode_larger_than_memory_would_like_waits_on_the_disk(
    tmp_path: Path,
) -> None:
    run = Run(seconds=20.0, image_hz=10.0, side_px=160, statuses=False)
    bag = write_messages(tmp_path / "run", run.messages())
    settings = EpisodeSettings(instruction="go")
    with Converter(tmp_path / "data", "image", settings=settings, say=str) as converter:
        account = converter.convert(bag)
    assert account.frames == 200
    assert sorted(file.name for file in (tmp_path / "data").iterdir()) == [
        ".lock",
        "data",
        "meta",
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_that_twenty_kills_at_random_moments_lose_nothing_and_double_nothing(
    tmp_path: Path,
) -> None:
    bag = write_messages(tmp_path / "run", Run(36.0, 3.0, side_px=32).messages())
    began = time.monotonic()
    assert convert(bag, tmp_path / "whole").returncode == 0
    whole_s = time.monotonic() - began
    generator, kills = random.Random(5), 0
    out = tmp_path / "data"
    while kills < 20:
        process = subprocess.Popen(
            command(bag, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            process.wait(generator.uniform(0.3, 1.0) * whole_s)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        assert process.returncode == 0, process.stderr.read()
        shutil.rmtree(out)  # it was finished: begin again
    done = convert(bag, out)
    assert done.returncode == 0, done.stderr
    assert_equal(out, tmp_path / "whole")
    info = json.loads((out / "meta" / "info.json").read_text())
    assert info["total_episodes"] == 12
