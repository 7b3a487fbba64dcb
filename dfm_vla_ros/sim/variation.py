"""What may vary from episode to episode beside the plain layout: poses, light, colours, views."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np

from dfm_vla_ros.errors import UnknownSetting


def draw(task: str, seed: int, purpose: str = "layout") -> np.random.Generator:
    """Return the generator of a purpose in the episode ``seed`` of ``task``.

    The task's name is mixed in, so that equal seeds of two tasks are not alike.
    """
    words = [seed, zlib.crc32(task.encode())]
    return np.random.default_rng(
        words if purpose == "layout" else [*words, zlib.crc32(purpose.encode())]
    )


Layout = Literal["plain", "wide", "middle"]
MIDDLE_SHARES: dict[Layout, float] = {"wide": 0.4, "middle": 1.0}
"""Share of the layouts in which either arm reaches both things, where there are two."""


@dataclass(frozen=True)
class Variation:
    """Off by default; everything is drawn by the episode's seed.

    Attributes:
        layout: ``wide``: objects anywhere that the experts reach, plates from the table to
            0.10 m; ``middle``: those of the wide ones in which either arm reaches everything.
        light: directions, intensities, tint and ambient light.
        colours: of objects, table and floor, each within its own family of hues.
        textures: of the table, the block and the plate.
        camera_m: largest offset of a camera along each of its axes [m].
        camera_rad: largest turn of a camera about each of its axes [rad].
        zoom_deg: largest change of a vertical field of view [deg].
    """

    layout: Layout = "plain"
    light: bool = False
    colours: bool = False
    textures: bool = False
    camera_m: float = 0.0
    camera_rad: float = 0.0
    zoom_deg: float = 0.0


OFF = "off"
VARIATIONS: dict[str, Variation] = {
    OFF: Variation(),
    "layout": Variation(layout="wide"),
    "middle": Variation(layout="middle"),
    "wide": Variation(
        layout="wide",
        light=True,
        colours=True,
        textures=True,
        camera_m=0.006,
        camera_rad=0.015,
        zoom_deg=1.0,
    ),
}
"""By name."""


def variation(name: str) -> Variation:
    """Return a variation; raises UnknownSetting for an unknown name."""
    if name not in VARIATIONS:
        raise UnknownSetting(f"unknown variation {name!r}; there are {', '.join(VARIATIONS)}")
    return VARIATIONS[name]


STANDARD = "standard"
KINDS: tuple[str, ...] = (STANDARD, "train", "held_out")
"""Which phrasings are drawn from; ``held_out`` is for evaluation alone."""


@dataclass(frozen=True)
class Phrasings:
    """Ways to say one task, eight words at most: longer ones are cut by short tokenizers.

    Attributes:
        train: for demonstrations; the first is the standard sentence.
        held_out: never in a demonstration. The first ones have words of ``train`` alone, in
            another order; the last has words that no demonstration has.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def standard(self) -> str:
        """The task's sentence."""
        return self.train[0]

    def of(self, kind: str) -> tuple[str, ...]:
        """Return the sentences of a kind; raises UnknownSetting for an unknown one."""
        if kind not in KINDS:
            raise UnknownSetting(f"unknown phrasing {kind!r}; there are {', '.join(KINDS)}")
        return self.train[:1] if kind == STANDARD else getattr(self, kind)


PHRASINGS: dict[str, Phrasings] = {
    "pot_lift": Phrasings(
        train=(
            "lift the pot with both hands",
            "raise the pot with both hands",
            "lift the pot by its handles",
            "pick up the pot with two hands",
            "use both hands to lift the pot",
        ),
        held_out=(
            "raise the pot by its handles",
            "use two hands to pick up the pot",
            "hold the kettle high with both arms",
        ),
    ),
    "place_veg": Phrasings(
        train=(
            "put the vegetable in the pot",
            "place the vegetable in the pot",
            "drop the vegetable into the pot",
            "move the vegetable into the pot",
            "put the vegetable inside the pot",
        ),
        held_out=(
            "put the vegetable into the pot",
            "drop the vegetable in the pot",
            "throw the veggie inside that pot",
        ),
    ),
    "place_block": Phrasings(
        train=(
            "place the block on the plate",
            "put the block on the plate",
            "set the red block on the plate",
            "move the block onto the plate",
            "place the block on the blue plate",
        ),
        held_out=(
            "put the red block onto the blue plate",
            "set the block on the plate",
            "bring this cube over to the plate",
        ),
    ),
}
"""Task -> its sentences."""


def sentence(task: str, kind: str, seed: int) -> str:
    """Return the sentence of a task for the episode with ``seed``, drawn from those of a kind.

    Raises:
        UnknownSetting: there is no such kind.
    """
    sentences = PHRASINGS[task].of(kind)
    return sentences[int(draw(task, seed, "phrasing").integers(len(sentences)))]


PACES: tuple[float, ...] = (1.0, 1.5)
"""How many times the plain time the motions of several modes take."""


@dataclass(frozen=True)
class Style:
    """One way to do a task.

    Attributes:
        arm: that acts, where one does: ``near`` the object or the ``far`` one.
        turn: quarter turns of the gripper from the object's own yaw.
        along: where along a vegetable it is taken: 0 at the middle, +-1 near an end.
        order: which hand takes the pot first: ``together``, ``left`` or ``right``.
        pace: how many times the plain time every motion takes.
        hover: share of the plain height over an object from which it is approached.
    """

    arm: str = "near"
    turn: int = 0
    along: int = 0
    order: str = "together"
    pace: float = 1.0
    hover: float = 1.0

    def __str__(self) -> str:
        """Return what differs from the plain style, such as ``arm=far pace=1.5``."""
        changed = {f.name: getattr(self, f.name) for f in fields(self)}
        return " ".join(
            f"{name}={value}" for name, value in changed.items() if value != getattr(PLAIN, name)
        )


PLAIN = Style()


def acting_arm(style: Style, y_m: float) -> str:
    """Return the arm that acts on an object at ``y_m``."""
    near = "left" if y_m > 0 else "right"
    far = "right" if near == "left" else "left"
    return {"near": near, "far": far}[style.arm]


_ARMS, _ENDS = ("near", "far"), (-1, 0, 1)
_CHOICES: dict[str, tuple[Style, ...]] = {
    "pot_lift": tuple(Style(order=order) for order in ("together", "left", "right")),
    "place_block": tuple(Style(arm=arm, turn=turn) for arm in _ARMS for turn in _ENDS),
    "place_veg": tuple(Style(arm=arm, along=end) for arm in _ARMS for end in _ENDS),
}
"""Ways of each task at one pace; not all can be reached in every layout."""


@dataclass(frozen=True)
class Demonstrator:
    """Who demonstrates.

    Attributes:
        several: draw the style, by the seed, from all that reach; else always :attr:`plain`.
        plain: the only style, or pace and hover of all.
    """

    several: bool = False
    plain: Style = PLAIN

    def styles(self, task: str, seed: int) -> list[Style]:
        """Return styles to try in this order; the first that reaches is to be taken.

        Arm and pace are drawn first, so that neither is rarer where fewer grasps reach.
        """
        if not self.several:
            return [self.plain]
        rng = draw(task, seed, "style")
        pace = float(rng.choice(PACES)) * self.plain.pace
        choices = [_CHOICES[task][i] for i in rng.permutation(len(_CHOICES[task]))]
        first = str(rng.choice(sorted({style.arm for style in choices})))
        choices.sort(key=lambda style: style.arm != first)
        return [replace(style, pace=pace, hover=self.plain.hover) for style in choices]


DEMONSTRATORS: dict[str, Demonstrator] = {
    "one": Demonstrator(),
    "several": Demonstrator(several=True),
    "slow": Demonstrator(plain=Style(pace=1.6, hover=0.7)),
}
"""By name: one way, several ways, and another person: slower, from lower heights."""


def demonstrator(name: str) -> Demonstrator:
    """Return a demonstrator; raises UnknownSetting for an unknown name."""
    if name not in DEMONSTRATORS:
        raise UnknownSetting(
            f"unknown demonstrator {name!r}; there are {', '.join(DEMONSTRATORS)}"
        )
    return DEMONSTRATORS[name]
