"""calvin_env, by path, driven step by step; runs in the interpreter that has PyBullet.

Run as ``python -m dfm_vla_ros.benchmarks.calvin.simulator CALVIN_ENV``. Composes the settings of
``conf/`` itself: the official way reads them from a data set's folder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dfm_vla_ros.benchmarks import Array, Images
from dfm_vla_ros.benchmarks.calvin import (
    CalvinJob,
    CalvinProtocol,
    commanded,
    measured,
)
from dfm_vla_ros.benchmarks.calvin.oracle import CHECKS, World
from dfm_vla_ros.benchmarks.calvin.tasks import ROBOT, TASKS, scene_of
from dfm_vla_ros.benchmarks.worker import Simulator, serve
from dfm_vla_ros.errors import BenchmarkError

NEEDED = (
    "calvin_env/envs/play_table_env.py",
    "conf/robot/panda_longer_finger.yaml",
    "data/franka_panda/panda_longer_finger.urdf",
)


def check_folder(folder: Path, scene: str) -> None:
    """Raise BenchmarkError unless ``folder`` is a checkout of calvin_env that has ``scene``."""
    for name in (*NEEDED, f"conf/scene/{scene}.yaml"):
        if not (folder / name).is_file():
            raise BenchmarkError(
                f"{folder} lacks {name}: let CALVIN_ENV name a checkout of "
                "github.com/mees/calvin_env (31 MB, with its data folder)"
            )


class CalvinSimulator(Simulator):
    """The table, the robot and three blocks."""

    FILMED: ClassVar[tuple[str, ...]] = ("static",)

    def __init__(self, folder: Path, job: CalvinJob, protocol: CalvinProtocol) -> None:
        """Build the scene."""
        check_folder(folder, protocol.scene)
        sys.path.insert(0, str(folder))
        import hydra
        from calvin_env.envs import play_table_env

        # why: it asks git for the commit to log it, and fails where there is none
        play_table_env.get_git_commit_hash = lambda _: "not asked"
        settings = _settings(folder, protocol)
        self._environment = hydra.utils.instantiate(settings.env)
        self._cameras = self._environment.cameras
        self._absolute = protocol.actions == "absolute"
        self._gripper = protocol.gripper
        self._images: Images = {}
        self._always = protocol.renders_always

    def reset(self, job: CalvinJob) -> None:
        """Put robot and scene where the job's state says; steps the physics once, as published."""
        seen = self._environment.reset(robot_obs=ROBOT.copy(), scene_obs=scene_of(job.state))
        self._images = _images(seen)

    def begin(self, task: str) -> str:
        """Remember where everything is, from which the task's success is judged."""
        self._task, self._start = task, World(self._environment.get_info())
        return TASKS[task].sentence

    def step(self, action: Array, look: bool) -> bool:
        """Do ``action`` (7,) for one control period, 8 steps of the physics."""
        self._environment.cameras = self._cameras if self._always else []
        seen, _, _, info = self._environment.step(self._given(action))
        self._environment.cameras = self._cameras
        self._images = _images(seen)
        return CHECKS[self._task](self._start, World(info))

    def images(self) -> Images:
        """Return what there is to see now."""
        if not self._images:
            self._images = _images({"rgb_obs": self._environment.get_camera_obs()[0]})
        return self._images

    def policy_state(self, names: Sequence[str]) -> tuple[Array, Array]:
        """Return the measured and the commanded state."""
        robot, hand = self.state[: len(ROBOT)], self._environment.robot
        pose = np.concatenate([hand.target_pos, hand.target_orn])
        target = commanded(pose, robot, len(names), self._gripper)
        return measured(robot, len(names)), target

    @property
    def state(self) -> Array:
        """``robot_obs`` (15,) and ``scene_obs`` (24,)."""
        seen = self._environment.get_state_obs()
        return np.concatenate([seen["robot_obs"], seen["scene_obs"]], dtype=np.float64)

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


def _images(seen: Any) -> Images:
    found = {name.removeprefix("rgb_"): image for name, image in seen["rgb_obs"].items()}
    return {name: np.array(image, dtype=np.uint8) for name, image in found.items()}


def _settings(folder: Path, protocol: CalvinProtocol) -> Any:
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
    settings.env.use_egl = protocol.renderer == "egl"
    return settings


def _sizes(protocol: CalvinProtocol) -> dict[str, int]:
    return {"static": protocol.static_px, "gripper": protocol.gripper_px}


def commit(folder: Path) -> str:
    """Return the commit that is checked out in ``folder``, "unknown" if nothing says it."""
    try:
        head = (folder / ".git/HEAD").read_text(encoding="utf-8").strip()
        name = head.removeprefix("ref: ")
        return head if name == head else (folder / ".git" / name).read_text("utf-8").strip()
    except OSError:
        return "unknown"


def start() -> tuple[Callable[[CalvinJob, CalvinProtocol], CalvinSimulator], dict[str, str]]:
    """Return what builds the scene of the checkout that the command names, and its commit."""
    folder = Path(sys.argv[1])
    return partial(CalvinSimulator, folder), {"calvin_env": commit(folder)}


if __name__ == "__main__":
    serve(CalvinProtocol, CalvinJob, start, ("pybullet", "numpy", "hydra-core"))
