"""CALVIN's evaluation: which chains, how they are shared out, and what they come to."""

from __future__ import annotations

import math
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dfm_vla_ros.benchmarks import EpisodeId, EpisodeOutcome
from dfm_vla_ros.benchmarks.calvin import CHAIN, SUITE, CalvinJob, CalvinProtocol
from dfm_vla_ros.benchmarks.calvin.simulator import check_folder
from dfm_vla_ros.benchmarks.calvin.tasks import LENGTH, OFFICIAL, Chain, checksum
from dfm_vla_ros.benchmarks.evaluation import BenchmarkPlan
from dfm_vla_ros.benchmarks.processes import Program
from dfm_vla_ros.errors import BenchmarkError
from dfm_vla_ros.evaluation.statistics import Z95, wilson

STEP_LIMIT_S, START_LIMIT_S = 5.0, 300.0
"""A chain that takes longer than these for its steps and its start hangs."""


def program(python: Path, folder: Path) -> Program:
    """Return what runs with the interpreter ``python`` and the checkout ``folder``."""
    module = "dfm_vla_ros.benchmarks.calvin.simulator"
    return Program(python, module, (str(folder),), "; without EGL, give --renderer tiny")


def find_program(folder: Path | None, python: Path | None, scene: str) -> Program:
    """Return the simulator at ``folder``, or where CALVIN_ENV and CALVIN_PYTHON say."""
    given = folder or os.environ.get("CALVIN_ENV")
    if not given:
        raise BenchmarkError(
            "where is CALVIN? let CALVIN_ENV name a checkout of github.com/mees/calvin_env, and "
            "CALVIN_PYTHON an interpreter that has pybullet; see docs/benchmarks.md"
        )
    checkout = Path(given).resolve()
    check_folder(checkout, scene)
    interpreter = python or os.environ.get("CALVIN_PYTHON") or sys.executable
    return program(Path(interpreter).absolute(), checkout)


def parse_rows(text: str, count: int) -> range:
    """Return the rows ``A:B`` of a list of ``count``."""
    first, colon, last = text.partition(":")
    try:
        found = range(count)[slice(int(first or 0), int(last or count))]
    except ValueError:
        found = range(0)
    if not (colon and found):
        raise BenchmarkError(f"--chains {text!r}: give A:B within 0:{count}, such as 0:100")
    return found


@dataclass(frozen=True, kw_only=True)
class CalvinPlan(BenchmarkPlan):
    """Rows ``numbers`` of the list ``chains``, of which the first ``films`` are filmed."""

    protocol: CalvinProtocol
    chains: Sequence[Chain]
    numbers: Sequence[int]

    @property
    def limit_s(self) -> float:
        """Return after how long a chain is an error [s]."""
        longest = max(len(chain.tasks) for chain in self.chains)
        return START_LIMIT_S + STEP_LIMIT_S * self.protocol.steps * longest

    def episodes(self) -> list[EpisodeId]:
        """Return all episodes."""
        return [(SUITE, CHAIN, number) for number in self.numbers]

    def groups(self, episodes: Iterable[EpisodeId], workers: int) -> list[list[CalvinJob]]:
        """Return the jobs of ``episodes``, each by itself."""
        return [[self.job(number)] for _, _, number in episodes]

    def job(self, number: int) -> CalvinJob:
        """Return the job of a row."""
        chain = self.chains[number]
        kept = self.folder / "films" / f"chain{number:04d}"
        return CalvinJob(
            SUITE,
            CHAIN,
            number,
            asdict(self.protocol),
            cameras=dict(self.cameras),
            keep=str(kept) if number in self.numbers[: self.films] else "",
            state=dict(chain.state),
            chain=list(chain.tasks),
        )

    def common(self, checkpoint: str, simulator: Mapping[str, Any]) -> dict[str, Any]:
        """Return what is the same for all of a book, which refuses other lists and budgets."""
        found = checksum(self.chains)
        listed = {"checksum": found, "official": found == OFFICIAL, "chains": len(self.chains)}
        return super().common(checkpoint, simulator) | {"list": listed}

    def film_path(self, job: CalvinJob, success: bool) -> Path:
        """Return where the film of a chain goes."""
        return Path(f"{job.keep}.mp4")

    def figures(self, episodes: Sequence[EpisodeOutcome]) -> dict[str, Any]:
        """Return the figures that papers give."""
        return {"calvin": metrics(episodes, self.chains)}


def metrics(episodes: Sequence[EpisodeOutcome], chains: Sequence[Chain]) -> dict[str, Any]:
    """Return the figures of the chains that ran to their end.

    Args:
        episodes: ``number`` is the row of the chain.
        chains: the list they are of.

    Returns:
        ``chains``, ``in_a_row`` (of 1 to 5 tasks: rate and Wilson's 95%), ``average_length`` with
        its standard 95% interval, ``tasks`` (done, tried, rate).
    """
    ended = [episode for episode in episodes if not episode.error]
    lengths = [int(episode.details["in_a_row"]) for episode in ended]
    return {
        "chains": len(lengths),
        "in_a_row": [_share(lengths, least) for least in range(1, LENGTH + 1)],
        "average_length": _mean(lengths),
        "tasks": _tasks(ended, chains),
    }


def _share(lengths: Sequence[int], least: int) -> dict[str, Any]:
    count = sum(length >= least for length in lengths)
    rate = count / len(lengths) if lengths else None
    return {"tasks": least, "rate": rate, "interval": wilson(count, len(lengths))}


def _mean(lengths: Sequence[int]) -> dict[str, Any] | None:
    if not lengths:
        return None
    mean = sum(lengths) / len(lengths)
    squares = sum((length - mean) ** 2 for length in lengths)
    half = Z95 * math.sqrt(squares / max(1, len(lengths) - 1) / len(lengths))
    return {"mean": mean, "interval": (max(0.0, mean - half), min(float(LENGTH), mean + half))}


def _tasks(episodes: Sequence[EpisodeOutcome], chains: Sequence[Chain]) -> dict[str, Any]:
    done, tried = Counter[str](), Counter[str]()
    for episode in episodes:
        tasks, length = chains[episode.number].tasks, int(episode.details["in_a_row"])
        done.update(tasks[:length])
        tried.update(tasks[: length + 1])
    return {
        task: {
            "done": done[task],
            "tried": tried[task],
            "rate": done[task] / tried[task],
            "interval": wilson(done[task], tried[task]),
        }
        for task in sorted(tried)
    }


def table(found: Mapping[str, Any]) -> str:
    """Return the figures as lines of a table, as papers have them."""
    mean = found["average_length"]
    if mean is None:
        return "no chain ran to its end"
    rates = " | ".join(f"{100 * share['rate']:.1f}" for share in found["in_a_row"])
    low, high = mean["interval"]
    return (
        "| chains | 1 | 2 | 3 | 4 | 5 | average length |\n|---|---|---|---|---|---|---|\n"
        f"| {found['chains']} | {rates} | {mean['mean']:.2f} ({low:.2f} to {high:.2f}) |"
    )
