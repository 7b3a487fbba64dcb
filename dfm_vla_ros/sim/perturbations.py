"""What goes wrong in an evaluation episode: cameras, light, other objects, a push."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import UnknownSetting
from dfm_vla_ros.sim.variation import (
    DEMONSTRATORS,
    KINDS,
    OFF,
    PHRASINGS,
    STANDARD,
    VARIATIONS,
    variation,
)

if TYPE_CHECKING:
    from dfm_vla_ros.sim.twin import Twin


Point = NDArray[np.float64]
Images = dict[str, NDArray[np.uint8]]

NOISE_LEVELS = 20.0
"""Standard deviation of camera noise, of 255."""
CAMERA_OFFSET_M, CAMERA_TURN_RAD = 0.05, 0.07
FREEZE_S = 1.0
PUSH_S, PUSH_LASTS_S, PUSH_M = (0.8, 1.6), 0.2, 0.04
"""When a push begins, before an object is taken; how long it lasts; how far it moves things."""
PUSH_TRIES = 100
OBJECT_GAP_M, POT_GAP_M = 0.12, 0.18
"""Least distance of a distractor's middle from that of an object or of the pot."""


class Perturbation:
    """Changes an episode; this one does nothing. Everything is drawn by the episode's seed."""

    def begin(self, twin: Twin, rng: np.random.Generator) -> None:
        """Change the scene that was just laid out."""

    def step(self, twin: Twin) -> None:
        """Change the scene before a physics step."""

    def see(self, twin: Twin, images: Images) -> Images:
        """Return what the cameras say of ``images``."""
        return images


class CameraNoise(Perturbation):
    """Gaussian noise on every pixel, fresh at each moment."""

    def begin(self, twin: Twin, rng: np.random.Generator) -> None:
        """Draw a seed."""
        self._seed = int(rng.integers(2**32))

    def see(self, twin: Twin, images: Images) -> Images:
        """Add it; the same however often one looks."""
        rng = np.random.default_rng([self._seed, round(twin.time_s / twin.timestep_s)])
        return {
            camera: np.clip(
                image + rng.normal(0.0, NOISE_LEVELS, image.shape).round(), 0, 255
            ).astype(np.uint8)
            for camera, image in images.items()
        }


class MovedCamera(Perturbation):
    """The third camera is elsewhere: 5 cm away and turned by 4 degrees, in any direction."""

    def begin(self, twin: Twin, rng: np.random.Generator) -> None:
        """Move it."""
        offset, turn = (vector / np.linalg.norm(vector) for vector in rng.normal(size=(2, 3)))
        twin.appearance.move_third_camera(CAMERA_OFFSET_M * offset, CAMERA_TURN_RAD * turn)


class Black(Perturbation):
    """A camera sees black."""

    def __init__(self, camera: str) -> None:
        """Black out ``camera``."""
        self._camera = camera

    def see(self, twin: Twin, images: Images) -> Images:
        """Replace its image."""
        return {**images, self._camera: np.zeros_like(images[self._camera])}


class Frozen(Perturbation):
    """A camera repeats what it saw after a second."""

    def __init__(self, camera: str) -> None:
        """Freeze ``camera``."""
        self._camera = camera

    def begin(self, twin: Twin, rng: np.random.Generator) -> None:
        """Forget the last episode's."""
        self._last: NDArray[np.uint8] | None = None

    def step(self, twin: Twin) -> None:
        """Keep the image of that moment."""
        if self._last is None and twin.time_s >= FREEZE_S:
            self._last = twin.image(self._camera)

    def see(self, twin: Twin, images: Images) -> Images:
        """Replace its image."""
        return images if self._last is None else {**images, self._camera: self._last}


class Light(Perturbation):
    """One strong warm light low from any side, and little from everywhere."""

    def begin(self, twin: Twin, rng: np.random.Generator) -> None:
        """Change the lights."""
        azimuth = rng.uniform(-np.pi, np.pi)
        low = np.array([np.cos(azimuth), np.sin(azimuth), -1.0])
        twin.appearance.headlight(ambient=0.2, diffuse=0.1)
        twin.appearance.light(0, low, np.array([0.80, 0.70, 0.50]))
        twin.appearance.light(1, np.array([0.0, 0.0, -1.0]), np.full(3, 0.15))


class Distractors(Perturbation):
    """Objects of the other tasks lie on the table: which the sentence does not mean."""

    def begin(self, twin: Twin, rng: np.random.Generator) -> None:
        """Lay them beside the task's objects."""
        # mujoco loads slowly, and commands that never simulate list the presets.
        from dfm_vla_ros.sim.model import BLOCK_SIDE_M, VEGETABLE_RADIUS_M, VEGETABLES

        scene = twin.scene
        vegetable_wanted = any(scene.on_table(name) for name in VEGETABLES)
        names = ["block", *(() if vegetable_wanted else VEGETABLES)]
        for name in (name for name in names if not scene.on_table(name)):
            height = BLOCK_SIDE_M / 2 if name == "block" else VEGETABLE_RADIUS_M
            place = np.array([*_free_place(twin, rng), height])
            scene.place(name, place, rng.uniform(-np.pi / 2, np.pi / 2))


def _free_place(twin: Twin, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a place (2,) on the table away from all objects."""
    from dfm_vla_ros.sim.model import OBJECTS

    scene = twin.scene
    # mj_forward has not run since the layout: read where objects were put.
    taken = {name: scene.placed(name)[:2] for name in OBJECTS if scene.on_table(name)}
    while True:
        place = rng.uniform((0.24, -0.36), (0.46, 0.36))
        gaps = {name: np.linalg.norm(place - other) for name, other in taken.items()}
        if all(gap > (POT_GAP_M if name == "pot" else OBJECT_GAP_M) for name, gap in gaps.items()):
            return place


class Pushed(Perturbation):
    """The object that is to be taken is pushed 4 cm along the table before it is taken."""

    def begin(self, twin: Twin, rng: np.random.Generator) -> None:
        """Draw when and where to."""
        self._start_s = rng.uniform(*PUSH_S)
        name = twin.task.grasped
        self._shift = PUSH_M * _push_direction(rng, twin.scene.placed(name)[:2], name == "pot")

    def step(self, twin: Twin) -> None:
        """Push a little, unless a hand has it."""
        name = twin.task.grasped
        if not 0 <= twin.time_s - self._start_s < PUSH_LASTS_S or twin.scene.held_by(name):
            return
        twin.scene.shift(name, self._shift * twin.timestep_s / PUSH_LASTS_S)


def _push_direction(rng: np.random.Generator, at: Point, pot: bool) -> Point:
    """Return a unit vector (2,) that leaves an object at ``at`` (2,) where hands reach it."""
    side = 0.0 if pot else np.copysign(1.0, at[1])
    low, high = ((0.25, -0.06), (0.35, 0.06)) if pot else ((0.25, 0.12), (0.43, 0.36))
    for _ in range(PUSH_TRIES):
        angle = rng.uniform(-np.pi, np.pi)
        direction = np.array([np.cos(angle), np.sin(angle)])
        end = at + PUSH_M * direction
        inside = end if pot else np.array([end[0], side * end[1]])
        if ((inside > low) & (inside < high)).all():
            return direction
    # From outside: towards the middle.
    way = np.mean([low, high], axis=0) * (1.0, 1.0 if pot else side) - at
    return way / np.linalg.norm(way)


NONE = "none"
PERTURBATIONS: dict[str, Callable[[], Perturbation]] = {
    NONE: Perturbation,
    "camera_noise": CameraNoise,
    "moved_camera": MovedCamera,
    "left_wrist_black": lambda: Black("left_wrist"),
    "right_wrist_black": lambda: Black("right_wrist"),
    "left_wrist_frozen": lambda: Frozen("left_wrist"),
    "right_wrist_frozen": lambda: Frozen("right_wrist"),
    "light": Light,
    "distractors": Distractors,
    "pushed": Pushed,
}
"""By name."""


def make_perturbation(name: str) -> Perturbation:
    """Return a fresh perturbation; raises UnknownSetting for an unknown name."""
    if name not in PERTURBATIONS:
        raise UnknownSetting(
            f"unknown perturbation {name!r}; there are {', '.join(PERTURBATIONS)}"
        )
    return PERTURBATIONS[name]()


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
