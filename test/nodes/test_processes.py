"""Children end with their parent, and their last words are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dfm_vla_ros.graph.client import GraphClient
from dfm_vla_ros.graph.processes import Children, NodeDied
from dfm_vla_ros.nodes.qos import own_domain


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not is_alive(pid)


def test_that_a_child_that_dies_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with Children(1, tmp_path) as children:
        child = children.start("timeit", "timeit", "-n1", "-r1", "raise ValueError('my reason')")
        child.process.wait(30)
        with pytest.raises(NodeDied, match=r"timeit ended with status 1(.|\n)*my reason"):
            children.check()


def test_that_leaving_ends_children_that_ignore_sigint(
    tmp_path: Path,
) -> None:
    stubborn = "import signal,time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    with Children(1, tmp_path) as children:
        pid = children.start("stubborn", "timeit", "-n1", "-r1", stubborn).process.pid
        children.check()
        children.stop(patience_s=0.5)
    assert not is_alive(pid)


def test_that_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys,time; from pathlib import Path; from dfm_vla_ros.graph.processes import *\n"
        f"child = Children(1, Path({str(tmp_path)!r})).start('c', 'timeit', '-n1', '-r1', "
        "'print(1, flush=True); import time; time.sleep(60)')\n"
        "print(child.process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert wait_until_gone(pid)


def test_that_a_quote_in_a_path_stays_a_quote(tmp_path: Path) -> None:
    folder = tmp_path / "it's a ''bag''"
    with own_domain() as domain, Children(domain, tmp_path) as children:
        recorder = children.start_node("recorder", {"folder": folder})
        end = time.monotonic() + 30.0
        while not folder.exists():
            assert recorder.process.poll() is None, recorder.last_words()
            assert time.monotonic() < end, recorder.last_words()
            time.sleep(0.02)


def test_that_children_and_client_see_this_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    monkeypatch.setenv("ROS_STATIC_PEERS", "192.0.2.1")
    code = "import os; raise SystemExit(os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'])"
    with own_domain() as domain, Children(domain, tmp_path) as children:
        child = children.start("timeit", "timeit", "-n1", "-r1", code)
        child.process.wait(30)
        assert child.last_words().endswith("SystemExit: LOCALHOST")
        with GraphClient(domain, use_sim_time=False, check=lambda: None):
            assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
            assert os.environ["ROS_STATIC_PEERS"] == ""


def test_that_two_graphs_get_different_domains() -> None:
    with own_domain() as one, own_domain() as other:
        assert one != other
