"""With the real simulator: LIBERO_PYTHON names its interpreter, LIBERO_ASSETS its assets."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dfm_vla_ros.benchmarks.evaluation import find_preset
from dfm_vla_ros.benchmarks.libero import (
    ACTION_NAMES,
    CAMERAS,
    STATE_NAMES,
    LiberoJob,
    LiberoProtocol,
)
from dfm_vla_ros.benchmarks.libero.evaluation import LiberoPlan, program
from dfm_vla_ros.benchmarks.libero.suites import (
    LiberoInstallation,
    choose_tasks,
    find_installation,
)
from dfm_vla_ros.benchmarks.processes import SimulatorPool
from dfm_vla_ros.benchmarks.results import EpisodeOutcome
from dfm_vla_ros.errors import BenchmarkError
from dfm_vla_ros.remote.protocol import About, ActReply, ActRequest
from dfm_vla_ros.remote.server import PolicyServer

# Where they are in stored state 0 of "pick up the cream cheese and place it in the basket" [m].
CHEESE, BASKET = np.array([0.046, -0.103, 0.009]), np.array([-0.009, 0.267, -0.005])
UP = np.array([0.0, 0.0, 1.0])
OPEN, CLOSED = -1.0, 1.0
STEP_M = 0.05
LIMIT_S = 600.0
RENDERINGS = ("on_demand", "always")


@pytest.fixture(scope="module")
def installation() -> LiberoInstallation:
    try:
        found = find_installation()
    except BenchmarkError as error:
        pytest.skip(f"LIBERO is not installed: {error}")
    if not found.assets.is_dir():
        pytest.skip(f"LIBERO's assets are not in {found.assets}: set LIBERO_ASSETS")
    return found


class Carrying:
    """A scripted hand: to the cheese, grasp, up, over the basket, down, let go."""

    def __init__(self) -> None:
        self._way = self._actions()
        next(self._way)

    def __call__(self, request: ActRequest) -> ActReply:
        return ActReply(self._way.send(request.state[:3])[None], 0.0, 1)

    def _actions(self) -> Iterator[np.ndarray]:
        hand = yield np.zeros(7)
        for target, gripper, most, within_m in (
            (CHEESE + 0.15 * UP, OPEN, 50, 0.01),
            (CHEESE, OPEN, 40, 0.006),
            (None, CLOSED, 10, 0.0),
            (CHEESE + 0.25 * UP, CLOSED, 40, 0.02),
            (BASKET + 0.26 * UP, CLOSED, 60, 0.02),
            (BASKET + 0.12 * UP, CLOSED, 30, 0.02),
            (None, OPEN, 100, 0.0),
        ):
            for _ in range(most):
                way = np.zeros(3) if target is None else target - hand
                if target is not None and np.linalg.norm(way) < within_m:
                    break
                way = np.clip(0.9 * way / STEP_M, -1, 1)
                hand = yield np.array([*way, 0.0, 0.0, 0.0, gripper])


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    sizes = dict.fromkeys(CAMERAS, (64, 64))
    about = About("c0ffee", CAMERAS, sizes, STATE_NAMES, ACTION_NAMES, 1, 1, 0.05, {})
    server = PolicyServer(Carrying(), about, f"{tmp_path}/p.sock")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"{tmp_path}/p.sock"
    server.close()
    thread.join()


def _run(
    installation: LiberoInstallation, jobs: Sequence[LiberoJob], policy: str, folder: Path
) -> list[EpisodeOutcome]:
    with SimulatorPool(program(installation), [policy], folder) as pool:
        return [episode for _, episode in pool.run([jobs], LIMIT_S)]


@pytest.mark.slow
def test_that_a_scripted_hand_succeeds_and_its_actions_replay_to_the_same_states(
    installation: LiberoInstallation, address: str, tmp_path: Path
) -> None:
    tasks = choose_tasks(installation, ["libero_object"], [1])
    job, always = (
        LiberoPlan(
            protocol=find_preset(
                LiberoProtocol, "openpi", replan=1, render_px=64, rendering=rendering
            ),
            tasks=tasks,
            folder=tmp_path,
        ).job(tasks[0], 0)
        for rendering in RENDERINGS
    )
    scripted = replace(job, keep=str(tmp_path / "kept"))
    (first,) = _run(installation, [scripted], address, tmp_path)
    assert first.error == "" and first.success
    actions = str(tmp_path / "kept/actions.npy")
    assert np.load(actions).shape == (first.steps, 7)
    played = [replace(one, actions=actions) for one in (job, job, always)]
    episodes = _run(installation, played, "", tmp_path)
    assert [episode.success for episode in episodes] == [True] * 3
    assert {one.details["state_hash"] for one in episodes} == {first.details["state_hash"]}
    assert {episode.steps for episode in episodes} == {first.steps}
