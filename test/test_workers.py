"""Workers do their jobs and do not outlive their parent."""

from __future__ import annotations

import operator
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dfm_vla_ros.workers import WorkerDied, run_parallel

PARENT = """
import sys, time, os
from pathlib import Path
from dfm_vla_ros.workers import run_parallel

def job(folder):
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(60)

if __name__ == "__main__":
    list(run_parallel(job, [sys.argv[1]] * 2, 2))
"""


def test_that_every_job_gives_its_result() -> None:
    assert sorted(run_parallel(operator.neg, range(7), 2)) == list(range(-6, 1))


def test_that_a_killed_worker_is_an_error() -> None:
    with pytest.raises(WorkerDied):
        list(run_parallel(os._exit, [1], 1))


def test_that_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script, marks = tmp_path / "parent.py", tmp_path / "marks"
    script.write_text(PARENT)
    marks.mkdir()
    with subprocess.Popen([sys.executable, script, marks]) as parent:
        wait_until(lambda: len(list(marks.iterdir())) == 2)
        parent.kill()
    workers = [int(mark.name) for mark in marks.iterdir()]
    wait_until(lambda: not any(is_alive(worker) for worker in workers))


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(process: int) -> bool:
    """Whether it runs; one that nobody has waited for yet does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
