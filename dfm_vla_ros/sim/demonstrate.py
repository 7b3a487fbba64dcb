"""Play the expert in the twin, with noise on what is executed, and record a demonstration."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from dfm_vla_ros.data.format import DatasetSpec, Episode
from dfm_vla_ros.robot.joints import CAMERAS, JOINT_NAMES
from dfm_vla_ros.sim.experts import CONTROL_PERIOD_S, styled_targets
from dfm_vla_ros.sim.twin import HOME, Twin
from dfm_vla_ros.sim.variation import DEMONSTRATORS, Demonstrator

Array = NDArray[np.float64]

NOISE_TIME_S = 0.5
"""Correlation time of the executed noise."""
SETTLE_S = 1.0
"""How long success may still come after the last target."""
CAMERA_SIZE = (96, 96)
"""Width and height of the images of a demonstration [px]."""
_IS_GRIPPER = np.array([name.endswith("gripper") for name in JOINT_NAMES])


def demonstrate(
    twin: Twin,
    task: str,
    seed: int,
    noise_rad: float,
    images: bool = True,
    demonstrator: Demonstrator = DEMONSTRATORS["one"],
) -> Episode:
    """Reset the twin and record the expert's episode; commands are executed with noise.

    The noise shows states beside the expert's path; the labels stay clean, for both arms.

    Raises:
        OutOfReach: if the expert cannot reach a waypoint of this layout.
    """
    twin.reset(task, seed)
    clean, style = styled_targets(task, twin, demonstrator)
    targets = np.concatenate([HOME[None], clean])
    noisy = np.clip(
        targets + correlated_noise(len(targets), noise_rad, seed),
        twin.scene.lower,
        twin.scene.upper,
    )
    positions, poses, frames = _execute(twin, noisy, images)
    return Episode(
        images=frames,
        positions=positions,
        commanded=noisy,
        targets=targets,
        task=task,
        seed=seed,
        instruction=twin.instruction,
        success=_settle(twin),
        period_s=CONTROL_PERIOD_S,
        poses=poses,
        pose_names=twin.pose_names,
        style=str(style),
    )


def demonstration_spec(images: bool = True) -> DatasetSpec:
    """Return what all demonstrations have in common, with or without images."""
    width, height = CAMERA_SIZE
    cameras = dict.fromkeys(CAMERAS if images else (), (height, width))
    return DatasetSpec(cameras, CONTROL_PERIOD_S, pose_names=Twin.pose_names)


def correlated_noise(length: int, largest_rad: float, seed: int) -> Array:
    """Return noise (length, 14) on the arm joints: zero first, none on the grippers.

    An Ornstein-Uhlenbeck process of deviation ``largest_rad / 2``, clipped to ``largest_rad``.
    """
    rng = np.random.default_rng([seed, 1])
    keep = np.exp(-CONTROL_PERIOD_S / NOISE_TIME_S)
    noise = np.zeros((length, len(JOINT_NAMES)))
    for i in range(1, length):
        fresh = rng.normal(0.0, largest_rad / 2, len(JOINT_NAMES))
        noise[i] = keep * noise[i - 1] + np.sqrt(1 - keep**2) * fresh
    noise[:, _IS_GRIPPER] = 0.0
    return np.clip(noise, -largest_rad, largest_rad)


def _execute(
    twin: Twin, targets: Array, images: bool
) -> tuple[Array, Array, dict[str, NDArray[np.uint8]]]:
    """Run a C2 spline through the targets, at rest at both ends, as the executor does.

    Returns:
        Measured positions (T, 14), poses of the objects (T, P) and, if wanted, camera ->
        images (T, H, W, 3).
    """
    positions, poses, frames = [], [], []
    for commands in _spline_commands(twin, targets):
        positions.append(twin.positions)
        poses.append(twin.poses())
        if images:
            frames.append(twin.render())
        for command in commands:
            twin.command(command)
            twin.step()
    cameras = CAMERAS if images else ()
    views = {camera: np.array([frame[camera] for frame in frames]) for camera in cameras}
    return np.array(positions), np.array(poses), views


def _spline_commands(twin: Twin, targets: Array) -> list[Array]:
    """Return the commands (steps, 14) between each frame and the next; none after the last."""
    times = np.arange(len(targets)) * CONTROL_PERIOD_S
    steps = round(CONTROL_PERIOD_S / twin.timestep_s)
    spline = CubicSpline(times, targets, bc_type="clamped")
    fine = spline(np.arange(1, (len(targets) - 1) * steps + 1) * twin.timestep_s)
    fine = np.clip(fine, twin.scene.lower, twin.scene.upper)
    return [*fine.reshape(-1, steps, len(JOINT_NAMES)), np.empty((0, len(JOINT_NAMES)))]


def _settle(twin: Twin) -> bool:
    """Hold the last command until the task counts as done, or :data:`SETTLE_S` are over."""
    for _ in range(round(SETTLE_S / twin.timestep_s)):
        if twin.status().success:
            break
        twin.step()
    return twin.status().success
