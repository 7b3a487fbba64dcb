"""A replay as a Rerun recording (.rrd): images, joints, plans and refinement on one time line.

Rerun is optional: ``pip install "rerun-sdk>=0.23"``; nothing else of the package needs it.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.replay import Answer, read_images
from dfm_vla_ros.bags.replay_records import ChunkRecord
from dfm_vla_ros.bags.replay_session import Replayed, Run
from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.observing.sources import COMMANDED, MEASURED
from dfm_vla_ros.robot.joints import ARMS, JOINT_NAMES
from dfm_vla_ros.robot.model import RobotModel

INSTALL = 'pip install "rerun-sdk>=0.23"'
SERIES_NS = 20_000_000
JPEG_QUALITY = 85


class NoRerun(DfmVlaError):
    """The optional package is missing or too old."""


def check_rerun() -> ModuleType:
    """Return the package.

    Raises:
        NoRerun: it is not installed.
    """
    try:
        import rerun
    except ModuleNotFoundError as error:
        raise NoRerun(
            f"--rerun needs the package rerun-sdk, which is optional: {INSTALL}"
        ) from error
    if not hasattr(rerun, "set_time"):
        version = getattr(rerun, "__version__", "unknown")
        raise NoRerun(f"--rerun: rerun-sdk {version} is too old: {INSTALL}")
    return rerun


class _Log:
    """Logs at times of the recording."""

    def __init__(self, rerun: ModuleType, begin_ns: int) -> None:
        self.rr, self._begin_ns = rerun, begin_ns

    def at(self, stamp_ns: int) -> None:
        """Log from now on at this stamp."""
        self.rr.set_time("recording", duration=(stamp_ns - self._begin_ns) * 1e-9)


def write_rerun(done: Replayed, path: Path) -> None:
    """Write the file.

    Raises:
        NoRerun: the package is missing.
    """
    rerun = check_rerun()
    path.parent.mkdir(parents=True, exist_ok=True)
    rerun.init("dfm_vla_ros replay", recording_id=done.bag.name)
    rerun.save(str(path))
    log = _Log(rerun, done.recording.rates.span_ns[0])
    rerun.log("world", rerun.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    robot = RobotModel()
    _joints(log, done, robot)
    _images(log, done)
    for run in done.runs:
        _plans(log, done, run, robot)
    rerun.disconnect()


def _joints(log: _Log, done: Replayed, robot: RobotModel) -> None:
    begin_ns, end_ns = done.recording.rates.span_ns
    stamps = np.arange(begin_ns, end_ns, SERIES_NS, dtype=np.int64)
    rr = log.rr
    for topic, name in ((MEASURED, "measured"), (COMMANDED, "commanded")):
        rows = done.recording.joints[topic].at(stamps)
        tips = robot.points(np.nan_to_num(rows))
        for stamp, row, points in zip(stamps.tolist(), rows, tips, strict=True):
            if not np.isfinite(row).all():
                continue
            log.at(stamp)
            for joint, value in zip(JOINT_NAMES, row.tolist(), strict=True):
                rr.log(f"joints/{joint}/{name}", rr.Scalars(value))
            rr.log(f"world/{name}", rr.Points3D(points, labels=list(ARMS), radii=0.008))


def _images(log: _Log, done: Replayed) -> None:
    rr = log.rr
    with Bag(done.bag) as bag:
        for camera, stamp_ns, pixels in read_images(bag, done.recording.topics):
            log.at(stamp_ns)
            image = rr.Image(np.ascontiguousarray(pixels), color_model="RGB")
            rr.log(f"cameras/{camera}", image.compress(jpeg_quality=JPEG_QUALITY))


def _plans(log: _Log, done: Replayed, run: Run, robot: RobotModel) -> None:
    records = {record.number: record for record in done.recording.chunks}
    for answer in sorted(run.answers, key=lambda found: found.number):
        record = records[answer.number]
        log.at(record.stamp_ns)
        _plan(log.rr, run.name.replace(" ", "_"), record, answer, robot)


def _plan(
    rr: ModuleType, name: str, record: ChunkRecord, answer: Answer, robot: RobotModel
) -> None:
    """Log one chunk: the fan of both grippers, the heat map, what it took."""
    start = np.broadcast_to(record.reference, (len(answer.paths), 1, len(record.reference)))
    paths = robot.points(np.concatenate([start, np.nan_to_num(answer.paths)], axis=1))
    known = np.isfinite(answer.paths).all(axis=(1, 2))
    shades = _shades(len(paths))
    for index, arm in enumerate(ARMS):
        strips = [path[:, index] for path, good in zip(paths, known, strict=True) if good]
        colours = [shade for shade, good in zip(shades, known, strict=True) if good]
        if strips:
            lines = rr.LineStrips3D(strips, colors=colours, radii=0.0015)
            rr.log(f"world/{name}/plan/{arm}", lines)
    confidence = answer.chunk.trace.confidence
    rr.log(f"{name}/confidence", rr.Tensor(confidence, dim_names=("evaluation", "token")))
    jumps = answer.chunk.trace.jumped.sum(axis=1)
    rr.log(f"{name}/changes", rr.BarChart(jumps))
    rr.log(f"{name}/inference_s", rr.Scalars(answer.chunk.inference_s))
    rr.log(f"{name}/committed_steps", rr.Scalars(record.committed_steps))
    text = f"chunk {record.chunk_id}: {record.instruction}"
    rr.log(
        f"{name}/log", rr.TextLog(text + (f"; refused: {record.refused}" * bool(record.refused)))
    )


def _shades(count: int) -> NDArray[np.uint8]:
    """Return (count, 4): violet and faint first, yellow and dense at the end."""
    settled = np.linspace(0.0, 1.0, max(count, 1))[:, None]
    first, last = np.array([77, 51, 230, 40]), np.array([255, 217, 51, 255])
    return np.round(first + settled * (last - first)).astype(np.uint8)
