"""Simulators and policies in processes of their own, and an evaluation that resumes."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from served import ABOUT, echo, serving
from small import small_checkpoint

from dfm_vla_ros.benchmarks import EpisodeOutcome, processes
from dfm_vla_ros.benchmarks.calvin import CalvinProtocol
from dfm_vla_ros.benchmarks.calvin import evaluation as calvin
from dfm_vla_ros.benchmarks.calvin.evaluation import CalvinPlan
from dfm_vla_ros.benchmarks.calvin.tasks import chains_from, initial_states
from dfm_vla_ros.benchmarks.evaluation import evaluate, find_preset, make_film
from dfm_vla_ros.benchmarks.libero import LiberoProtocol
from dfm_vla_ros.benchmarks.libero import evaluation as libero
from dfm_vla_ros.benchmarks.libero.evaluation import LiberoPlan, check_actions
from dfm_vla_ros.benchmarks.libero.suites import LiberoInstallation, LiberoTask
from dfm_vla_ros.benchmarks.processes import (
    Program,
    SimulatorPool,
    SimulatorProcess,
    policy_about,
    served_policies,
)
from dfm_vla_ros.errors import BenchmarkError, SimulatorLost
from dfm_vla_ros.files import BookError

# Answers as the simulator's process does, and breaks at chain 3.
STAND_IN = """#!{python}
import json, sys
print(json.dumps({{"pybullet": "none"}}), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    number = job["number"]
    if number == 3:
        sys.exit("the physics exploded")
    details = {{"in_a_row": number, "steps": [10] * min(5, number + 1)}}
    answer = {{"success": number == 5, "steps": sum(details["steps"]), "details": details}}
    print(json.dumps(answer), flush=True)
"""


def _script(path: Path, text: str) -> Program:
    path.write_text(text)
    path.chmod(0o755)
    return Program(path, "none", ())


@pytest.fixture
def stand_in(tmp_path: Path) -> Program:
    return _script(tmp_path / "stand_in", STAND_IN.format(python=sys.executable))


@pytest.fixture
def plan(tmp_path: Path) -> CalvinPlan:
    state = initial_states()[0]
    chains = list(islice(chains_from(state, 0), 6))
    protocol = find_preset(CalvinProtocol, "official")
    return CalvinPlan(protocol=protocol, folder=tmp_path / "out", chains=chains, numbers=range(6))


def _run(plan: CalvinPlan, program: Program, again: bool = False) -> list[EpisodeOutcome]:
    """Return the episodes of this run."""
    folder, lines = plan.folder.parent, list[str]()
    with ExitStack() as stack:
        addresses = [
            str(stack.enter_context(serving(echo, folder / f"{n}.sock")).address) for n in range(2)
        ]
        book = evaluate(plan, program, addresses, {}, plan.limit_s, again, lines.append)
    ran = [line.rpartition("chain ")[2].partition(":")[0] for line in lines if "chain " in line]
    return [episode for episode in book.episodes if str(episode.number) in ran]


def test_that_episodes_are_shared_out_and_one_that_breaks_is_no_failure(
    plan: CalvinPlan, stand_in: Program
) -> None:
    episodes = {episode.number: episode for episode in _run(plan, stand_in)}
    assert set(episodes) == set(range(6))
    assert "the physics exploded" in episodes[3].error
    assert episodes[4].details["in_a_row"] == 4 and not episodes[4].success
    assert episodes[5].success and episodes[5].steps == 50
    result = json.loads((plan.folder / "result.json").read_text())
    assert result["common"]["list"]["official"] is False
    assert result["calvin"]["chains"] == 5 and result["common"]["protocol"]["replan"] == 2


def test_that_an_evaluation_goes_on_where_it_was_left(plan: CalvinPlan, stand_in: Program) -> None:
    first = _run(replace(plan, numbers=range(3)), stand_in)
    rest = _run(plan, stand_in)
    assert sorted(episode.number for episode in first) == [0, 1, 2]
    assert sorted(episode.number for episode in rest) == [3, 4, 5]
    assert [episode.number for episode in _run(plan, stand_in, again=True)] == [3]


def test_that_another_budget_or_list_is_not_mixed_in(plan: CalvinPlan, stand_in: Program) -> None:
    _run(replace(plan, numbers=[0]), stand_in)
    other = find_preset(CalvinProtocol, "five_times_budget")
    with pytest.raises(BookError, match="protocol"):
        _run(replace(plan, protocol=other), stand_in)
    with pytest.raises(BookError, match="list"):
        _run(replace(plan, chains=plan.chains[::-1]), stand_in)


def test_that_frames_become_a_film(plan: CalvinPlan) -> None:
    job = replace(plan, films=1).job(0)
    Path(job.keep).mkdir(parents=True)
    np.save(Path(job.keep) / "frames.npy", np.zeros((4, 1, 16, 16, 3), np.uint8))
    make_film(plan, job, EpisodeOutcome(*job.episode))
    assert (plan.folder / "films/chain0000.mp4").stat().st_size and not any(
        Path(job.keep).iterdir()
    )


OPENPI = find_preset(LiberoProtocol, "openpi", episodes=4)


def tasks(count: int) -> list[LiberoTask]:
    return [
        LiberoTask("libero_goal", i, f"task_{i}", f"do {i}", Path(f"{i}.bddl"), Path(f"{i}.init"))
        for i in range(count)
    ]


def libero_plan(count: int, **others: object) -> LiberoPlan:
    return LiberoPlan(protocol=OPENPI, tasks=tasks(count), folder=Path("/out"), **others)


def test_that_the_jobs_of_a_task_stay_together_in_order() -> None:
    made = libero_plan(3)
    groups = made.groups(made.episodes(), workers=2)
    assert [[(job.index, job.number) for job in group] for group in groups] == [
        [(task, number) for number in range(4)] for task in range(3)
    ]


def test_that_one_task_is_split_among_workers_and_what_is_done_is_left_out() -> None:
    made = libero_plan(1)
    groups = made.groups(made.episodes()[1:], workers=2)
    assert [[job.number for job in group] for group in groups] == [[1, 2], [3]]


def test_that_a_changed_scene_has_no_stored_states_and_changed_words_are_said() -> None:
    scenes, words = {"task_0": Path("/new.bddl")}, {"task_1": "do one"}
    made = libero_plan(2, scenes=scenes, words=words, films=1)
    first, second = (made.job(task, 0) for task in tasks(2))
    assert (first.scene, first.states, first.instruction) == ("/new.bddl", "", "do 0")
    assert (second.scene, second.states, second.instruction) == ("1.bddl", "1.init", "do one")
    assert first.keep and not made.job(tasks(2)[0], 1).keep
    assert made.film_path(first, True).name == "success_film.mp4"


def test_that_every_job_of_a_simulator_that_dies_ends_as_an_error(tmp_path: Path) -> None:
    # Says what it is, then dies at its first job.
    text = '#!/bin/sh\necho "{}"\nread line\necho broken >&2\nexit 3\n'
    made = libero_plan(2)
    with SimulatorPool(_script(tmp_path / "dies", text), ["", ""], tmp_path / "logs") as pool:
        found = [episode for _, episode in pool.run(made.groups(made.episodes(), 2), 20.0)]
    assert sorted(one.episode for one in found) == sorted(made.episodes())
    assert all("SimulatorLost" in one.error and "broken" in one.error for one in found)
    assert all("ended (3)" in one.error for one in found)


def test_that_a_simulator_that_hangs_is_ended(tmp_path: Path) -> None:
    program = _script(tmp_path / "hangs", '#!/bin/sh\necho "{}"\nexec sleep 60\n')
    process = SimulatorProcess(program, tmp_path / "log")
    with pytest.raises(SimulatorLost, match=r"took more than 0\.2 s"):
        process.ask(libero_plan(1).job(tasks(1)[0], 0), 0.2)


@pytest.mark.parametrize("name", ["libero", "calvin"])
def test_that_an_interpreter_without_the_simulator_says_what_it_said(
    name: str, tmp_path: Path
) -> None:
    python = Path(sys.executable)
    program = {
        "libero": libero.program(LiberoInstallation(python, tmp_path, tmp_path)),
        "calvin": calvin.program(python, tmp_path),
    }[name]
    with pytest.raises(SimulatorLost, match=r"(libero|hf|pybullet)") as raised:
        SimulatorProcess(program, tmp_path / "log/simulator.log")
    assert str(tmp_path / "log/simulator.log") in str(raised.value)


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
    with pytest.raises(BenchmarkError, match=words):
        check_actions(tmp_path / "a.npy")
    with pytest.raises(BenchmarkError, match="cannot be read"):
        check_actions(tmp_path / "missing.npy")


def test_that_neither_or_both_of_checkpoint_and_address_are_refused() -> None:
    for checkpoint, addresses in ((None, []), (Path("a"), ["b"])):
        with (
            pytest.raises(BenchmarkError, match="either --checkpoint, or --policy"),
            served_policies(checkpoint, addresses, 1),
        ):
            pass


@pytest.mark.parametrize("other, same", [("c0ffee", True), ("decade", False)])
def test_that_addresses_of_different_checkpoints_are_refused(
    tmp_path: Path, other: str, same: bool
) -> None:
    with ExitStack() as stack:
        found = [
            str(stack.enter_context(serving(echo, tmp_path / f"{number}.sock", about)).address)
            for number, about in enumerate((ABOUT, replace(ABOUT, checkpoint_hash=other)))
        ]
        if same:
            assert policy_about(found).checkpoint_hash == "c0ffee"
        else:
            with pytest.raises(BenchmarkError, match=r"1\.sock serves decade and .*0\.sock c0f"):
                policy_about(found)


def test_that_a_checkpoint_is_served_to_every_worker_and_all_is_gone_afterwards(
    tmp_path: Path,
) -> None:
    small_checkpoint().save(tmp_path / "small", "# test\n")
    with served_policies(tmp_path / "small", [], 2) as addresses:
        assert len(set(addresses)) == 2
        assert policy_about(addresses).horizon == 8
    assert not any(Path(address).parent.exists() for address in addresses)


def test_that_a_server_that_does_not_start_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "SERVE", ("false",))
    with (
        pytest.raises(BenchmarkError, match="ended with 1 before it was ready"),
        served_policies(tmp_path / "nothing", [], 1),
    ):
        pass
