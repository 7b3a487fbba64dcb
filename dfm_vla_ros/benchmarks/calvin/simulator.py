"""calvin_env, by path, driven step by step; runs in the interpreter that has PyBullet.

Composes the settings of ``conf/`` itself: the official way reads them from a data set's folder.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.benchmarks.calvin.oracle import World
from dfm_vla_ros.benchmarks.calvin.protocol import ABSOLUTE, ALWAYS, EGL, Protocol
from dfm_vla_ros.errors import CalvinError

Array = NDArray[np.float64]
NEEDED = (
    "calvin_env/envs/play_table_env.py",
    "conf/robot/panda_longer_finger.yaml",
    "data/franka_panda/panda_longer_finger.urdf",
)


@dataclass(frozen=True)
class View:
    """What a policy may see of one moment.

    Attributes:
        images: ``static`` and ``gripper``, (H, W, 3) uint8 RGB.
        robot: ``robot_obs`` (15,).
        pose: (6,) commanded to the hand [m, rad].
    """

    images: dict[str, NDArray[np.uint8]]
    robot: Array
    pose: Array


def check_folder(folder: Path, scene: str) -> None:
    """Raise CalvinError unless ``folder`` is a checkout of calvin_env that has ``scene``."""
    for name in (*NEEDED, f"conf/scene/{scene}.yaml"):
        if not (folder / name).is_file():
            raise CalvinError(
                f"{folder} lacks {name}: let CALVIN_ENV name a checkout of "
                "github.com/mees/calvin_env (31 MB, with its data folder)"
            )


class CalvinSimulator:
    """The table, the robot and three blocks."""

    def __init__(self, folder: Path, protocol: Protocol) -> None:
        """Build the scene.

        Raises:
            CalvinError: ``folder`` is no checkout of calvin_env.
        """
        check_folder(folder, protocol.scene)
        sys.path.insert(0, str(folder))
        import hydra
        from calvin_env.envs import play_table_env

        # why: it asks git for the commit to log it, and fails where there is none
        play_table_env.get_git_commit_hash = lambda _: "not asked"
        settings = _settings(folder, protocol)
        self._environment = hydra.utils.instantiate(settings.env)
        self._cameras = self._environment.cameras
        self._absolute = protocol.actions == ABSOLUTE
        self._always = protocol.rendering == ALWAYS
        self._images: dict[str, NDArray[np.uint8]] = {}

    def reset(self, robot: Array, scene: Array) -> None:
        """Put robot (15,) and scene (24,) where they say; step the physics once, as published."""
        self._images = _images(self._environment.reset(robot_obs=robot, scene_obs=scene))

    def step(self, action: Array) -> World:
        """Do ``action`` (7,) for one control period, 8 steps of the physics."""
        self._environment.cameras = self._cameras if self._always else []
        seen, _, _, info = self._environment.step(self._given(action))
        self._environment.cameras = self._cameras
        self._images = _images(seen)
        return World.read(info)

    def world(self) -> World:
        """Return where everything is."""
        return World.read(self._environment.get_info())

    def view(self) -> View:
        """Return what there is to see now."""
        if not self._images:
            self._images = _images({"rgb_obs": self._environment.get_camera_obs()[0]})
        robot = self._environment.robot
        pose = np.concatenate([robot.target_pos, robot.target_orn])
        return View(self._images, self.state[0], pose)

    @property
    def state(self) -> tuple[Array, Array]:
        """``robot_obs`` (15,) and ``scene_obs`` (24,)."""
        seen = self._environment.get_state_obs()
        return np.array(seen["robot_obs"], dtype=np.float64), np.array(seen["scene_obs"])

    @property
    def environment(self) -> Any:
        """calvin_env's environment."""
        return self._environment

    def close(self) -> None:
        """Disconnect from the physics."""
        self._environment.close()
        # why: when it is collected it would disconnect whoever has its number by then
        self._environment.ownsPhysicsClient = False

    def _given(self, action: Array) -> Any:
        if not self._absolute:
            return action
        robot = self._environment.robot
        # why: an absolute action leaves them, and the next view shows what is commanded
        robot.target_pos, robot.target_orn = action[:3].copy(), action[3:6].copy()
        return action[:3], action[3:6], action[6:]


def _images(seen: Any) -> dict[str, NDArray[np.uint8]]:
    found = {name.removeprefix("rgb_"): image for name, image in seen["rgb_obs"].items()}
    return {name: np.array(image, dtype=np.uint8) for name, image in found.items()}


def _settings(folder: Path, protocol: Protocol) -> Any:
    from omegaconf import OmegaConf

    conf = folder / "conf"
    cameras = {
        name: OmegaConf.load(conf / f"cameras/cameras/{name}.yaml") for name in _sizes(protocol)
    }
    for name, pixels in _sizes(protocol).items():
        cameras[name].update(width=pixels, height=pixels)
    finger = OmegaConf.load(conf / "robot/panda_longer_finger.yaml")
    del finger["defaults"]
    settings = OmegaConf.create(
        {
            "use_vr": False,
            "data_path": "data",
            "cameras": cameras,
            "scene": OmegaConf.load(conf / f"scene/{protocol.scene}.yaml"),
            "robot": OmegaConf.merge(OmegaConf.load(conf / "robot/panda.yaml"), finger),
            "env": OmegaConf.load(conf / "env/play_table_env.yaml"),
        }
    )
    settings.env.use_scene_info = True
    settings.env.use_egl = protocol.renderer == EGL
    return settings


def _sizes(protocol: Protocol) -> dict[str, int]:
    return {"static": protocol.static_px, "gripper": protocol.gripper_px}
