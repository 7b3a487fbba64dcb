"""The robot and its task in simulation: commands in, joint states and images out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.errors import CommandRefused
from dfm_vla_ros.robot.joints import CAMERAS, JOINT_NAMES
from dfm_vla_ros.sim.model import HIDDEN_GROUP, OBJECTS, POSE_NAMES, TIMESTEP_S
from dfm_vla_ros.sim.perturbations import PLAIN_SETTING, Setting, make_perturbation
from dfm_vla_ros.sim.scene import Appearance, Scene
from dfm_vla_ros.sim.tasks import Task, make_task
from dfm_vla_ros.sim.variation import draw, sentence, variation

Array = NDArray[np.float64]

_HOME_ARM = (0.0, 1.455, -0.729, 0.0, 0.931, 0.0, 0.035)
HOME: Array = np.array(_HOME_ARM * 2)
"""Where every episode starts (14,): grippers open over the near table, cameras looking at it."""
HOME.flags.writeable = False

LIMIT_TOLERANCE = 1e-6
LARGEST_IMAGE = (640, 480)
_OBSERVE_STEPS = 10


@dataclass(frozen=True)
class Status:
    """What the twin says of the episode.

    Attributes:
        task: name of the task.
        seed: of the episode.
        instruction: the sentence that is said.
        success: the condition holds, and has held as long as it must.
        progress: 0 (start) to 1 (success).
        elapsed_s: simulated seconds since the reset.
    """

    task: str
    seed: int
    instruction: str
    success: bool
    progress: float
    elapsed_s: float


class Twin:
    """Two arms at a table with the objects of one task.

    The same task, seed and setting give the same episode, to the bit. Rendering must happen in
    one thread.
    """

    timestep_s = TIMESTEP_S
    pose_names = POSE_NAMES
    """Names of what :meth:`poses` returns, such as ``pot.x``; the same for every task."""

    def __init__(
        self, camera_size: tuple[int, int] = (96, 96), setting: Setting = PLAIN_SETTING
    ) -> None:
        """Build the model.

        Args:
            camera_size: (width, height) [px], at most 640x480.
            setting: of the episodes, from the next reset on; :attr:`setting` may be changed.
        """
        if not all(
            16 <= size <= most for size, most in zip(camera_size, LARGEST_IMAGE, strict=True)
        ):
            raise CommandRefused(
                f"camera size {camera_size} is not between (16, 16) and {LARGEST_IMAGE}; "
                "choose width and height [px] in that range"
            )
        self.scene = Scene()
        self.appearance = Appearance(self.scene.model)
        self.setting = setting
        self.camera_size = camera_size
        self.dark_cameras: Collection[str] = ()
        """Cameras that see black: a lost camera, as a test."""
        self._renderer: mujoco.Renderer | None = None
        self._option = mujoco.MjvOption()
        self._option.geomgroup[HIDDEN_GROUP] = 0
        self.reset("place_block", 0)

    def reset(self, task: str, seed: int) -> None:
        """Start an episode: the robot at rest at HOME, the objects laid out by ``seed``."""
        fresh, setting = make_task(task), self.setting
        self.appearance.restore()
        self.scene.reset(HOME)
        varied = variation(setting.variation)
        fresh.lay_out(self.scene, draw(task, seed), varied.layout)
        self.appearance.vary(draw(task, seed, "appearance"), varied)
        self.task: Task = fresh
        self.seed = seed
        self._steps = 0
        self._instruction = sentence(setting.instruction_of or task, setting.phrasing, seed)
        self._perturbation = make_perturbation(setting.perturbation)
        self._perturbation.begin(self, draw(task, seed, "perturbation"))
        mujoco.mj_forward(self.scene.model, self.scene.data)
        self.other = self._other_task()

    def _other_task(self) -> Task | None:
        """Return the task whose sentence is said, if it is not this one and can be done here."""
        name = self.setting.instruction_of
        if not name or name == self.task.name:
            return None
        other = make_task(name)
        return other if other.adopt(self.scene) else None

    def command(self, positions: Array) -> None:
        """Set the position targets (14,) of all joints, until the next command.

        Raises:
            CommandRefused: if a number is not finite or outside the joint's limits.
        """
        positions = np.asarray(positions, dtype=np.float64)
        if positions.shape != (len(JOINT_NAMES),):
            raise CommandRefused(
                f"command of shape {positions.shape}; give {len(JOINT_NAMES)} positions in the "
                "order of robot.joints.JOINT_NAMES"
            )
        lower, upper = self.scene.lower - LIMIT_TOLERANCE, self.scene.upper + LIMIT_TOLERANCE
        # Written so that NaN is refused too.
        refused = ~((positions >= lower) & (positions <= upper))
        if refused.any():
            i = int(np.argmax(refused))
            raise CommandRefused(
                f"command {positions[i]:.4f} for {JOINT_NAMES[i]} is outside "
                f"[{self.scene.lower[i]:.4f}, {self.scene.upper[i]:.4f}]; clip it or plan again"
            )
        self.scene.data.ctrl[:] = positions

    def step(self) -> None:
        """Advance by one physics step, ``timestep_s``."""
        self._perturbation.step(self)
        mujoco.mj_step(self.scene.model, self.scene.data)
        self._steps += 1
        if self._steps % _OBSERVE_STEPS == 0:
            self.task.observe(self.scene)
            if self.other is not None:
                self.other.observe(self.scene)

    @property
    def positions(self) -> Array:
        """Measured joint positions (14,) [rad], grippers [m]."""
        return self.scene.positions

    @property
    def velocities(self) -> Array:
        """Measured joint velocities (14,) [rad/s], grippers [m/s]."""
        return self.scene.velocities

    @property
    def commanded(self) -> Array:
        """The position targets (14,) in force."""
        return self.scene.data.ctrl.copy()

    @property
    def limits(self) -> tuple[Array, Array]:
        """Lower and upper joint limits (14,) of the URDF, which :meth:`command` enforces."""
        return self.scene.lower.copy(), self.scene.upper.copy()

    @property
    def time_s(self) -> float:
        """Simulated seconds since the reset."""
        return float(self._steps * self.timestep_s)

    @property
    def instruction(self) -> str:
        """The sentence that is said: the task's, unless the setting says another."""
        return self._instruction

    def status(self) -> Status:
        """Return success, progress and what they refer to."""
        return Status(
            task=self.task.name,
            seed=self.seed,
            instruction=self.instruction,
            success=self.task.success,
            progress=self.task.progress,
            elapsed_s=self.time_s,
        )

    def poses(self) -> Array:
        """Return where the objects are (P,), in the order of :attr:`pose_names`.

        Five numbers an object: x, y, z [m] in ``base_link``, cosine and sine of its yaw. An
        object that the task does not use has zeros, which cannot be a cosine and a sine.
        """
        return np.concatenate([self.scene.object_pose(name) for name in OBJECTS])

    def render(self) -> dict[str, NDArray[np.uint8]]:
        """Return an image (H, W, 3) of each camera, as the objects stand now."""
        return self._perturbation.see(self, {camera: self.image(camera) for camera in CAMERAS})

    def close(self) -> None:
        """Free the renderer; call it in the thread that rendered."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def image(self, camera: str) -> NDArray[np.uint8]:
        """Return an undisturbed image (H, W, 3) of one camera."""
        width, height = self.camera_size
        if camera in self.dark_cameras:
            return np.zeros((height, width, 3), dtype=np.uint8)
        if self._renderer is None:
            self._renderer = mujoco.Renderer(self.scene.model, height, width)
        self._renderer.update_scene(self.scene.data, camera, self._option)
        # update_scene sets the flags again each time; shadows cost 6x in software.
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        return self._renderer.render()
