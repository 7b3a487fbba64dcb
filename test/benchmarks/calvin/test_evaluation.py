import json
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from dfm_vla_ros.benchmarks.calvin.evaluation import (
    Installation,
    Plan,
    encode_film,
    evaluate,
    find_protocol,
    program,
)
from dfm_vla_ros.benchmarks.calvin.sequences import Chain, chains_from, initial_states
from dfm_vla_ros.benchmarks.results import Book, Episode, ResultsError
from dfm_vla_ros.benchmarks.simulators import SimulatorPool

# Answers as the simulator's process does, and breaks at chain 3.
STAND_IN = """#!{python}
import json, sys
print(json.dumps({{"pybullet": "none"}}), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    if job["number"] == 3:
        sys.exit("the physics exploded")
    steps = [10] * min(5, job["number"] + 1)
    print(json.dumps({{"in_a_row": job["number"], "steps": steps, "seconds": 1.0}}), flush=True)
"""


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    python = tmp_path / "stand_in"
    python.write_text(STAND_IN.format(python=sys.executable))
    python.chmod(0o755)
    return Installation(python, tmp_path)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    state = initial_states()[0]
    chains = [Chain(state, tasks) for tasks in islice(chains_from(state, 0), 6)]
    return Plan(chains, range(6), find_protocol("official"), tmp_path / "films")


def _run(
    plan: Plan, installation: Installation, folder: Path, again: bool = False
) -> list[Episode]:
    """Return the episodes of this run."""
    lines = list[str]()
    with SimulatorPool(program(installation), 2, folder) as pool:
        book = Book(folder, plan.common("c0ffee", pool.about))
        places = book.missing(plan.places(), again)
        evaluate(plan, pool, ["one", "two"], book, places, lines.append, encode_film)
    assert len(lines) == len(places)
    return [episode for episode in book.episodes if episode.job in places]


def test_that_chains_are_shared_out_and_one_that_breaks_is_no_failure(
    plan: Plan, installation: Installation, tmp_path: Path
) -> None:
    episodes = {episode.number: episode for episode in _run(plan, installation, tmp_path / "out")}
    assert set(episodes) == set(range(6))
    assert "the physics exploded" in episodes[3].error
    assert episodes[4].details["in_a_row"] == 4 and not episodes[4].success
    assert episodes[5].success and episodes[5].steps == 50


def test_that_an_evaluation_goes_on_where_it_was_left(
    plan: Plan, installation: Installation, tmp_path: Path
) -> None:
    first = _run(replace(plan, numbers=range(3)), installation, tmp_path / "out")
    rest = _run(plan, installation, tmp_path / "out")
    assert sorted(episode.number for episode in first) == [0, 1, 2]
    assert sorted(episode.number for episode in rest) == [3, 4, 5]
    again = _run(plan, installation, tmp_path / "out", again=True)
    assert [episode.number for episode in again] == [3]


def test_that_another_budget_or_list_is_not_mixed_in(
    plan: Plan, installation: Installation, tmp_path: Path
) -> None:
    _run(replace(plan, numbers=[0]), installation, tmp_path / "out")
    with pytest.raises(ResultsError, match="protocol"):
        _run(
            replace(plan, protocol=find_protocol("five_times_budget")),
            installation,
            tmp_path / "out",
        )
    with pytest.raises(ResultsError, match="list"):
        _run(replace(plan, chains=plan.chains[::-1]), installation, tmp_path / "out")


def test_that_a_list_that_is_not_the_official_one_says_so(plan: Plan) -> None:
    found = plan.common("c0ffee", {})["list"]
    assert found["official"] is False and found["chains"] == 6
    assert json.dumps(plan.job(0).record())


def test_that_frames_become_a_film(tmp_path: Path) -> None:
    frames = tmp_path / "chain0000.npy"
    np.save(frames, np.zeros((4, 16, 16, 3), np.uint8))
    encode_film(frames)
    assert [path.name for path in tmp_path.iterdir()] == ["chain0000.mp4"]


def test_that_a_plan_without_a_replan_interval_takes_and_records_the_policys(plan: Plan) -> None:
    settled = plan.settled(execute_steps=4)
    assert settled.common("c0ffee", {})["protocol"]["replan"] == 4
    assert settled.job(0).protocol["replan"] == 4
    own = replace(plan, protocol=find_protocol("official", replan=7))
    assert own.settled(execute_steps=4) == own
