"""``dfm-vla demo`` as a user runs it: what it leaves behind, and how it ends."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small import small_checkpoint

pytestmark = pytest.mark.timing

PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint") / "small"
    made = small_checkpoint()
    made.action = replace(made.action, widths=np.full_like(made.action.widths, 2e-4))
    made.save(folder, "random weights")
    return folder


def start_demo(checkpoint: Path, out: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "dfm_vla_ros.cli", "demo"]
    where = ["--checkpoint", str(checkpoint), "--out", str(out)]
    return subprocess.Popen(
        [*command, *where, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def children_of(pid: int) -> dict[str, int]:
    """Return node name -> process id of a demo's children."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = {}
    for child in listed:
        words = Path(f"/proc/{child}/cmdline").read_text()
        match = re.search(r"dfm_vla_ros\.nodes\.(\w+_node|recorder)", words)
        if match:
            found[match.group(1)] = int(child)
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait(condition: Callable[[], object], what: str, seconds: float = PATIENCE_S) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"no {what} within {seconds} s"
        time.sleep(0.05)


def started(demo: subprocess.Popen) -> dict[str, int]:
    """Wait for all three nodes of a demo that does not record."""
    wait(lambda: len(children_of(demo.pid)) == 3, "three nodes")
    return children_of(demo.pid)


def test_that_a_demo_leaves_a_film_a_sheet_a_bag_and_a_result(
    checkpoint: Path, tmp_path: Path
) -> None:
    result = tmp_path / "result.json"
    demo = start_demo(
        checkpoint, tmp_path, "--episodes", "2", "--timeout", "1.5", "--json", str(result)
    )
    output, errors = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 1, errors  # random weights succeed at nothing
    assert output.count("failure (TIMEOUT: not done within 1.5 s)") == 2
    assert "place_block: 0/2 = 0% [0%, 66%]" in output
    content = json.loads(result.read_text())
    assert content["episodes"] == content["failures"] == 2
    assert content["successes"] == content["errors"] == 0
    assert content["interval"] == pytest.approx([0.0, 0.6576], abs=1e-3)
    assert len(content["checkpoint"]) == 64
    check_film(tmp_path / "demo.mp4")
    check_sheet(tmp_path / "contact_sheet.png")
    check_bag(tmp_path / "bag")


def check_film(path: Path) -> None:
    import av

    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert len(frames) >= 50  # two episodes of 1.5 s at 20 Hz, less what was lost on busy cores
    assert frames[0].width == 3 * 288
    assert frames[0].to_ndarray(format="rgb24").std() > 10


def check_sheet(path: Path) -> None:
    import cv2

    sheet = cv2.imread(str(path))
    assert sheet.shape[0] == 2 * 3 * 130
    assert sheet.std() > 10


def check_bag(path: Path) -> None:
    from rosbags.highlevel import AnyReader

    from dfm_vla_ros.bags.storage import TOPICS, typestore

    assert [file.suffix for file in sorted(path.iterdir())] == [".mcap", ".yaml"]
    with AnyReader([path], default_typestore=typestore()) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
        chunks = [c for c in reader.connections if c.topic == "/action_chunk"]
        messages = [reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages(chunks)]
    silent = [topic for topic in TOPICS if not counts.get(f"/{topic}")]
    assert not silent
    assert {len(message.tokens) for message in messages if not message.hold} == {8 * 14}
    assert sum(message.hold for message in messages) >= 2, "one at the end of each episode"
    assert {message.instruction for message in messages} == {"place the block on the plate"}


@pytest.mark.parametrize("victim", ["sim_node", "executor_node"])
def test_that_a_node_that_dies_ends_the_demo_with_its_last_words(
    checkpoint: Path, tmp_path: Path, victim: str
) -> None:
    demo = start_demo(checkpoint, tmp_path, "--no-record")
    nodes = started(demo)
    os.kill(nodes[victim], signal.SIGKILL)
    _, errors = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 1
    assert f"{victim} ended with status -9; its last words" in errors
    assert not any(is_alive(pid) for pid in nodes.values())


def test_that_a_checkpoint_that_is_none_ends_the_demo_with_the_reason(tmp_path: Path) -> None:
    demo = start_demo(tmp_path / "nowhere", tmp_path / "out", "--no-record")
    _, errors = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 1
    assert "nowhere" in errors


def wait_ready(demo: subprocess.Popen) -> None:
    """Read a demo's output until it says that its graph is ready."""
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("ready after"):
            return
    pytest.fail(f"the demo ended before it was ready: {demo.communicate()[1]}")


def end_by(demo: subprocess.Popen, number: signal.Signals) -> None:
    """Send a signal; the demo must end soon, without any node that has to be killed."""
    began = time.monotonic()
    demo.send_signal(number)
    demo.communicate(timeout=PATIENCE_S)
    assert time.monotonic() - began < 6.0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_that_a_signal_ends_every_process(
    checkpoint: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    demo = start_demo(checkpoint, tmp_path, "--no-record")
    wait_ready(demo)
    nodes = started(demo)
    end_by(demo, number)
    assert demo.returncode == status
    assert not any(is_alive(pid) for pid in nodes.values())


def test_that_a_demo_that_is_still_starting_can_be_interrupted_at_any_moment(
    checkpoint: Path, tmp_path: Path
) -> None:
    moments = random.Random(time.time_ns())
    for number in range(3):
        demo = start_demo(checkpoint, tmp_path / str(number), "--no-record")
        wait(lambda demo=demo: children_of(demo.pid), "first node")
        delay_s = moments.uniform(0.0, 3.0)
        time.sleep(delay_s)
        nodes = children_of(demo.pid)
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=PATIENCE_S)
        assert demo.returncode == 130, f"{delay_s:.3f} s after the first node: {errors}"
        assert not any(is_alive(pid) for pid in nodes.values())


def test_that_a_bag_can_be_read_after_an_interrupt(checkpoint: Path, tmp_path: Path) -> None:
    from rosbags.highlevel import AnyReader

    from dfm_vla_ros.bags.storage import typestore

    demo = start_demo(checkpoint, tmp_path)
    wait_ready(demo)
    time.sleep(1.5)  # of recording
    nodes = children_of(demo.pid)
    assert "recorder" in nodes
    end_by(demo, signal.SIGINT)
    assert demo.returncode == 130
    assert not any(is_alive(pid) for pid in nodes.values())
    with AnyReader([tmp_path / "bag"], default_typestore=typestore()) as reader:
        joints = [c for c in reader.connections if c.topic == "/joint_states"]
        assert sum(1 for _ in reader.messages(joints)) > 20


def test_that_a_folder_that_is_no_bag_ends_the_demo_and_is_kept(
    checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "thesis.txt").write_text("years of work")
    demo = start_demo(checkpoint, tmp_path)
    _, errors = demo.communicate(timeout=PATIENCE_S)
    assert demo.returncode == 1
    assert "thesis.txt is no file of a bag" in errors
    assert (tmp_path / "bag" / "thesis.txt").exists()


def test_that_no_node_outlives_a_demo_that_is_killed(checkpoint: Path, tmp_path: Path) -> None:
    demo = start_demo(checkpoint, tmp_path, "--no-record")
    nodes = started(demo)
    demo.kill()
    demo.communicate(timeout=PATIENCE_S)
    wait(lambda: not any(is_alive(pid) for pid in nodes.values()), "end of every node", 10.0)
