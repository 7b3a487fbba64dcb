"""How an evaluation is done, all of it explicit; presets are named after whose it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import numpy as np

from dfm_vla_ros.benchmarks.libero.actions import ACTION_NAMES, GripperRule, View, turned
from dfm_vla_ros.benchmarks.libero.errors import LiberoError

ALWAYS, ON_DEMAND = "always", "on_demand"
TASK, EPISODE = "task", "episode"
SETTLE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)


@dataclass(frozen=True)
class Protocol:
    """The settings of an evaluation.

    Attributes:
        name: of the preset.
        source: where the numbers come from.
        max_steps: suite -> steps after settling; not done by then is a failure.
        replan: steps of a chunk that are executed before the next.
        gripper: how the policy says open and closed.
        episodes: stored states of each task that are used, from the first.
        settle_steps: steps of ``settle_action`` before the policy sees anything.
        settle_action: (7,) what is done meanwhile.
        render_px: side of both images; the policy resizes to what it wants.
        rotate: whether both images are turned by 180 degrees.
        environment_seed: of the placement of what the stored states do not hold.
        reseed: when that seed is set: ``task``: once for each task, as published, so that an
            episode depends on how many there were before; ``episode``: before every one.
        rendering: ``always``: at every step, as published; ``on_demand``: when the policy looks.
        policy_seed: of the policy's own draws.
    """

    name: str
    source: str
    max_steps: Mapping[str, int]
    replan: int
    gripper: GripperRule
    episodes: int = 50
    settle_steps: int = 10
    settle_action: tuple[float, ...] = field(default=SETTLE)
    render_px: int = 256
    rotate: bool = True
    environment_seed: int = 0
    reseed: str = TASK
    rendering: str = ALWAYS
    policy_seed: int = 7

    def __post_init__(self) -> None:
        """Check every number."""
        bounds = {"replan": 1, "episodes": 1, "settle_steps": 0, "render_px": 8}
        bounds |= {"environment_seed": 0, "policy_seed": 0}
        for name, least in bounds.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise LiberoError(
                    f"{self.name}: {name} is {value!r}, give a whole number >= {least}"
                )
        choices = {"reseed": (TASK, EPISODE), "rendering": (ALWAYS, ON_DEMAND)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise LiberoError(
                    f"{self.name}: {name} is {getattr(self, name)!r}, give {' or '.join(allowed)}"
                )
        if len(self.settle_action) != len(ACTION_NAMES):
            raise LiberoError(
                f"{self.name}: settle_action has {len(self.settle_action)} numbers, give "
                f"{len(ACTION_NAMES)}: {', '.join(ACTION_NAMES)}"
            )

    @classmethod
    def read(cls, content: Mapping[str, Any], name: str = "") -> Self:
        """Return the protocol that a mapping describes.

        Raises:
            LiberoError: a setting is missing, unknown or out of bounds.
        """
        given = {"name": name, **content}
        known = {one.name for one in fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise LiberoError(f"{name}: there is no setting {unknown[0]!r}; give {sorted(known)}")
        try:
            gripper = GripperRule(**given.pop("gripper"))
            if "settle_action" in given:
                given["settle_action"] = tuple(float(x) for x in given["settle_action"])
            return cls(gripper=gripper, **given)
        except (KeyError, TypeError, ValueError) as error:
            raise LiberoError(
                f"{name}: a setting is missing or of another type: {error}"
            ) from error

    def record(self) -> dict[str, Any]:
        """Return all settings, for a result and for ``read``."""
        return asdict(self)

    def steps_of(self, suite: str) -> int:
        """Return the most steps of an episode.

        Raises:
            LiberoError: the preset does not know the suite.
        """
        if suite not in self.max_steps:
            raise LiberoError(
                f"{self.name} says nothing of {suite}; it has {', '.join(self.max_steps)}"
            )
        return self.max_steps[suite]

    def shown(self, view: View) -> dict[str, np.ndarray]:
        """Return the images as the policy gets them."""
        if not self.rotate:
            return dict(view.images)
        return {camera: turned(image) for camera, image in view.images.items()}
