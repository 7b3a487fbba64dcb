"""The session of a simulator that waits, and what it takes to run one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from dfm_vla_ros.policy.session import SessionError, SteppedSession

ONLY_NUMPY = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in {*sys.stdlib_module_names, "numpy", "dfm_vla_ros"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import dfm_vla_ros.policy.session
"""


def ask(seed: int) -> np.ndarray:
    return np.arange(4.0)[:, None] + 10 * seed


def test_that_a_new_chunk_is_asked_for_when_the_execution_horizon_is_done() -> None:
    session = SteppedSession(3)
    session.begin("task", 5)
    assert [session.next_action(ask)[0] for _ in range(5)] == [50, 51, 52, 60, 61]
    assert (session.calls, session.chunks, session.due) == (2, 2, False)
    session.next_action(ask)
    assert session.due


def test_that_after_a_hold_the_rest_of_the_chunk_is_not_executed() -> None:
    session = SteppedSession()
    session.next_action(ask)
    session.hold()
    assert session.next_action(ask)[0] == 10


def test_that_a_chunk_shorter_than_the_execution_horizon_is_refused() -> None:
    with pytest.raises(SessionError, match=r"gives 4 steps, 5 are executed .*--replan"):
        SteppedSession(5).next_action(ask)


def test_that_a_simulators_interpreter_needs_numpy_alone_for_a_session() -> None:
    subprocess.run([sys.executable, "-c", ONLY_NUMPY], check=True)
