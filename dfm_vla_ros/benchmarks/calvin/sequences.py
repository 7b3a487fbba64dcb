"""The official list of CALVIN's chains, made anew: which five tasks follow from which state.

Every one of the 192 initial states gets 5 or 6 chains, drawn from a generator whose seed is the
state's number, and all are shuffled with seed 0.

Source: github.com/mees/calvin, ``get_sequences``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from dfm_vla_ros.benchmarks.calvin.tasks import BEHIND_SLIDER, COLOURS, TASKS, State, after
from dfm_vla_ros.benchmarks.results import Episode
from dfm_vla_ros.errors import CalvinError
from dfm_vla_ros.evaluation.statistics import Z95, wilson

OFFICIAL = "840cb992c69ce9b6"
"""Checksum of the list of 1000."""
CHAINS = 1000
LENGTH = 5

NAMES = tuple(TASKS)
CATEGORIES = tuple(task.category for task in TASKS.values())


@dataclass(frozen=True)
class Chain:
    """Tasks to be done one after another.

    Attributes:
        state: where everything is at the start.
        tasks: names, of ``LENGTH`` tasks.
    """

    state: State
    tasks: tuple[str, ...]


def initial_states() -> list[State]:
    """Return the 192 states: one or two blocks on the table, no two at the same end behind."""
    values: dict[str, Sequence[str | int]] = {
        "led": (0, 1),
        "lightbulb": (0, 1),
        "slider": ("right", "left"),
        "drawer": ("closed", "open"),
        **{f"{colour}_block": ("table", *BEHIND_SLIDER) for colour in COLOURS},
        "grasped": (0,),
    }
    states = (dict(zip(values, chosen, strict=True)) for chosen in product(*values.values()))
    return [state for state in states if _allowed(list(state.values()))]


def _allowed(values: list[str | int]) -> bool:
    behind = all(values.count(place) <= 1 for place in BEHIND_SLIDER)
    return values.count("table") in (1, 2) and behind


def possible(state: State, tasks: Sequence[str]) -> bool:
    """Return whether ``tasks`` can be done in this order, each of another category."""
    if len({TASKS[name].category for name in tasks}) < len(tasks):
        return False
    now: State | None = state
    for name in tasks:
        now = after(now, TASKS[name])
        if now is None:
            return False
    return True


def chains_from(state: State, seed: int) -> Iterator[tuple[str, ...]]:
    """Yield chains from ``state`` without end, drawn with ``seed``."""
    random = np.random.RandomState(seed)
    while True:
        drawn = random.permutation(len(NAMES))[:LENGTH].tolist()
        # why: most draws fail here, and this is cheap
        if len({CATEGORIES[number] for number in drawn}) < LENGTH:
            continue
        tasks = tuple(NAMES[number] for number in drawn)
        if possible(state, tasks):
            yield tasks


def official_chains(count: int = CHAINS) -> list[Chain]:
    """Return the list of ``count`` chains; the official one has 1000.

    Other counts are no part of the official list: their chains are others in another order.
    """
    states, chains = initial_states(), []
    for seed, share in enumerate(np.array_split(range(count), len(states))):
        drawn = chains_from(states[seed], seed)
        chains += [Chain(states[seed], next(drawn)) for _ in share]
    np.random.RandomState(0).shuffle(chains)
    return chains


def checksum(chains: Sequence[Chain]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of ``[[state, [tasks]], ...]``."""
    content = json.dumps([[chain.state, list(chain.tasks)] for chain in chains])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def read_chains(path: Path) -> list[Chain]:
    """Read a list that somebody published: JSON, ``[[state, [tasks]], ...]``.

    Raises:
        CalvinError: it is none, or names states or tasks that there are not.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        chains = [Chain(dict(state), tuple(tasks)) for state, tasks in rows]
    except (OSError, ValueError, TypeError) as error:
        raise CalvinError(f"{path} is no list of chains: {error}") from error
    keys = list(initial_states()[0])
    for number, chain in enumerate(chains):
        unknown = [task for task in chain.tasks if task not in TASKS]
        if unknown or list(chain.state) != keys or not chain.tasks:
            raise CalvinError(
                f"{path}: row {number} is {chain.tasks} from {chain.state}: give tasks of "
                f"{', '.join(NAMES[:3])}, ... and a state with {', '.join(keys)}, in this order"
            )
    return chains


def differing_rows(chains: Sequence[Chain], others: Sequence[Chain]) -> list[int]:
    """Return the numbers of the rows that differ or that one of both lacks."""
    longest = max(len(chains), len(others))
    return [row for row in range(longest) if chains[row : row + 1] != others[row : row + 1]]


IN_A_ROW = "in_a_row"
SUITE, TASK = "CALVIN", "chain"


def metrics(episodes: Sequence[Episode], chains: Sequence[Chain]) -> dict[str, Any]:
    """Return the figures of the chains that ran to their end.

    Args:
        episodes: ``number`` is the row of the chain.
        chains: the list they are of.

    Returns:
        ``chains``, ``in_a_row`` (of 1 to 5 tasks: rate and Wilson's 95%), ``average_length`` with
        its standard 95% interval, ``tasks`` (done, tried, rate).
    """
    ended = [episode for episode in episodes if not episode.error]
    lengths = [int(episode.details[IN_A_ROW]) for episode in ended]
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


def _tasks(episodes: Sequence[Episode], chains: Sequence[Chain]) -> dict[str, dict[str, Any]]:
    done: dict[str, int] = {}
    tried: dict[str, int] = {}
    for episode in episodes:
        length = int(episode.details[IN_A_ROW])
        for place, task in enumerate(chains[episode.number].tasks[: length + 1]):
            tried[task] = tried.get(task, 0) + 1
            done[task] = done.get(task, 0) + (place < length)
    return {
        task: {
            "done": done[task],
            "tried": tried[task],
            "rate": done[task] / tried[task],
            "interval": wilson(done[task], tried[task]),
        }
        for task in sorted(tried)
    }


def table(found: dict[str, Any]) -> str:
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
