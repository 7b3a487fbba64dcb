"""CALVIN's 34 tasks as rules on a symbolic state, their sentences, and the simulator's scene.

A state says of the slider, the drawer, both lights and each block where they are, and whether a
block is grasped. Source: Mees et al., CALVIN (RA-L 2022), section IV.C, and the rules of
github.com/mees/calvin, ``evaluation/multistep_sequences.py``. The order of the tasks counts: the
official list is drawn by their numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from dfm_vla_ros.benchmarks import Array

State = dict[str, str | int]
"""led, lightbulb: 0 or 1; slider: left or right; drawer: open or closed; red_block, blue_block,
pink_block: table, slider_left, slider_right, drawer, grasped, stacked_top or stacked_bottom;
grasped: 0 or 1."""

COLOURS = ("red", "blue", "pink")
SIDES = ("right", "left")
BEHIND_SLIDER = ("slider_right", "slider_left")


@dataclass(frozen=True)
class Rule:
    """A way in which a task can be done.

    Attributes:
        needs: key -> value, or the values of which one must hold.
        gives: key -> value afterwards.
    """

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
    """One task.

    Attributes:
        category: no chain has two tasks of the same.
        rules: of which exactly one must apply.
    """

    category: str
    rules: tuple[Rule, ...]


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
    for verb in ("rotate", "push"):
        for block in _blocks():
            for side in SIDES:
                yield f"{verb}_{block}_{side}", TaskRules("move", (_free({block: "table"}),))


def _furniture() -> Iterator[tuple[str, TaskRules]]:
    for to, start in (("left", "right"), ("right", "left")):
        yield f"move_slider_{to}", TaskRules("slider", (_free({"slider": start}, slider=to),))
    for verb, to, start in (("open", "open", "closed"), ("close", "closed", "open")):
        yield f"{verb}_drawer", TaskRules("drawer", (_free({"drawer": start}, drawer=to),))


def _lifts() -> Iterator[tuple[str, TaskRules]]:
    for block in _blocks():
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
            yield f"lift_{block}_{place}", TaskRules(f"lift_{place}", rules)


def _placings() -> Iterator[tuple[str, TaskRules]]:
    behind = tuple(
        _held(block, {"slider": side}, **{block: f"slider_{side}"})
        for block in _blocks()
        for side in SIDES
    )
    within = tuple(_held(block, {"drawer": "open"}, **{block: "drawer"}) for block in _blocks())
    yield "place_in_slider", TaskRules("place", behind)
    yield "place_in_drawer", TaskRules("place", within)


def _stacks() -> Iterator[tuple[str, TaskRules]]:
    pairs = tuple(permutations(_blocks(), 2))
    stacked = [({top: "stacked_top", low: "stacked_bottom"}, top, low) for top, low in pairs]
    stack = tuple(_held(top, {low: "table"}, **done) for done, top, low in stacked)
    unstack = tuple(_free(done, **{top: "table", low: "table"}) for done, top, low in stacked)
    yield "stack_block", TaskRules("stack", stack)
    yield "unstack_block", TaskRules("unstack", unstack)


def _lights() -> Iterator[tuple[str, TaskRules]]:
    for light in ("lightbulb", "led"):
        for word, value in (("on", 1), ("off", 0)):
            rule = _free({light: 1 - value}, **{light: value})
            yield f"turn_{word}_{light}", TaskRules("light", (rule,))


def _push_into_drawer() -> TaskRules:
    """Only a block that is alone on the table is pushed into the drawer."""
    rules = []
    for block in _blocks():
        others = {other: BEHIND_SLIDER for other in _blocks() if other != block}
        rules.append(_free({block: "table", **others, "drawer": "open"}, **{block: "drawer"}))
    return TaskRules("push_into_drawer", tuple(rules))


def _blocks() -> tuple[str, ...]:
    return tuple(f"{colour}_block" for colour in COLOURS)


TASKS: dict[str, TaskRules] = {
    **dict(_moves()),
    **dict(_furniture()),
    **dict(_lifts()),
    **dict(_placings()),
    **dict(_stacks()),
    **dict(_lights()),
    "push_into_drawer": _push_into_drawer(),
}

FNV_PRIME = 16777619

POSE = (0.02586889, -0.2313129, 0.5712808, 3.09045411, -0.02908596, 1.50013585)
OPENING_M = 0.07999963
JOINTS = (-1.21779124, 1.03987629, 2.11978254, -2.34205014, -0.87015899, 1.64119093, 0.55344928)
ROBOT = np.array([*POSE, OPENING_M, *JOINTS, 1.0])
"""(15,) pose of the hand [m, rad], opening [m], seven joints [rad], gripper's command."""

BEHIND = {
    "slider_left": (-0.240851662, 0.0924044687, 0.460990009),
    "slider_right": (0.070341633, 0.0924044687, 0.460990009),
}
ON_TABLE = ((0.0500000896, -0.120000177, 0.459990009), (0.229995412, -0.11999514, 0.45999001))
TURN = (math.pi / 2 - math.pi / 8, math.pi / 2 + math.pi / 8)
"""Bounds of a block's turn about the vertical [rad]."""
SLIDER_LEFT_M, DRAWER_OPEN_M, SWITCH_ON_RAD = 0.28, 0.22, 0.088


def pyhash_fnv1_32(text: str) -> int:
    """Return what ``pyhash.fnv1_32()(text)`` returns for a str."""
    value = 0
    for byte in text.encode("utf-16-le"):
        value = (value * FNV_PRIME % 2**32) ^ byte
    return value


def scene_seed(state: State) -> int:
    """Return the seed of a state's scene."""
    return pyhash_fnv1_32(f"dict_values({list(state.values())!r})")


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
    # why: blue takes the second place only beside red, pink always does
    second = {"red_block": False, "blue_block": state["red_block"] == "table", "pink_block": True}
    for number, (block, is_second) in enumerate(second.items()):
        pose = scene[6 + 6 * number : 12 + 6 * number]
        pose[:3] = BEHIND.get(str(state[block]), places[is_second])
        pose[5] = random.uniform(*TURN)
    return scene


def _sentences() -> dict[str, str]:
    found = {}
    for colour in COLOURS:
        block = f"{colour}_block"
        for side in ("right", "left"):
            found[f"rotate_{block}_{side}"] = (
                f"take the {colour} block and rotate it to the {side}"
            )
            found[f"push_{block}_{side}"] = f"go push the {colour} block {side}"
        found[f"lift_{block}_table"] = f"grasp and lift the {colour} block"
        found[f"lift_{block}_slider"] = f"lift the {colour} block from the sliding cabinet"
        found[f"lift_{block}_drawer"] = f"Take the {colour} block from the drawer"
    return found


INSTRUCTIONS: dict[str, str] = {
    **_sentences(),
    "move_slider_left": "push the sliding door to the left side",
    "move_slider_right": "push the sliding door to the right side",
    "open_drawer": "pull the handle to open the drawer",
    "close_drawer": "push the handle to close the drawer",
    "place_in_slider": "store the grasped block in the sliding cabinet",
    "place_in_drawer": "store the grasped block in the drawer",
    "push_into_drawer": "slide the block that it falls into the drawer",
    "stack_block": "stack the grasped block",
    "unstack_block": "remove the stacked block",
    "turn_on_lightbulb": "use the switch to turn on the light bulb",
    "turn_off_lightbulb": "use the switch to turn off the light bulb",
    "turn_on_led": "press the button to turn on the led light",
    "turn_off_led": "press the button to turn off the led light",
}
