"""A replay made up from sines, and ways to break it as a robot's set-up can be broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.report.content import (
    EpisodeRow,
    EvaluationRun,
    Film,
    FilmEncoder,
    Gap,
    Picture,
    PredictedChunk,
    Reference,
    Refinement,
    ReplayRun,
    Source,
    TaskRow,
)

ARMS = ("left", "right")
JOINTS = tuple(
    f"{arm}_{joint}" for arm in ARMS for joint in (*(f"joint{i}" for i in range(1, 7)), "gripper")
)
UNITS = tuple("m" if name.endswith("gripper") else "rad" for name in JOINTS)
CAMERAS = ("third", "left_wrist", "right_wrist")
HORIZON, STEPS, PERIOD_S, RATE_HZ = 8, 16, 0.1, 20
LOWER = np.array([0.0 if unit == "m" else -3.0 for unit in UNITS])
UPPER = np.array([0.035 if unit == "m" else 3.0 for unit in UNITS])

Image = NDArray[np.uint8]
T = TypeVar("T")


def motion(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what is commanded (*times_s.shape, 14): each joint about a rest of its own."""
    joints = np.arange(len(JOINTS))
    rest = np.where(np.array(UNITS) == "m", 0.0175, 0.25 * (joints - 6))
    size = np.where(np.array(UNITS) == "m", 0.015, 0.3)
    return rest + size * np.sin(times_s[..., None] * (0.5 + 0.1 * joints) + joints)


def scenes(time_s: float, size: int = 96) -> dict[str, Image]:
    """Return three views that differ in colour and shape, with something that moves."""
    y, x = np.mgrid[0:size, 0:size] / size
    views, block = {}, np.ones((size // 12, size // 12, 1))
    for number, camera in enumerate(CAMERAS):
        base = np.stack([0.7 - 0.2 * number + 0 * x, 0.3 + 0.2 * number * y, 0.15 + 0.1 * x], -1)
        spot = (x - 0.5 - 0.2 * np.sin(time_s)) ** 2 + (y - 0.2 - 0.3 * number) ** 2 < 0.02
        base[spot] = (0.1, 0.2 + 0.3 * number, 0.8)
        base += np.kron(np.random.default_rng(number).uniform(-0.15, 0.15, (12, 12, 3)), block)
        stripe = np.abs(x - 0.25 * (number + 1)) < 0.04
        base[stripe] = (0.9, 0.9, 0.2)
        views[camera] = np.round(255 * base.clip(0, 1)).astype(np.uint8)
    return views


def refinement(rng: np.random.Generator, targets: NDArray[np.float64]) -> Refinement:
    """Return tokens that settle from noise on their last values."""
    count = targets.size
    final = rng.integers(100, 156, count)
    noise = rng.integers(0, 256, count)
    when = rng.integers(1, STEPS - 1, count)
    settled = np.arange(STEPS)[:, None] >= when
    tokens = np.where(settled, final, noise)
    before = np.vstack([noise, tokens[:-1]])
    share = np.arange(1, STEPS + 1) / STEPS
    paths = targets + 0.1 * (1 - share)[:, None, None] * rng.standard_normal(targets.shape)
    return Refinement(
        kinds=("refinement",) * (STEPS - 2) + ("validation",) * 2,
        times=np.arange(STEPS) / STEPS,
        tokens=tokens,
        targets=np.broadcast_to(final, tokens.shape),
        jumped=tokens != before,
        confidence=np.clip(share[:, None] * rng.uniform(0.6, 1.0, tokens.shape), 0, 1),
        committed=np.arange(count) < 28,
        paths=paths,
    )


def film(duration_s: float, size: int = 96) -> Film:
    """Return what the cameras saw."""
    encoder = FilmEncoder(RATE_HZ, "third, left wrist, right wrist")
    for frame in range(round(duration_s * RATE_HZ)):
        encoder.add(scenes(frame / RATE_HZ, size))
    made = encoder.finish()
    assert made is not None
    return made


def run(
    name: str = "good", duration_s: float = 6.0, noise: float = 0.01, seed: int = 0
) -> ReplayRun:
    """Return a run whose predictions are the motion with noise that grows along the chunk."""
    rng = np.random.default_rng(seed)
    times_s = np.arange(0, duration_s, 1 / RATE_HZ)
    commanded = motion(times_s)
    chunks = []
    for time_s in np.arange(0, duration_s - 0.2, 0.4):
        due_s = time_s + PERIOD_S * np.arange(1, HORIZON + 1)
        growth = noise * np.linspace(0.5, 2, HORIZON)[:, None] * (UPPER - LOWER) / 6
        targets = motion(due_s) + growth * rng.standard_normal((HORIZON, len(JOINTS)))
        pictures = {camera: Picture.of(image) for camera, image in scenes(time_s).items()}
        took_s = 0.06 + 0.01 * float(rng.uniform())
        chunks.append(PredictedChunk(time_s, targets, took_s, refinement(rng, targets), pictures))
    chunks[3] = replace(chunks[3], refused="JOINT_LIMIT")
    return ReplayRun(
        name,
        JOINTS,
        UNITS,
        times_s,
        motion(times_s - 0.02),
        commanded,
        tuple(chunks),
        PERIOD_S,
        LOWER,
        UPPER,
        gaps=(Gap("left_wrist_camera/image_raw", 2.0, 2.6, "no message"),),
        sources=(
            Source("joint_states", round(100 * duration_s), 100.0, 0.012),
            Source("left_wrist_camera/image_raw", round(20 * duration_s) - 12, 20.0, 0.6),
        ),
        films=(film(duration_s),),
        samples=scenes(0.0),
        references=tuple(Reference(camera, image, "a good run") for camera, image in good_views()),
        facts={"checkpoint": name, "bag": "synthetic"},
    )


def good_views() -> list[tuple[str, Image]]:
    """Return the pictures that the cameras should resemble: another moment of a good run."""
    return list(scenes(0.3).items())


FAULTS = (
    "swapped wrist cameras",
    "BGR for RGB",
    "camera moved",
    "wrong joint order",
    "stale calibration",
    "gripper scale off",
)


def broken(good: ReplayRun, fault: str) -> ReplayRun:
    """Return the run as it would be recorded with one of FAULTS."""
    if fault == "swapped wrist cameras":
        chunks = [replace(chunk, pictures=_exchanged(chunk.pictures)) for chunk in good.chunks]
        return replace(good, samples=_exchanged(good.samples), chunks=tuple(chunks))
    if fault == "BGR for RGB":
        return replace(good, samples={c: view[..., ::-1] for c, view in good.samples.items()})
    if fault == "camera moved":
        moved = {camera: _moved(view) for camera, view in good.samples.items()}
        return replace(good, samples=moved)
    if fault == "wrong joint order":
        order = [*range(7, 14), *range(7)]
        return replace(good, measured=good.measured[:, order])
    if fault == "stale calibration":
        return replace(good, measured=good.measured + np.where(np.arange(14) == 2, 0.08, 0.0))
    assert fault == "gripper scale off"
    grippers = np.array(UNITS) == "m"
    return replace(good, measured=np.where(grippers, 2 * good.measured, good.measured))


def _exchanged(views: Mapping[str, T]) -> dict[str, T]:
    names = {"left_wrist": "right_wrist", "right_wrist": "left_wrist"}
    return {camera: views[names.get(camera, camera)] for camera in views}


def _moved(view: Image) -> Image:
    """Return what a camera sees that was turned to the right and up."""
    height, width = view.shape[:2]
    down, left = round(0.06 * height), round(0.1 * width)
    padded = np.pad(view, ((down, 0), (0, left), (0, 0)), mode="edge")
    return padded[:height, left:]


def evaluation(name: str = "default", seed: int = 0) -> EvaluationRun:
    """Return 30 episodes of three tasks, a few with films."""
    rng = np.random.default_rng(seed)
    episodes = []
    for task in ("place_block", "place_veg", "pot_lift"):
        for number in range(10):
            outcome = "error" if number == 9 else ("success" if rng.uniform() < 0.7 else "failure")
            seconds = float(rng.uniform(4, 9)) if outcome == "success" else 20.0
            shown = film(1.0) if number < 2 else None
            row = EpisodeRow(task, 1_000_000 + number, outcome, 0.5, seconds, 12, 1, 0.07)
            remark = "WORKSPACE x 1" if outcome == "failure" else ""
            episodes.append(replace(row, film=shown, remark=remark))
    tasks = []
    for task in ("place_block", "place_veg", "pot_lift"):
        successes = sum(row.task == task and row.outcome == "success" for row in episodes)
        tasks.append(TaskRow(task, successes, 9, 1, 0.4, 0.95, f"do {task}"))
    return EvaluationRun(name, tuple(tasks), tuple(episodes), {"checkpoint": name})
