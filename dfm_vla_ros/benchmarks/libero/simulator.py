"""LIBERO's own environment, driven step by step; runs in the simulator's interpreter."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.benchmarks.libero.protocol import ALWAYS, TASK, Protocol, View, commands
from dfm_vla_ros.benchmarks.libero.variation import ARM_JOINTS, Variation
from dfm_vla_ros.errors import LiberoError

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


Act = Callable[[View, int], Array]
"""Takes a view, with its images as the policy gets them, and the number of the call; returns the
policy's actions (T, 7)."""
Watch = Callable[[View], None]


class Simulator(Interface):
    """What an episode needs of the simulator."""

    def step(self, action: Array, look: bool) -> bool:
        """Do ``action`` (7,); return whether the task is done.

        ``look``: whether ``view`` will be asked for afterwards.
        """

    def view(self) -> View:
        """Return what was seen in the last step, or the reset."""


@dataclass(frozen=True)
class Outcome:
    """How an episode went.

    Attributes:
        success: done within the steps.
        steps: after settling.
        calls: of the policy.
        policy_s: time in these calls [s].
        seconds: time of all [s].
        actions: (steps, 7) what the simulator was told after settling.
    """

    success: bool
    steps: int
    calls: int
    policy_s: float
    seconds: float
    actions: Array


def run_episode(
    simulator: Simulator,
    act: Act,
    protocol: Protocol,
    suite: str,
    watch: Watch | None = None,
) -> Outcome:
    """Settle, then act until the task is done or the steps are used up.

    ``simulator`` was just reset. What is done while settling does not count, as published.

    Raises:
        LiberoError: the suite is not in the protocol, or a chunk is too short or misshapen.
    """
    began, most = time.perf_counter(), protocol.steps_of(suite)
    _settle(simulator, protocol)
    chunks = _Chunks(simulator, act, protocol, watch)
    done: list[Array] = []
    success = False
    while len(done) < most and not success:
        action, last = chunks.next()
        success = simulator.step(action, last or protocol.rendering == ALWAYS)
        done.append(action)
    seconds = time.perf_counter() - began
    actions = np.array(done).reshape(-1, len(protocol.settle_action))
    return Outcome(success, len(done), chunks.calls, chunks.policy_s, seconds, actions)


def _settle(simulator: Simulator, protocol: Protocol) -> None:
    action = np.array(protocol.settle_action)
    for left in range(protocol.settle_steps, 0, -1):
        simulator.step(action, left == 1 or protocol.rendering == ALWAYS)


class _Chunks:
    """Asks the policy whenever a plan is used up."""

    def __init__(
        self, simulator: Simulator, act: Act, protocol: Protocol, watch: Watch | None
    ) -> None:
        self._simulator, self._act, self._protocol = simulator, act, protocol
        self._watch = watch
        self._plan: deque[Array] = deque()
        self.calls, self.policy_s = 0, 0.0

    def next(self) -> tuple[Array, bool]:
        """Return the next action (7,), and whether the policy looks after it."""
        if not self._plan:
            self._plan.extend(self._ask())
        elif self._watch is not None and self._protocol.rendering == ALWAYS:
            self._watch(self._seen())
        return self._plan.popleft(), not self._plan

    def _seen(self) -> View:
        view = self._simulator.view()
        shown = self._protocol.shown(view)
        return View(shown, view.position, view.quaternion, view.fingers)

    def _ask(self) -> Array:
        view, replan = self._seen(), self._protocol.replan
        if self._watch is not None:
            self._watch(view)
        began = time.perf_counter()
        chunk = commands(self._act(view, self.calls), self._protocol.gripper)
        self.policy_s += time.perf_counter() - began
        self.calls += 1
        if len(chunk) < replan:
            raise LiberoError(
                f"the policy gives {len(chunk)} steps, {self._protocol.name} executes {replan} "
                f"before it asks again: give --replan {len(chunk)} or less"
            )
        return chunk[:replan]
