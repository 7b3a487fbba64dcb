"""The official list of CALVIN's chains, made anew: which five tasks follow from which state.

Every one of the 192 initial states gets 5 or 6 chains, drawn from a generator whose seed is the
state's number, and all are shuffled with seed 0.

Source: github.com/mees/calvin, ``get_sequences``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from dfm_vla_ros.benchmarks.calvin.tasks import BEHIND_SLIDER, COLOURS, TASKS, State, after
from dfm_vla_ros.errors import BenchmarkError

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
        BenchmarkError: it is none, or names states or tasks that there are not.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        chains = [Chain(dict(state), tuple(tasks)) for state, tasks in rows]
    except (OSError, ValueError, TypeError) as error:
        raise BenchmarkError(f"{path} is no list of chains: {error}") from error
    keys = list(initial_states()[0])
    for number, chain in enumerate(chains):
        unknown = [task for task in chain.tasks if task not in TASKS]
        if unknown or list(chain.state) != keys or not chain.tasks:
            raise BenchmarkError(
                f"{path}: row {number} is {chain.tasks} from {chain.state}: give tasks of "
                f"{', '.join(NAMES[:3])}, ... and a state with {', '.join(keys)}, in this order"
            )
    return chains


def differing_rows(chains: Sequence[Chain], others: Sequence[Chain]) -> list[int]:
    """Return the numbers of the rows that differ or that one of both lacks."""
    longest = max(len(chains), len(others))
    return [row for row in range(longest) if chains[row : row + 1] != others[row : row + 1]]
