"""LIBERO's own environment, driven step by step; runs in the simulator's interpreter."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.benchmarks.libero.actions import View
from dfm_vla_ros.benchmarks.libero.errors import LiberoError
from dfm_vla_ros.benchmarks.libero.protocol import ALWAYS, TASK, Protocol
from dfm_vla_ros.benchmarks.libero.variation import ARM_JOINTS, Variation

Array = NDArray[np.float64]
IMAGES = {"agentview": "agentview_image", "eye_in_hand": "robot0_eye_in_hand_image"}
THIRD = "agentview"


def configure(package: Path, assets: Path) -> None:
    """Say where LIBERO's files are, before it is imported.

    Without this its first import asks on the terminal, and its first scene fetches assets.
    """
    folder = Path(tempfile.mkdtemp(prefix="libero_config_"))
    paths = {
        "benchmark_root": package,
        "bddl_files": package / "bddl_files",
        "init_states": package / "init_files",
        "datasets": package.parent / "datasets",
        "assets": assets,
    }
    # YAML reads JSON.
    content = json.dumps({name: str(path) for name, path in paths.items()})
    (folder / "config.yaml").write_text(content, encoding="utf-8")
    os.environ["LIBERO_CONFIG_PATH"] = str(folder)
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("MUJOCO_GL", "egl")
    import libero.libero

    libero.libero._assets_path_cache = str(assets)


class LiberoSimulator:
    """One task.

    Rendering on demand draws in the same instant as the simulator would anyway, so the policy
    sees the same pixels: an image belongs to a moment within the step, not to its end.
    """

    def __init__(self, scene: Path, protocol: Protocol, variation: Variation) -> None:
        """Build the task of the bddl file ``scene``."""
        from libero.libero.envs import OffScreenRenderEnv

        self._protocol, self._variation = protocol, variation
        self._environment = OffScreenRenderEnv(
            bddl_file_name=str(scene),
            camera_heights=protocol.render_px,
            camera_widths=protocol.render_px,
        )
        self._resets = -1
        self._switch = _Switch()
        self._seen: Mapping[str, Any] = {}

    def reset(self, state: Array | None, number: int) -> None:
        """Begin an episode.

        Args:
            state: stored, (N,); None: whatever the placement draws.
            number: how many episodes of this task the protocol has before it.

        Raises:
            LiberoError: the state is not of this scene.
        """
        self._switch.on = True
        self._place(number)
        simulation = self._environment.sim
        if self._variation.camera is not None or self._variation.light is not None:
            self._vary(simulation.model)
        if state is None:
            state = self._environment.get_sim_state()
        size = len(self._environment.get_sim_state())
        if len(state) != size:
            raise LiberoError(f"the stored state has {len(state)} numbers, the scene {size}")
        if self._variation.arm_rad:
            state = self._offset(state, number)
        self._seen = self._environment.set_init_state(state)
        if self._protocol.rendering != ALWAYS:
            self._switch.install(self._environment.env)

    def step(self, action: Array, look: bool) -> bool:
        """Do ``action`` (7,); return whether the task is done."""
        self._switch.on = look
        self._seen, _, done, _ = self._environment.step(action)
        return bool(done)

    def view(self) -> View:
        """Return what was seen in the last step that was to be looked at."""
        seen = self._seen
        return View(
            {name: np.array(seen[key], dtype=np.uint8) for name, key in IMAGES.items()},
            np.array(seen["robot0_eef_pos"]),
            np.array(seen["robot0_eef_quat"]),
            np.array(seen["robot0_gripper_qpos"]),
        )

    @property
    def state(self) -> Array:
        """The whole state (N,): time, positions, velocities."""
        return self._environment.get_sim_state()

    @property
    def environment(self) -> Any:
        """LIBERO's environment."""
        return self._environment

    def close(self) -> None:
        """Free the renderer."""
        self._environment.close()

    def _place(self, number: int) -> None:
        """Reset as often as the protocol would have by now, since each draws placements."""
        if self._protocol.reseed != TASK:
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
