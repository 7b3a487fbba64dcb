"""With the real calvin_env: CALVIN_ENV names a checkout, CALVIN_PYTHON its interpreter."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dfm_vla_ros.benchmarks.calvin.evaluation import Installation, find_protocol, program
from dfm_vla_ros.benchmarks.calvin.protocol import ACTION_NAMES, Job
from dfm_vla_ros.benchmarks.simulators import SimulatorPool
from dfm_vla_ros.remote.protocol import About, ActReply, ActRequest
from dfm_vla_ros.remote.server import PolicyServer

STATE = {
    "led": 0,
    "lightbulb": 0,
    "slider": "left",
    "drawer": "open",
    "red_block": "table",
    "blue_block": "slider_right",
    "pink_block": "slider_left",
    "grasped": 0,
}
# Row 13 of the official list begins so.
TASKS = ["turn_on_led", "close_drawer"]
BUTTON = np.array([-0.12, -0.12, 0.44])
ABOVE = np.array([-0.12, -0.12, 0.56])
STATES = tuple(f"robot_obs{number}" for number in range(15))
LIMIT_S = 600.0


@pytest.fixture(scope="module")
def installation() -> Installation:
    if not (os.environ.get("CALVIN_ENV") and os.environ.get("CALVIN_PYTHON")):
        pytest.skip("CALVIN_ENV and CALVIN_PYTHON do not say where the simulator is")
    return Installation(Path(os.environ["CALVIN_PYTHON"]), Path(os.environ["CALVIN_ENV"]))


class Pressing:
    """A scripted hand: goes above the button, closed, then down onto it; stays for other tasks."""

    def __init__(self) -> None:
        self.above = False

    def __call__(self, request: ActRequest) -> ActReply:
        hand, way = request.state[:3], np.zeros(3)
        self.above |= bool(np.linalg.norm(hand - ABOVE) < 0.02)
        if "led" in request.prompt:
            way = np.clip(((BUTTON if self.above else ABOVE) - hand) / 0.04, -1, 1)
        return ActReply(np.array([[*way, 0, 0, 0, -1.0]]), 0.0, 1)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    sizes = {"static": (200, 200), "gripper": (84, 84)}
    about = About("c0ffee", tuple(sizes), sizes, STATES, ACTION_NAMES, 1, 1, 1 / 30, {})
    server = PolicyServer(Pressing(), about, f"{tmp_path}/p.sock")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"{tmp_path}/p.sock"
    server.close()


def test_that_a_scripted_hand_turns_the_led_on_and_then_fails_to_close_the_drawer(
    installation: Installation, address: str, tmp_path: Path
) -> None:
    protocol = find_protocol("official", steps=60, renderer="tiny", rendering="on_demand")
    job = Job(13, dict(STATE), TASKS, protocol.record(), film=str(tmp_path / "frames.npy"))
    with SimulatorPool(program(installation), 1, tmp_path) as pool:
        ((_, answer),) = pool.run([[job]], lambda _, job: replace(job, policy=address), LIMIT_S)
    assert answer.error == ""
    assert answer.in_a_row == 1
    assert answer.steps[0] < 60 and answer.steps[1] == 60
    assert np.load(tmp_path / "frames.npy").shape == (answer.calls, 200, 200, 3)


def test_that_rendering_changes_no_state_and_the_same_actions_give_the_same(
    installation: Installation, tmp_path: Path
) -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (10, 7))
    np.save(tmp_path / "actions.npy", actions)
    protocols = [
        find_protocol("official", steps=10, replan=10, renderer="tiny", rendering=rendering)
        for rendering in ("on_demand", "always")
    ]
    jobs = [
        Job(0, dict(STATE), TASKS[1:], one.record(), actions=str(tmp_path / "actions.npy"))
        for one in protocols
    ]
    answers = []
    for job in jobs:  # each in a process of its own: see docs/benchmarks.md
        with SimulatorPool(program(installation), 1, tmp_path) as pool:
            answers += [answer for _, answer in pool.run([[job]], lambda _, job: job, LIMIT_S)]
    assert [answer.error for answer in answers] == [""] * 2
    assert len({answer.state_hash for answer in answers}) == 1
