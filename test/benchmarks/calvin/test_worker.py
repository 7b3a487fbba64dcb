import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dfm_vla_ros.benchmarks.calvin.evaluation import Installation, find_protocol, program
from dfm_vla_ros.benchmarks.calvin.protocol import ACTION_NAMES, Job, Protocol
from dfm_vla_ros.benchmarks.calvin.simulator import View, check_folder
from dfm_vla_ros.benchmarks.calvin.tasks import ROBOT
from dfm_vla_ros.benchmarks.calvin.worker import commit, policy_of
from dfm_vla_ros.benchmarks.simulators import SimulatorProcess
from dfm_vla_ros.errors import CalvinError, SimulatorLost
from dfm_vla_ros.remote.protocol import About, ActReply, ActRequest
from dfm_vla_ros.remote.server import PolicyServer

IMAGES = {
    "static": np.full((200, 200, 3), 1, np.uint8),
    "gripper": np.full((84, 84, 3), 2, np.uint8),
}
VIEW = View(IMAGES, ROBOT, ROBOT[:6] + 0.01)


class Remembering:
    """A policy that stands still."""

    def __init__(self) -> None:
        self.requests: list[ActRequest] = []

    def __call__(self, request: ActRequest) -> ActReply:
        self.requests.append(request)
        return ActReply(np.zeros((4, 7)), 0.0, 16)


@contextmanager
def _served(
    policy: Remembering, folder: Path, cameras: tuple[str, ...], count: int
) -> Iterator[str]:
    names = ACTION_NAMES if count == 7 else tuple(f"state{number}" for number in range(count))
    sizes = {camera: (8, 8) for camera in cameras}
    about = About("c0ffee", cameras, sizes, names, ACTION_NAMES, 4, 3, 1 / 30, {})
    server = PolicyServer(policy, about, f"{folder}/p.sock")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{folder}/p.sock"
    finally:
        server.close()
        thread.join(60)


def _job(address: str, protocol: Protocol, **others: object) -> Job:
    return replace(Job(7, {}, [], protocol.record(), address), **others)


def test_that_the_policy_sees_both_views_its_own_state_and_another_seed_each_time(
    tmp_path: Path,
) -> None:
    policy, protocol = Remembering(), find_protocol("dfm_vla")
    with (
        _served(policy, tmp_path, ("static", "gripper"), 7) as address,
        policy_of(_job(address, protocol), protocol) as (act, replan),
    ):
        actions = [act(VIEW, "open the drawer") for _ in range(2)]
    first, second = policy.requests
    assert replan == 3 and actions[0].shape == (4, 7)
    assert {name: int(image[0, 0, 0]) for name, image in first.images.items()} == {
        "static": 1,
        "gripper": 2,
    }
    assert np.allclose(first.state, ROBOT[:7])
    assert np.allclose(first.commanded, [*(ROBOT[:6] + 0.01), 0.08])
    assert first.prompt == "open the drawer"
    assert first.seed != second.seed


def test_that_a_policy_with_fifteen_numbers_gets_all_of_the_robot(tmp_path: Path) -> None:
    policy, protocol = Remembering(), find_protocol("official")
    cameras = {"eye": "static"}
    with _served(policy, tmp_path, ("eye",), 15) as address:
        job = _job(address, protocol, cameras=cameras)
        with policy_of(job, protocol) as (act, _):
            act(VIEW, "go")
    assert np.array_equal(policy.requests[0].state, ROBOT)
    assert int(policy.requests[0].images["eye"][0, 0, 0]) == 1


def test_that_a_camera_that_calvin_has_not_is_named(tmp_path: Path) -> None:
    protocol = find_protocol("official")
    with (
        _served(Remembering(), tmp_path, ("third",), 15) as address,
        policy_of(_job(address, protocol), protocol) as (act, _),
        pytest.raises(CalvinError, match="--camera third=static"),
    ):
        act(VIEW, "go")


def test_that_actions_of_a_file_are_played_and_the_last_is_kept(tmp_path: Path) -> None:
    protocol = find_protocol("dfm_vla")
    actions = np.array([[1, 0, 0, 0, 0, 0, 1.0], [2, 0, 0, 0, 0, 0, -1.0]])
    np.save(tmp_path / "actions.npy", actions)
    job = _job("", protocol, actions=str(tmp_path / "actions.npy"))
    with policy_of(job, protocol) as (act, replan):
        played = np.concatenate([act(VIEW, "go") for _ in range(3)])
    assert replan == 1
    assert played[:, 0].tolist() == [1, 2, 2]
    assert protocol.gripper.command(played[:, 6]).tolist() == [1, -1, -1]


def test_that_a_folder_that_is_no_checkout_is_refused_with_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(CalvinError, match=r"lacks calvin_env/envs/play_table_env\.py.*CALVIN_ENV"):
        check_folder(tmp_path, "calvin_scene_D")
    assert commit(tmp_path) == "unknown"


def test_that_an_interpreter_without_the_simulator_says_why_it_died(tmp_path: Path) -> None:
    pytest.importorskip("msgpack")
    try:
        import pybullet  # noqa: F401
    except ModuleNotFoundError:
        pass
    else:
        pytest.skip("this interpreter has PyBullet")
    installation = Installation(Path(sys.executable), tmp_path)
    with pytest.raises(SimulatorLost, match="pybullet") as raised:
        SimulatorProcess(program(installation), tmp_path / "log/simulator.log")
    assert "simulator.log" in str(raised.value)
