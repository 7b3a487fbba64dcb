"""Draw what the monitor shows of one chunk of a recording: the picture of docs/debugging.md.

.venv/bin/python scripts/monitor_picture.py out/demo/bag docs/images/monitor.png --chunk 6
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np

from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.records import WANTED, read_recording, relative_topics
from dfm_vla_ros.bags.replay import ReplayJob, answers
from dfm_vla_ros.bags.show import read_images
from dfm_vla_ros.nodes.messages import camera_info
from dfm_vla_ros.nodes.monitor_drawing import (
    Look,
    Pinhole,
    ShownPlan,
    annotate,
    drawings,
    enlarged,
)
from dfm_vla_ros.resources import resource_path
from dfm_vla_ros.robot.model import RobotModel, arm_confidence, tip_paths
from dfm_vla_ros.sim.model import FIELD_OF_VIEW_DEG
from dfm_vla_ros.tokens import load_action_tokenizer

CAMERA = "third"


def main() -> None:
    """Parse the arguments and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bag", type=Path)
    parser.add_argument("picture", type=Path, help="PNG")
    parser.add_argument("--chunk", type=int, default=0, help="number, from 0")
    parser.add_argument("--width", type=int, default=640, help="[px]")
    options = parser.parse_args()
    checkpoint = resource_path("checkpoints/default")
    with Bag(options.bag) as bag:
        recording = read_recording(bag, relative_topics(bag, WANTED))
        record = recording.chunks[options.chunk]
        stamp_ns = record.image_stamps[CAMERA]
        images = read_images(bag, recording.topics)
        view = next(image for name, at, image in images if (name, at) == (CAMERA, stamp_ns))
    job = ReplayJob(options.bag, recording.topics, checkpoint, record.decoding, (record,))
    (answer,) = answers(job)
    print(f"the recorded tokens: {answer.same}", file=sys.stderr)
    tokenizer, kinematics = load_action_tokenizer(checkpoint), RobotModel()
    trace = answer.chunk.trace
    fan = tip_paths(tokenizer, kinematics, trace.tokens, record.reference)
    confidence = arm_confidence(tokenizer, trace.confidence[-1:])[0]
    plan = ShownPlan(fan[-1], confidence, record.committed_steps, fan)
    stamps = stamp_ns - np.arange(0, 3 * 10**9, 5 * 10**7)[::-1]
    before = recording.joints["joint_states"].at(stamps)
    trail = kinematics.points(before[np.isfinite(before).all(axis=1)])
    tasks = [task for at, task in recording.tasks if at <= stamp_ns]
    task = tasks[-1] if tasks else SimpleNamespace(task="", progress=0.0, elapsed=0.0)
    size = (options.width, enlarged(view.shape[:2], options.width))
    lines = [
        (f'"{record.instruction}"', False),
        (f"{task.task}: {task.progress:.0%} after {task.elapsed:.1f} s", False),
        (f"chunk {record.chunk_id}, inference {1e3 * record.inference_s:.0f} ms", False),
    ]
    drawn = drawings(camera(kinematics, view), size, plan, trail, Look(kinematics.root))
    picture = annotate(view, options.width, lines, task.progress, drawn)
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(options.picture), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def camera(kinematics: RobotModel, view: np.ndarray) -> Pinhole:
    """Return the twin's third camera."""
    height, width = view.shape[:2]
    frame = f"{CAMERA}_camera_optical_frame"
    info = camera_info(frame, width, height, FIELD_OF_VIEW_DEG[CAMERA])
    pose = kinematics.poses(np.zeros(len(kinematics.joint_names)), (frame,))[frame]
    return Pinhole(np.reshape(info.k, (3, 3)), (width, height), pose)


if __name__ == "__main__":
    main()
