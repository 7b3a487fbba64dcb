"""Under which conditions episodes run; the plain setting changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from dfm_vla_ros.sim.errors import UnknownSetting
from dfm_vla_ros.sim.instructions import KINDS, PHRASINGS, STANDARD
from dfm_vla_ros.sim.perturbations import NONE, make_perturbation
from dfm_vla_ros.sim.variation import OFF, variation


@dataclass(frozen=True)
class Setting:
    """Conditions of the twin's episodes.

    Attributes:
        variation: name in ``sim.variation.VARIATIONS``.
        phrasing: which sentences: ``standard``, ``train`` or ``held_out``.
        perturbation: name in ``sim.perturbations.PERTURBATIONS``.
        instruction_of: another task, whose sentence is said instead of the scene's; "": none.
    """

    variation: str = OFF
    phrasing: str = STANDARD
    perturbation: str = NONE
    instruction_of: str = ""

    def __post_init__(self) -> None:
        """Raise UnknownSetting for a name that is none."""
        variation(self.variation)
        make_perturbation(self.perturbation)
        if self.phrasing not in KINDS:
            raise UnknownSetting(f"unknown phrasing {self.phrasing!r}; there are {KINDS}")
        if self.instruction_of and self.instruction_of not in PHRASINGS:
            raise UnknownSetting(
                f"unknown task {self.instruction_of!r} in instruction_of; there are "
                f"{', '.join(PHRASINGS)}"
            )


PLAIN_SETTING = Setting()
