"""CALVIN's 34 tasks as rules on a symbolic state, the official chains of five, and their scenes.

A state says of the slider, the drawer, both lights and each block where they are, and whether a
block is grasped. A chain is five tasks that can be done one after another: each of the 192 initial
states gets 5 or 6, drawn with the state's number as seed, and all are shuffled with seed 0.

Sources: Mees et al., CALVIN (RA-L 2022), section IV.C; github.com/mees/calvin,
``evaluation/multistep_sequences.py``, ``get_sequences``. The order of the tasks counts: the
official list is drawn by their numbers.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path

import numpy as np

from dfm_vla_ros.benchmarks import Array
from dfm_vla_ros.errors import BenchmarkError

State = dict[str, str | int]
"""led, lightbulb: 0 or 1; slider: left or right; drawer: open or closed; red_block, blue_block,
pink_block: table, slider_left, slider_right, drawer, grasped, stacked_top or stacked_bottom;
grasped: 0 or 1."""
COLOURS = ("red", "blue", "pink")
BLOCKS = tuple(f"{colour}_block" for colour in COLOURS)
BEHIND_SLIDER = ("slider_right", "slider_left")
OFFICIAL = "840cb992c69ce9b6"
"""Checksum of the official list of 1000."""
LENGTH = 5


@dataclass(frozen=True)
class Rule:
    """A way to do a task: ``needs`` of each key its value or one of several; ``gives`` others."""

    needs: Mapping[str, str | int | tuple[str, ...]]
    gives: Mapping[str, str | int]

    def applies(self, state: State) -> bool:
        """Return whether ``state`` has all that the task needs."""
        return all(
            state[key] in value if isinstance(value, tuple) else state[key] == value
            for key, value in self.needs.items()
        )


@dataclass(frozen=True)
class TaskRules:
    """When a task is possible: exactly one of ``rules`` must apply.

    No chain has two tasks of one ``category``; ``sentence`` is said to the policy.
    """

    category: str
    rules: tuple[Rule, ...]
    sentence: str


def after(state: State, task: TaskRules) -> State | None:
    """Return the state after ``task``, or None if it is impossible or ambiguous in ``state``."""
    found = [rule for rule in task.rules if rule.applies(state)]
    return state | dict(found[0].gives) if len(found) == 1 else None


def _free(needs: Mapping[str, str | int | tuple[str, ...]], **gives: str | int) -> Rule:
    """Return a rule for an empty gripper."""
    return Rule({**needs, "grasped": 0}, gives)


def _held(block: str, needs: Mapping[str, str], **gives: str | int) -> Rule:
    """Return a rule for a gripper that holds ``block`` and lets go of it."""
    return Rule({block: "grasped", **needs, "grasped": 1}, gives | {"grasped": 0})


def _moves() -> Iterator[tuple[str, TaskRules]]:
    sentences = {
        "rotate": "take the {} block and rotate it to the {}",
        "push": "go push the {} block {}",
    }
    for verb, sentence in sentences.items():
        for colour in COLOURS:
            for side in ("right", "left"):
                rule = _free({f"{colour}_block": "table"})
                name = f"{verb}_{colour}_block_{side}"
                yield name, TaskRules("move", (rule,), sentence.format(colour, side))


def _furniture() -> Iterator[tuple[str, TaskRules]]:
    for to, start in (("left", "right"), ("right", "left")):
        rule = _free({"slider": start}, slider=to)
        sentence = f"push the sliding door to the {to} side"
        yield f"move_slider_{to}", TaskRules("slider", (rule,), sentence)
    for verb, pull, to, start in (
        ("open", "pull", "open", "closed"),
        ("close", "push", "closed", "open"),
    ):
        rule = _free({"drawer": start}, drawer=to)
        sentence = f"{pull} the handle to {verb} the drawer"
        yield f"{verb}_drawer", TaskRules("drawer", (rule,), sentence)


def _lifts() -> Iterator[tuple[str, TaskRules]]:
    sentences = {
        "table": "grasp and lift the {} block",
        "slider": "lift the {} block from the sliding cabinet",
        "drawer": "Take the {} block from the drawer",
    }
    for colour, block in zip(COLOURS, BLOCKS, strict=True):
        held: State = {block: "grasped", "grasped": 1}
        places: dict[str, list[dict[str, str]]] = {
            "table": [{block: "table"}],
            "slider": [
                {block: "slider_left", "slider": "right"},
                {block: "slider_right", "slider": "left"},
            ],
            "drawer": [{block: "drawer", "drawer": "open"}],
        }
        for place, ways in places.items():
            rules = tuple(_free(needs, **held) for needs in ways)
            sentence = sentences[place].format(colour)
            yield f"lift_{block}_{place}", TaskRules(f"lift_{place}", rules, sentence)


def _placings() -> Iterator[tuple[str, TaskRules]]:
    behind = tuple(
        _held(block, {"slider": side}, **{block: f"slider_{side}"})
        for block in BLOCKS
        for side in ("right", "left")
    )
    within = tuple(_held(block, {"drawer": "open"}, **{block: "drawer"}) for block in BLOCKS)
    sentence = "store the grasped block in the {}"
    yield "place_in_slider", TaskRules("place", behind, sentence.format("sliding cabinet"))
    yield "place_in_drawer", TaskRules("place", within, sentence.format("drawer"))


def _stacks() -> Iterator[tuple[str, TaskRules]]:
    pairs = tuple(permutations(BLOCKS, 2))
    stacked = [({top: "stacked_top", low: "stacked_bottom"}, top, low) for top, low in pairs]
    stack = tuple(_held(top, {low: "table"}, **done) for done, top, low in stacked)
    unstack = tuple(_free(done, **{top: "table", low: "table"}) for done, top, low in stacked)
    yield "stack_block", TaskRules("stack", stack, "stack the grasped block")
    yield "unstack_block", TaskRules("unstack", unstack, "remove the stacked block")


def _lights() -> Iterator[tuple[str, TaskRules]]:
    sentences = {
        "lightbulb": "use the switch to turn {} the light bulb",
        "led": "press the button to turn {} the led light",
    }
    for light, sentence in sentences.items():
        for word, value in (("on", 1), ("off", 0)):
            rule = _free({light: 1 - value}, **{light: value})
            yield f"turn_{word}_{light}", TaskRules("light", (rule,), sentence.format(word))


def _push_into_drawer() -> Iterator[tuple[str, TaskRules]]:
    """Only a block that is alone on the table is pushed into the drawer."""
    rules = []
    for block in BLOCKS:
        others = {other: BEHIND_SLIDER for other in BLOCKS if other != block}
        rules.append(_free({block: "table", **others, "drawer": "open"}, **{block: "drawer"}))
    sentence = "slide the block that it falls into the drawer"
    yield "push_into_drawer", TaskRules("push_into_drawer", tuple(rules), sentence)


_KINDS = (_moves, _furniture, _lifts, _placings, _stacks, _lights, _push_into_drawer)
TASKS: dict[str, TaskRules] = {name: task for kind in _KINDS for name, task in kind()}
NAMES = tuple(TASKS)
CATEGORIES = tuple(task.category for task in TASKS.values())


@dataclass(frozen=True)
class Chain:
    """Names of ``LENGTH`` tasks to be done one after another from ``state``."""

    state: State
    tasks: tuple[str, ...]


def initial_states() -> list[State]:
    """Return the 192 states: one or two blocks on the table, no two at the same end behind."""
    values: dict[str, Sequence[str | int]] = {
        "led": (0, 1),
        "lightbulb": (0, 1),
        "slider": ("right", "left"),
        "drawer": ("closed", "open"),
        **{block: ("table", *BEHIND_SLIDER) for block in BLOCKS},
        "grasped": (0,),
    }
    states = (dict(zip(values, chosen, strict=True)) for chosen in product(*values.values()))
    places = [(state, [state[block] for block in BLOCKS]) for state in states]
    return [
        state
        for state, found in places
        if found.count("table") in (1, 2)
        and all(found.count(place) <= 1 for place in BEHIND_SLIDER)
    ]


def possible(state: State, tasks: Sequence[str]) -> bool:
    """Return whether ``tasks`` can be done in this order."""
    now: State | None = state
    for name in tasks:
        now = after(now, TASKS[name])
        if now is None:
            return False
    return True


def chains_from(state: State, seed: int) -> Iterator[Chain]:
    """Yield chains from ``state`` without end, drawn with ``seed``."""
    random = np.random.RandomState(seed)
    while True:
        drawn = random.permutation(len(NAMES))[:LENGTH].tolist()
        # Most draws fail here, and this is cheap.
        if len({CATEGORIES[number] for number in drawn}) < LENGTH:
            continue
        tasks = tuple(NAMES[number] for number in drawn)
        if possible(state, tasks):
            yield Chain(state, tasks)


def official_chains() -> list[Chain]:
    """Return the official list of 1000 chains."""
    states, chains = initial_states(), []
    for seed, share in enumerate(np.array_split(range(1000), len(states))):
        drawn = chains_from(states[seed], seed)
        chains += [next(drawn) for _ in share]
    np.random.RandomState(0).shuffle(chains)
    return chains


def rows_of(chains: Sequence[Chain]) -> list[tuple[State, list[str]]]:
    """Return the list as JSON has it: ``[[state, [tasks]], ...]``."""
    return [(chain.state, list(chain.tasks)) for chain in chains]


def checksum(chains: Sequence[Chain]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the list's JSON."""
    return hashlib.sha256(json.dumps(rows_of(chains)).encode()).hexdigest()[:16]


def read_chains(path: Path) -> list[Chain]:
    """Read a list that somebody published, see ``rows_of``."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        chains = [Chain(dict(state), tuple(tasks)) for state, tasks in rows]
    except (OSError, ValueError, TypeError) as error:
        raise BenchmarkError(f"{path} is no list of chains: {error}") from error
    keys = list(initial_states()[0])
    for number, chain in enumerate(chains):
        if list(chain.state) != keys or not chain.tasks or set(chain.tasks) - set(TASKS):
            raise BenchmarkError(
                f"{path}: row {number} is {chain.tasks} from {chain.state}: give tasks of "
                f"{', '.join(NAMES[:3])}, ... and a state with {', '.join(keys)}, in this order"
            )
    return chains


def differing_rows(chains: Sequence[Chain], others: Sequence[Chain]) -> list[int]:
    """Return the numbers of the rows that differ or that one of both lacks."""
    longest = max(len(chains), len(others))
    return [row for row in range(longest) if chains[row : row + 1] != others[row : row + 1]]


_POSE = (0.02586889, -0.2313129, 0.5712808, 3.09045411, -0.02908596, 1.50013585)
_JOINTS = (-1.21779124, 1.03987629, 2.11978254, -2.34205014, -0.87015899, 1.64119093, 0.55344928)
ROBOT = np.array([*_POSE, 0.07999963, *_JOINTS, 1.0])
"""(15,) pose of the hand [m, rad], opening [m], seven joints [rad], gripper's command."""
BEHIND = {
    "slider_left": (-0.240851662, 0.0924044687, 0.460990009),
    "slider_right": (0.070341633, 0.0924044687, 0.460990009),
}
ON_TABLE = ((0.0500000896, -0.120000177, 0.459990009), (0.229995412, -0.11999514, 0.45999001))
TURN = (math.pi / 2 - math.pi / 8, math.pi / 2 + math.pi / 8)
"""Bounds of a block's turn about the vertical [rad]."""
SLIDER_LEFT_M, DRAWER_OPEN_M, SWITCH_ON_RAD = 0.28, 0.22, 0.088


def fnv1_32(text: str) -> int:
    """Return what ``pyhash.fnv1_32()(text)`` does: FNV-1 begun at 0, over UTF-16."""
    value = 0
    for byte in text.encode("utf-16-le"):
        value = (value * 16777619 % 2**32) ^ byte
    return value


def scene_seed(state: State) -> int:
    """Return the seed of a state's scene, a hash of the words that Python prints."""
    return fnv1_32(f"dict_values({list(state.values())!r})")


def scene_of(state: State) -> Array:
    """Return the simulator's ``scene_obs`` (24,).

    slider [m], drawer [m], button [m], switch [rad], lightbulb, led, then of the red, the blue and
    the pink block the position [m] and the Euler angles [rad].
    """
    random = np.random.RandomState(scene_seed(state))
    places = list(ON_TABLE)
    random.shuffle(places)
    scene = np.zeros(24)
    scene[0] = SLIDER_LEFT_M * (state["slider"] == "left")
    scene[1] = DRAWER_OPEN_M * (state["drawer"] == "open")
    scene[3] = SWITCH_ON_RAD * (state["lightbulb"] == 1)
    scene[4:6] = state["lightbulb"], state["led"]
    # Blue takes the second place only beside red, pink always does.
    second = {"red_block": False, "blue_block": state["red_block"] == "table", "pink_block": True}
    for number, (block, is_second) in enumerate(second.items()):
        pose = scene[6 + 6 * number : 12 + 6 * number]
        pose[:3] = BEHIND.get(str(state[block]), places[is_second])
        pose[5] = random.uniform(*TURN)
    return scene
