"""LIBERO's own environment, driven step by step; runs in the simulator's interpreter.

Run as ``python -m dfm_vla_ros.benchmarks.libero.simulator PACKAGE ASSETS``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from dfm_vla_ros.benchmarks import Array, Images, rebuilt
from dfm_vla_ros.benchmarks.libero import (
    LiberoJob,
    LiberoProtocol,
    read_states,
    state_vector,
    turned,
)
from dfm_vla_ros.benchmarks.libero.scenes import (
    ARM_JOINTS,
    CameraShift,
    LightChange,
    SceneVariation,
)
from dfm_vla_ros.benchmarks.worker import Simulator, serve
from dfm_vla_ros.errors import BenchmarkError

IMAGES = {"agentview": "agentview_image", "eye_in_hand": "robot0_eye_in_hand_image"}
THIRD = "agentview"


class LiberoSimulator(Simulator):
    """One task.

    Rendering on demand draws in the same instant as the simulator would anyway, so the policy
    sees the same pixels: an image belongs to a moment within the step, not to its end.
    """

    FILMED: ClassVar[tuple[str, ...]] = tuple(IMAGES)

    def __init__(self, job: LiberoJob, protocol: LiberoProtocol) -> None:
        """Build the task of the job's bddl file."""
        from libero.libero.envs import OffScreenRenderEnv

        self._protocol, self._variation = (
            protocol,
            rebuilt(SceneVariation, job.variation, camera=CameraShift, light=LightChange),
        )
        self._environment = OffScreenRenderEnv(
            bddl_file_name=job.scene,
            camera_heights=protocol.render_px,
            camera_widths=protocol.render_px,
        )
        self._resets = -1
        self._switch = _Switch()
        self._instruction = job.instruction
        self._seen: Mapping[str, Any] = {}

    def reset(self, job: LiberoJob) -> None:
        """Begin an episode from its stored state, or from whatever the placement draws."""
        self._switch.on, self._instruction = True, job.instruction
        state = _stored_state(job)
        self._place(job.number)
        if self._variation.camera is not None or self._variation.light is not None:
            self._vary(self._environment.sim.model)
        if state is None:
            state = self._environment.get_sim_state()
        size = len(self._environment.get_sim_state())
        if len(state) != size:
            raise BenchmarkError(f"the stored state has {len(state)} numbers, the scene {size}")
        if self._variation.arm_rad:
            state = self._offset(state, job.number)
        self._seen = self._environment.set_init_state(state)
        if not self._protocol.renders_always:
            self._switch.install(self._environment.env)

    def begin(self, task: str) -> str:
        """Return the job's sentence."""
        return self._instruction

    def step(self, action: Array, look: bool) -> bool:
        """Do ``action`` (7,); return whether the task is done."""
        self._switch.on = look
        self._seen, _, done, _ = self._environment.step(action)
        return bool(done)

    def images(self) -> Images:
        """Return what was seen in the last step that was to be looked at."""
        images = {name: np.array(self._seen[key], dtype=np.uint8) for name, key in IMAGES.items()}
        if not self._protocol.rotate:
            return images
        return {name: turned(image) for name, image in images.items()}

    def policy_state(self, names: Sequence[str]) -> tuple[Array, Array]:
        """Return the measured state; actions are steps, so their tokens are relative to 0."""
        parts = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
        position, turn, fingers = (np.array(self._seen[part]) for part in parts)
        return state_vector(position, turn, fingers, names), np.zeros(len(names))

    @property
    def state(self) -> Array:
        """The whole state (N,): time, positions, velocities."""
        return self._environment.get_sim_state()

    def close(self) -> None:
        """Free the renderer."""
        self._environment.close()

    def _place(self, number: int) -> None:
        """Reset as often as the protocol would have by now, since each draws placements."""
        if self._protocol.reseed == "episode":
            self._environment.seed(self._protocol.environment_seed)
            self._environment.reset()
            return
        if not 0 <= self._resets <= number:
            self._environment.seed(self._protocol.environment_seed)
            self._resets = 0
        while self._resets <= number:
            self._environment.reset()
            self._resets += 1

    def _offset(self, state: Array, number: int) -> Array:
        moved = state.copy()
        moved[1 : 1 + ARM_JOINTS] += self._variation.arm_offset(number)
        return moved

    def _vary(self, model: Any) -> None:
        if self._variation.camera is not None:
            camera = model.camera_name2id(THIRD)
            position, quaternion = self._variation.camera.apply(
                model.cam_pos[camera].copy(), model.cam_quat[camera].copy()
            )
            model.cam_pos[camera], model.cam_quat[camera] = position, quaternion
        light = self._variation.light
        if light is not None:
            for part in (model.light_diffuse, model.light_specular, model.light_ambient):
                part[:] *= light.colour
            model.light_pos[:] += light.move
            if light.shadows is not None:
                model.light_castshadow[:] = light.shadows


class _Switch:
    """Puts a switch before the cameras: while it is off they give the image they gave last."""

    def __init__(self) -> None:
        self.on = True

    def install(self, environment: Any) -> None:
        """Switch the cameras of ``environment``, which was just reset."""
        for key in IMAGES.values():
            observable = environment._observables[key]
            # Its own set_sensor draws once more, set_enabled moves the moment of sampling.
            observable._sensor = self._switched(observable._sensor, observable)

    def _switched(self, draw: Callable[..., Any], observable: Any) -> Callable[..., Any]:
        def drawn(cache: Mapping[str, Any]) -> Any:
            return draw(cache) if self.on else observable._current_observed_value

        drawn.__name__, drawn.__modality__ = draw.__name__, "image"
        return drawn


def _stored_state(job: LiberoJob) -> Array | None:
    if not job.states:
        return None
    states = read_states(Path(job.states))
    if not 0 <= job.number < len(states):
        raise BenchmarkError(f"{job.states} has states 0..{len(states) - 1}, not {job.number}")
    return states[job.number]


def start() -> tuple[type[LiberoSimulator], dict[str, str]]:
    """Say where LIBERO's files are, before it is imported.

    Without this its first import asks on the terminal, and its first scene fetches assets.
    """
    package, assets = Path(sys.argv[1]), sys.argv[2]
    folder = Path(tempfile.mkdtemp(prefix="libero_config_"))
    paths = {
        "benchmark_root": package,
        "bddl_files": package / "bddl_files",
        "init_states": package / "init_files",
        "datasets": package.parent / "datasets",
        "assets": assets,
    }
    # YAML reads JSON.
    (folder / "config.yaml").write_text(json.dumps(paths, default=str), encoding="utf-8")
    os.environ["LIBERO_CONFIG_PATH"] = str(folder)
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("MUJOCO_GL", "egl")
    import libero.libero

    libero.libero._assets_path_cache = assets
    return LiberoSimulator, {"MUJOCO_GL": os.environ["MUJOCO_GL"]}


if __name__ == "__main__":
    serve(LiberoProtocol, LiberoJob, start, ("hf-libero", "robosuite", "mujoco", "numpy"))
