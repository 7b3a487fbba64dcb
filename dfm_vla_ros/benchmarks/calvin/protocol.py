"""How an evaluation is done, all of it explicit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from dfm_vla_ros.benchmarks.calvin.actions import ABSOLUTE, RELATIVE, GripperRule
from dfm_vla_ros.benchmarks.calvin.errors import CalvinError

ALWAYS, ON_DEMAND = "always", "on_demand"
EGL, TINY = "egl", "tiny"


@dataclass(frozen=True)
class Protocol:
    """The settings of an evaluation.

    Attributes:
        name: of the preset.
        source: where the numbers come from.
        steps: most steps of a task, at 30 Hz; not done by then is a failure and ends the chain.
        replan: steps of a chunk that are executed before the next; 0: as the policy says.
        actions: ``relative`` or ``absolute``, what the policy gives.
        gripper: how the policy says open and closed.
        scene: of calvin_env's ``conf/scene``.
        static_px, gripper_px: sides of both images; the policy resizes to what it wants.
        renderer: ``egl`` as published, or ``tiny``, on the processor: other shadows.
        rendering: ``always``: at every step, as published; ``on_demand``: when the policy looks.
        policy_seed: of the policy's own draws.
    """

    name: str = "official"
    source: str = "github.com/mees/calvin, evaluation/evaluate_policy.py"
    steps: int = 360
    replan: int = 0
    actions: str = RELATIVE
    gripper: GripperRule = field(default_factory=GripperRule)
    scene: str = "calvin_scene_D"
    static_px: int = 200
    gripper_px: int = 84
    renderer: str = EGL
    rendering: str = ALWAYS
    policy_seed: int = 0

    def __post_init__(self) -> None:
        """Check every setting."""
        bounds = {"steps": 1, "replan": 0, "static_px": 8, "gripper_px": 8, "policy_seed": 0}
        for name, least in bounds.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise CalvinError(
                    f"{self.name}: {name} is {value!r}, give a whole number >= {least}"
                )
        choices = {
            "actions": (RELATIVE, ABSOLUTE),
            "renderer": (EGL, TINY),
            "rendering": (ALWAYS, ON_DEMAND),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise CalvinError(
                    f"{self.name}: {name} is {getattr(self, name)!r}, give {' or '.join(allowed)}"
                )

    @classmethod
    def read(cls, content: Mapping[str, Any], name: str) -> Self:
        """Return the protocol that a mapping describes.

        Raises:
            CalvinError: a setting is unknown, of another type or out of bounds.
        """
        given = {"name": name, **content}
        known = [one.name for one in fields(cls)]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise CalvinError(f"{name}: there is no setting {unknown[0]!r}; give {known}")
        try:
            return cls(**given | {"gripper": GripperRule(**given.get("gripper", {}))})
        except TypeError as error:
            raise CalvinError(f"{name}: a setting is of another type: {error}") from error

    def record(self) -> dict[str, Any]:
        """Return all settings, for a result and for ``read``."""
        return asdict(self)
