"""Where robot and objects are at the start of a chain, to the official numbers.

The places of the blocks on the table and all turns are drawn from a seed that is the hash of the
symbolic state. Any other hash gives other scenes and other results, without a word: the official
one is FNV-1 of 32 bits, begun at 0 instead of the usual offset (which is FNV-0), over UTF-16.
Source: github.com/mees/calvin, ``get_env_state_for_initial_condition``, and pyhash 0.9.3.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.benchmarks.calvin.tasks import State

Array = NDArray[np.float64]

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
