"""Which arm each wrist camera moves with, from what the chunks saw: tells exchanged cameras."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np

from dfm_vla_ros.report.content import Floats, ReplayRun
from dfm_vla_ros.report.figures import recorded_at
from dfm_vla_ros.report.pictures import Picture


@dataclass(frozen=True)
class Following:
    """C wrist cameras against A arms; a camera is an arm's if its name begins with the arm's.

    Attributes:
        cameras, arms: names.
        change: (C, A) how much of a picture's change from chunk to chunk goes with the arm's
            motion: their covariance over the motion's standard deviation, in grey levels
            (0..255); NaN for an arm that does not move.
    """

    cameras: tuple[str, ...]
    arms: tuple[str, ...]
    change: Floats


def following(run: ReplayRun) -> Following:
    """Return it; without cameras or arms of such names, or with few chunks, it is empty."""
    names = [name.split("_")[0] for name in run.joint_names]
    chunks = [chunk for chunk in run.chunks if chunk.pictures]
    cameras = [
        camera
        for camera in (chunks[0].pictures if len(chunks) > 2 else ())
        if camera.split("_")[0] in names and all(camera in chunk.pictures for chunk in chunks)
    ]
    arms = [arm for arm in dict.fromkeys(names) if any(c.startswith(f"{arm}_") for c in cameras)]
    times_s = np.array([chunk.time_s for chunk in chunks])
    moved = [_motion(run, names, arm, times_s) for arm in arms]
    changed = [_changes([chunk.pictures[camera] for chunk in chunks]) for camera in cameras]
    change = np.array([[_shared(seen, motion) for motion in moved] for seen in changed])
    return Following(tuple(cameras), tuple(arms), change.reshape(len(cameras), len(arms)))


def _motion(run: ReplayRun, names: list[str], arm: str, times_s: Floats) -> Floats:
    """Return how far the commanded arm moved from each time to the next [rad]."""
    columns = [j for j, name in enumerate(names) if name == arm and run.units[j] == "rad"]
    joints = recorded_at(run, times_s)[:, columns]
    return np.linalg.norm(np.diff(joints, axis=0), axis=-1)


def _changes(pictures: list[Picture]) -> Floats:
    """Return the mean difference of each picture to the next, 0..255."""
    grey = [
        cv2.imdecode(np.frombuffer(picture.data, np.uint8), cv2.IMREAD_GRAYSCALE)
        for picture in pictures
    ]
    pairs = itertools.pairwise(grey)
    return np.array([np.abs(after.astype(float) - before).mean() for before, after in pairs])


def _shared(seen: Floats, motion: Floats) -> float:
    known = np.isfinite(motion)
    seen, motion = seen[known], motion[known]
    spread = motion.std() if len(motion) else 0.0
    if spread < 1e-4:
        return np.nan
    return float(np.mean((seen - seen.mean()) * (motion - motion.mean())) / spread)
