"""The core's episode: it settles, asks the policy when a chunk is used up, and judges tasks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from served import ABOUT, serving

from dfm_vla_ros.benchmarks import Array, Images
from dfm_vla_ros.benchmarks.calvin import CalvinJob, CalvinProtocol
from dfm_vla_ros.benchmarks.evaluation import find_preset
from dfm_vla_ros.benchmarks.libero import LiberoJob, LiberoProtocol
from dfm_vla_ros.benchmarks.worker import EpisodeRun, Simulator, Worker, played
from dfm_vla_ros.remote.protocol import ActReply, ActRequest

OPENPI = find_preset(LiberoProtocol, "openpi")
OFFICIAL = CalvinProtocol()


class Counter(Simulator):
    """Counts steps; its tasks are done at these numbers of steps."""

    FILMED: ClassVar[tuple[str, ...]] = ("agentview", "eye_in_hand")

    def __init__(self, *done_at: int) -> None:
        self.done_at, self.begun, self.resets = done_at, list[str](), 0
        self.actions: list[Array] = []
        self.looks: list[bool] = []

    def reset(self, job: object) -> None:
        self.resets += 1

    def begin(self, task: str) -> str:
        self.begun.append(task)
        return f"do {task}"

    def step(self, action: Array, look: bool) -> bool:
        self.actions.append(action)
        self.looks.append(look)
        return len(self.actions) in self.done_at

    def images(self) -> Images:
        assert not self.looks or self.looks[-1], "looked at what was not rendered"
        image = np.full((2, 2, 3), len(self.actions) % 256, dtype=np.uint8)
        return {"agentview": image, "eye_in_hand": image + 1}

    def policy_state(self, names: Sequence[str]) -> tuple[Array, Array]:
        return np.full(len(names), float(len(self.actions))), np.zeros(len(names))

    @property
    def state(self) -> Array:
        return np.array([float(len(self.actions))])

    def close(self) -> None:
        pass


class Asked:
    """A policy of the simulator's actions; remembers at which steps it was asked what."""

    def __init__(self, simulator: Counter, chunk: int = 8) -> None:
        self.simulator, self.chunk = simulator, chunk
        self.steps, self.said, self.seeds = list[int](), list[str](), list[int]()

    def __call__(self, images: Images, instruction: str, seed: int) -> Array:
        self.steps.append(len(self.simulator.actions))
        self.said.append(instruction)
        self.seeds.append(seed)
        return np.full((self.chunk, 7), 0.3)


def test_that_an_episode_settles_then_asks_every_replan_steps() -> None:
    simulator = Counter(10)  # what is done while it settles is no success
    act = Asked(simulator)
    run = EpisodeRun(simulator, act, OPENPI, first_seed=70)
    run.settle(OPENPI.settling)
    assert run.run(["push"], OPENPI.steps_of("libero_goal")) == ([300], 0)
    assert [a.tolist() for a in simulator.actions[:10]] == [[0, 0, 0, 0, 0, 0, -1]] * 10
    assert act.steps == list(range(10, 310, 5)) and run.session.calls == 60
    assert act.seeds == list(range(70, 130)) and set(act.said) == {"do push"}
    assert np.allclose(run.actions, 0.3) and len(run.actions) == 300


def test_that_tasks_are_done_one_after_another_each_with_a_new_chunk() -> None:
    simulator = Counter(5, 6, 11)
    act = Asked(simulator, chunk=4)
    run = EpisodeRun(simulator, act, replace(OFFICIAL, replan=3))
    assert run.run(["open", "press", "close"], 360) == ([5, 1, 5], 3)
    assert act.said == ["do open"] * 2 + ["do press"] + ["do close"] * 2
    assert act.steps == [0, 3, 5, 6, 9]


def test_that_the_first_failure_ends_a_chain_after_exactly_its_steps() -> None:
    simulator = Counter(5)
    run = EpisodeRun(simulator, Asked(simulator), OFFICIAL)
    assert run.run(["open", "press", "close"], 20) == ([5, 20], 1)
    assert len(simulator.actions) == 25 and simulator.begun == ["open", "press"]


@pytest.mark.parametrize("settle", [0, 10])
def test_that_rendering_on_demand_looks_only_before_a_call_and_acts_the_same(settle: int) -> None:
    ran = {}
    for rendering in ("always", "on_demand"):
        simulator = Counter(40)
        act = Asked(simulator)
        protocol = find_preset(
            LiberoProtocol, "openvla_oft", rendering=rendering, settle_steps=settle
        )
        run = EpisodeRun(simulator, act, protocol, kept=True)
        run.settle(protocol.settling)
        run.run(["push"], 520)
        ran[rendering] = (act.steps, run.state_hash, np.array(run.actions).tolist())
        looked = sum(simulator.looks)
        assert looked == 40 if rendering == "always" else looked <= len(act.steps)
        filmed = 40 - settle if rendering == "always" else len(act.steps)
        assert np.shape(run.frames) == (filmed, 2, 2, 2, 3) and len(run.states) == 41
    assert ran["always"] == ran["on_demand"]


def test_that_recorded_actions_are_played_and_then_the_gripper_is_kept() -> None:
    act = played(np.arange(14.0).reshape(2, 7), 3)
    first, second = act({}, "", 0), act({}, "", 0)
    assert first[:, 6].tolist() == [6, 13, 13] and first[1, :6].tolist() == [7, 8, 9, 10, 11, 12]
    assert not first[2, :6].any() and not second[:, :6].any() and set(second[:, 6]) == {13}


def _reply(request: ActRequest) -> ActReply:
    REQUESTS.append(request)
    return ActReply(np.full((8, 7), 0.5), 0.0, 1)


REQUESTS: list[ActRequest] = []
LIBERO_JOB = LiberoJob("libero_goal", "push", 3, asdict(OPENPI), index=1, instruction="do 1")
CALVIN_JOB = CalvinJob("CALVIN", "chain", 7, asdict(OFFICIAL), chain=["open", "press"])


@contextmanager
def _served(tmp_path: Path, *cameras: str) -> Iterator[str]:
    names = tuple("abcdefg")
    about = replace(ABOUT, cameras=cameras, state_names=names, action_names=names, horizon=8)
    about = replace(about, image_sizes=dict.fromkeys(cameras, (2, 2)))
    REQUESTS.clear()
    with serving(_reply, tmp_path / "policy.sock", about) as server:
        yield str(server.address)


def test_that_a_policy_is_asked_with_its_cameras_its_state_and_another_seed_each_time(
    tmp_path: Path,
) -> None:
    simulator = Counter(17)
    worker = Worker(LiberoProtocol, lambda job, protocol: simulator)
    with _served(tmp_path, "third", "wrist") as address:
        cameras = {"third": "agentview", "wrist": "eye_in_hand"}
        job = replace(LIBERO_JOB, policy=address, cameras=cameras, keep=str(tmp_path / "kept"))
        answer = worker.run(job)
    assert answer["success"] and answer["steps"] == 7
    assert set(answer["details"]) == {"calls", "policy_s", "reset_s", "state_hash"}
    first, second = REQUESTS
    assert first.prompt == "do push" and not first.commanded.any()
    assert first.state.tolist() == [10.0] * 7
    assert first.images["wrist"].max() == 11 and first.images["third"].max() == 10
    assert (first.seed, second.seed) == (7_001_003_000, 7_001_003_001)
    assert np.load(tmp_path / "kept/actions.npy").shape == (7, 7)


def test_that_a_chain_says_how_many_tasks_were_done_in_a_row(tmp_path: Path) -> None:
    worker = Worker(CalvinProtocol, lambda job, protocol: Counter(5))
    with _served(tmp_path, "agentview") as address:
        answer = worker.run(replace(CALVIN_JOB, policy=address))
    assert not answer["success"] and answer["details"]["in_a_row"] == 1
    assert answer["details"]["steps"] == [5, 360] and answer["steps"] == 365
    assert [request.seed for request in REQUESTS[:2]] == [700_000, 700_001]


def test_that_errors_of_policy_and_settings_are_answers(tmp_path: Path) -> None:
    worker = Worker(LiberoProtocol, lambda job, protocol: Counter())
    gone = replace(LIBERO_JOB, policy=str(tmp_path / "none"), protocol={"name": "odd"})
    assert "is of another release" in worker.run(gone)["error"]
    with _served(tmp_path, "third") as address:
        unknown = worker.run(replace(LIBERO_JOB, policy=address))
        assert "--camera third=agentview" in unknown["error"]
        long = asdict(find_preset(LiberoProtocol, "openpi", replan=9))
        job = replace(LIBERO_JOB, policy=address, protocol=long, cameras={"third": "agentview"})
        assert "--replan" in worker.run(job)["error"]


def test_that_the_scene_is_built_anew_only_for_another_scene() -> None:
    built = []

    def build(job: LiberoJob, protocol: LiberoProtocol) -> Counter:
        built.append(job.scene)
        return Counter(1)

    worker = Worker(LiberoProtocol, build)
    jobs = [replace(LIBERO_JOB, scene=name, actions="missing") for name in "aab"]
    for job in jobs:
        with pytest.raises(FileNotFoundError):
            worker.run(job)
    assert built == ["a", "b"]


ALONE = """
import sys
from importlib import import_module
allowed = {*sys.stdlib_module_names, "numpy", "msgpack", "websockets", "dfm_vla_ros"}
class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refusing())
for name in ("libero", "calvin"):
    import_module(f"dfm_vla_ros.benchmarks.{name}.simulator")
"""


def test_that_a_simulators_interpreter_needs_numpy_msgpack_and_websockets_alone() -> None:
    subprocess.run([sys.executable, "-c", ALONE], check=True)
