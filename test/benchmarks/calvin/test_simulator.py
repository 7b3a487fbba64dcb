"""With the real calvin_env: CALVIN_ENV names a checkout, CALVIN_PYTHON its interpreter."""

import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from dfm_vla_ros.benchmarks import EpisodeOutcome
from dfm_vla_ros.benchmarks.calvin import ACTION_NAMES, CalvinJob, CalvinProtocol
from dfm_vla_ros.benchmarks.calvin.evaluation import program
from dfm_vla_ros.benchmarks.calvin.simulator import check_folder, commit
from dfm_vla_ros.benchmarks.evaluation import find_preset
from dfm_vla_ros.benchmarks.processes import Program, SimulatorPool
from dfm_vla_ros.errors import BenchmarkError
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
def simulator() -> Program:
    if not (os.environ.get("CALVIN_ENV") and os.environ.get("CALVIN_PYTHON")):
        pytest.skip("CALVIN_ENV and CALVIN_PYTHON do not say where the simulator is")
    return program(Path(os.environ["CALVIN_PYTHON"]), Path(os.environ["CALVIN_ENV"]))


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


def _run(simulator: Program, job: CalvinJob, policy: str, folder: Path) -> EpisodeOutcome:
    with SimulatorPool(simulator, [policy], folder) as pool:
        ((_, episode),) = pool.run([[job]], LIMIT_S)
    assert episode.error == ""
    return episode


def test_that_a_scripted_hand_turns_the_led_on_and_then_fails_to_close_the_drawer(
    simulator: Program, address: str, tmp_path: Path
) -> None:
    protocol = find_preset(
        CalvinProtocol, "official", steps=60, renderer="tiny", rendering="on_demand"
    )
    job = CalvinJob("CALVIN", "chain", 13, asdict(protocol), state=dict(STATE), chain=TASKS)
    episode = _run(simulator, replace(job, keep=str(tmp_path)), address, tmp_path)
    steps, calls = episode.details["steps"], episode.details["calls"]
    assert episode.details["in_a_row"] == 1
    assert steps[0] < 60 and steps[1] == 60
    assert np.load(tmp_path / "frames.npy").shape == (calls, 1, 200, 200, 3)


def test_that_rendering_changes_no_state_and_the_same_actions_give_the_same(
    simulator: Program, tmp_path: Path
) -> None:
    path = str(tmp_path / "actions.npy")
    np.save(path, np.random.default_rng(0).uniform(-1, 1, (10, 7)))
    hashes = set()
    for rendering in ("on_demand", "always"):  # each in a process of its own: docs/benchmarks.md
        protocol = find_preset(
            CalvinProtocol, "official", steps=10, replan=10, renderer="tiny", rendering=rendering
        )
        job = CalvinJob("CALVIN", "chain", 0, asdict(protocol), actions=path, state=dict(STATE))
        episode = _run(simulator, replace(job, chain=TASKS[1:]), "", tmp_path)
        hashes.add(episode.details["state_hash"])
    assert len(hashes) == 1


def test_that_a_folder_that_is_no_checkout_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(
        BenchmarkError, match=r"lacks calvin_env/envs/play_table_env\.py.*CALVIN_E"
    ):
        check_folder(tmp_path, "calvin_scene_D")
    assert commit(tmp_path) == "unknown"
