"""How an expert does a task: which arm, which grasp, how fast; and who draws it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from dfm_vla_ros.sim.draws import draw
from dfm_vla_ros.sim.errors import UnknownSetting

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
