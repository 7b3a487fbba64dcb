"""Jobs, the policy over its connection, and processes that do not start."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from dfm_vla_ros.benchmarks.libero.evaluation import Plan, episode, find_protocol, program
from dfm_vla_ros.benchmarks.libero.protocol import JOINT_NAMES, Answer, Job, View
from dfm_vla_ros.benchmarks.libero.replaying import check_actions
from dfm_vla_ros.benchmarks.libero.suites import Installation, Task
from dfm_vla_ros.benchmarks.libero.variation import Variation
from dfm_vla_ros.benchmarks.libero.worker import asked, played
from dfm_vla_ros.benchmarks.served import policies
from dfm_vla_ros.benchmarks.simulators import SimulatorPool, SimulatorProcess
from dfm_vla_ros.errors import BenchmarkError, LiberoError, SimulatorLost
from dfm_vla_ros.remote.client import PolicyClient
from dfm_vla_ros.remote.protocol import About, ActReply, ActRequest
from dfm_vla_ros.remote.server import PolicyServer

OPENPI = find_protocol("openpi", episodes=4)


def tasks(count: int) -> list[Task]:
    return [
        Task("libero_goal", i, f"task_{i}", f"do {i}", Path(f"{i}.bddl"), Path(f"{i}.init"))
        for i in range(count)
    ]


def plan(count: int, **others: object) -> Plan:
    return Plan(tasks(count), OPENPI, Variation(), Path("/out"), **others)


def view() -> View:
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    images = {"agentview": image, "eye_in_hand": image + 1}
    return View(images, np.array([1.0, 2, 3]), np.array([0.0, 0, 0, 1]), np.array([0.03, -0.02]))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, list[ActRequest]]]:
    """Serve a policy that remembers what it was asked."""
    requests: list[ActRequest] = []

    def act(request: ActRequest) -> ActReply:
        requests.append(request)
        return ActReply(np.full((8, 7), 0.5), 0.0, 1)

    sizes = {"third": (4, 4), "wrist": (4, 4)}
    about = About("ab", ("third", "wrist"), sizes, JOINT_NAMES, JOINT_NAMES, 8, 4, 0.05, {})
    server = PolicyServer(act, about, str(tmp_path / "policy.sock"))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield str(server.address), requests
    server.close()
    thread.join()


def test_that_a_policy_is_asked_with_its_cameras_its_state_and_a_seed_of_its_own(
    served: tuple[str, list[ActRequest]],
) -> None:
    address, requests = served
    cameras = {"third": "agentview", "wrist": "eye_in_hand"}
    job = plan(2, cameras=cameras).job(tasks(2)[1], 3)
    with PolicyClient(address) as client:
        act = asked(client, job, OPENPI)
        assert act(view(), 0).shape == (8, 7)
        act(view(), 1)
    first, second = requests
    assert first.prompt == "do 1" and not first.commanded.any()
    assert np.allclose(first.state, [1, 2, 3, 0, 0, 0, 0.05])
    assert first.images["wrist"].max() == 1 and first.images["third"].max() == 0
    assert (first.seed, second.seed) == (7_001_003_000, 7_001_003_001)


def test_that_a_camera_that_libero_lacks_is_named(served: tuple[str, list[ActRequest]]) -> None:
    with PolicyClient(served[0]) as client, pytest.raises(LiberoError, match="--camera third="):
        asked(client, plan(1).job(tasks(1)[0], 0), OPENPI)(view(), 0)


@pytest.mark.parametrize("preset", ["openpi", "openvla_oft", "univla"])
def test_that_played_actions_reach_the_simulator_as_they_are(tmp_path: Path, preset: str) -> None:
    from dfm_vla_ros.benchmarks.libero.protocol import commands

    protocol = find_protocol(preset)
    actions = np.random.default_rng(0).uniform(-1, 1, (23, 7))
    actions[:, 6] = np.sign(actions[:, 6])
    np.save(tmp_path / "a.npy", actions)
    job = Job("s", 0, 0, "", "", "", protocol.record(), actions=str(tmp_path / "a.npy"))
    act = played(job, protocol)
    chunks = [commands(act(view(), call), protocol.gripper) for call in range(7)]
    out = np.concatenate(chunks)
    assert np.allclose(out[:23], actions)
    assert not out[23:, :6].any() and (out[23 : 5 * protocol.replan, 6] == actions[-1, 6]).sum()


def test_that_a_job_survives_its_line() -> None:
    job = plan(1).job(tasks(1)[0], 2)
    assert Job.read(json.loads(json.dumps(job.record()))).record() == json.loads(
        json.dumps(job.record())
    )
    answer = Answer(True, steps=5, state_hash="00")
    assert Answer(**json.loads(json.dumps(asdict(answer)))) == answer


def test_that_the_jobs_of_a_task_stay_together_in_order() -> None:
    made = plan(3)
    groups = made.groups(made.places(), workers=2)
    assert [[(job.task, job.number) for job in group] for group in groups] == [
        [(task, number) for number in range(4)] for task in range(3)
    ]


def test_that_one_task_is_split_among_workers_and_what_is_done_is_left_out() -> None:
    made = plan(1)
    groups = made.groups(made.places()[1:], workers=2)
    assert [[job.number for job in group] for group in groups] == [[1, 2], [3]]


def test_that_a_changed_scene_has_no_stored_states_and_changed_words_are_said() -> None:
    made = plan(2, scenes={"task_0": Path("/new.bddl")}, words={"task_1": "do one"}, films=1)
    first, second = (made.job(task, 0) for task in tasks(2))
    assert (first.scene, first.states, first.instruction) == ("/new.bddl", "", "do 0")
    assert (second.scene, second.states, second.instruction) == ("1.bddl", "1.init", "do one")
    assert first.film and not made.job(tasks(2)[0], 1).keep


def test_that_an_error_is_no_failure() -> None:
    task = tasks(1)[0]
    job = plan(1).job(task, 0)
    broken = episode(task, job, Answer(None, "SimulatorLost: gone"))
    failed = episode(task, job, Answer(False, steps=300))
    assert broken.error and not failed.error and not failed.success


def test_that_a_simulator_that_does_not_start_says_what_it_said(tmp_path: Path) -> None:
    installation = Installation(Path(sys.executable), tmp_path, tmp_path)
    with pytest.raises(SimulatorLost, match=r"No module named '(libero|hf)") as raised:
        SimulatorProcess(program(installation), tmp_path / "log")
    assert str(tmp_path / "log") in str(raised.value)


def test_that_every_job_of_a_simulator_that_dies_ends_as_an_error(tmp_path: Path) -> None:
    # Says what it is, then dies at its first job.
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\necho "{}"\nread line\necho broken >&2\nexit 3\n')
    script.chmod(0o755)
    made = plan(2)
    with SimulatorPool(
        program(Installation(script, tmp_path, tmp_path)), 2, tmp_path / "logs"
    ) as pool:
        groups = made.groups(made.places(), 2)
        found = list(pool.run(groups, lambda _, job: job, 20.0))
    assert sorted((job.task, job.number) for job, _ in found) == [
        (task, number) for task in range(2) for number in range(4)
    ]
    assert all(a.success is None and "broken" in a.error for _, a in found)


def test_that_a_simulator_that_hangs_is_ended(tmp_path: Path) -> None:
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\necho "{}"\nexec sleep 60\n')
    script.chmod(0o755)
    installation = Installation(script, tmp_path, tmp_path)
    with (
        SimulatorProcess(program(installation), tmp_path / "log") as process,
        pytest.raises(SimulatorLost, match=r"took more than 0\.2 s"),
    ):
        process.ask(plan(1).job(tasks(1)[0], 0), 0.2)


def test_that_neither_or_both_of_checkpoint_and_address_are_refused() -> None:
    for checkpoint, addresses in ((None, []), (Path("a"), ["b"])):
        with (
            pytest.raises(BenchmarkError, match="either --checkpoint, or --policy"),
            policies(checkpoint, addresses, 1),
        ):
            pass


@pytest.mark.parametrize(
    "content, words",
    [
        (np.zeros((3, 6)), "expected"),
        (np.full((2, 7), np.inf), "finite"),
        (np.zeros((0, 7)), "exp"),
    ],
)
def test_that_odd_actions_are_refused(tmp_path: Path, content: np.ndarray, words: str) -> None:
    np.save(tmp_path / "a.npy", content)
    with pytest.raises(LiberoError, match=words):
        check_actions(tmp_path / "a.npy")
    with pytest.raises(LiberoError, match="cannot be read"):
        check_actions(tmp_path / "missing.npy")
