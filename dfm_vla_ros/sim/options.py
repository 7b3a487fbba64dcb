"""Arguments of the commands that run the twin: what varies, which sentences, who demonstrates."""

from __future__ import annotations

import argparse

from dfm_vla_ros.sim.instructions import KINDS, PHRASINGS, STANDARD
from dfm_vla_ros.sim.perturbations import NONE, PERTURBATIONS
from dfm_vla_ros.sim.setting import Setting
from dfm_vla_ros.sim.styles import DEMONSTRATORS
from dfm_vla_ros.sim.variation import OFF, VARIATIONS


def add_variation(parser: argparse.ArgumentParser) -> None:
    """Add ``--variation``."""
    parser.add_argument(
        "--variation",
        choices=tuple(VARIATIONS),
        default=OFF,
        help="what differs between episodes beside the plain layouts: more places (layout), "
        "only those that either arm reaches (middle), also light, colours, textures and cameras "
        "(wide)",
    )


def add_phrasing(parser: argparse.ArgumentParser, *kinds: str) -> None:
    """Add ``--phrasing`` with all kinds of sentences, or those named."""
    parser.add_argument(
        "--phrasing",
        choices=kinds or KINDS,
        default=STANDARD,
        help="the task's sentence, or one drawn by the seed from those of a kind",
    )


def add_modes(parser: argparse.ArgumentParser) -> None:
    """Add ``--modes``."""
    parser.add_argument(
        "--modes",
        choices=tuple(DEMONSTRATORS),
        default="one",
        help="one way to do a task; several, drawn by the seed (arm, grasp, order, pace); or "
        "that of a slower demonstrator",
    )


def add_perturbation(parser: argparse.ArgumentParser) -> None:
    """Add ``--perturb`` and ``--instruction-of``."""
    parser.add_argument(
        "--perturb",
        choices=tuple(PERTURBATIONS),
        default=NONE,
        help="what goes wrong in every episode",
    )
    parser.add_argument(
        "--instruction-of",
        choices=tuple(PHRASINGS),
        default="",
        help="say this task's sentence instead, and count what is done",
    )


def setting(options: argparse.Namespace) -> Setting:
    """Return what the arguments say; those a command lacks are plain."""
    return Setting(
        options.variation,
        options.phrasing,
        getattr(options, "perturb", NONE),
        getattr(options, "instruction_of", ""),
    )
