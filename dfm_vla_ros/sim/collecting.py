"""Record demonstrations side by side into one data set, however often it is killed."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from dfm_vla_ros.data.format import EpisodeError, load_episode, save_episode
from dfm_vla_ros.data.writer import DatasetWriter
from dfm_vla_ros.errors import OutOfReach
from dfm_vla_ros.sim.demonstrate import CAMERA_SIZE, demonstrate, demonstration_spec
from dfm_vla_ros.sim.perturbations import PLAIN_SETTING, Setting
from dfm_vla_ros.sim.twin import Twin
from dfm_vla_ros.sim.variation import demonstrator
from dfm_vla_ros.workers import run_parallel

SPOOL = ".spool"
"""Folder within the data set where recorders put whole episodes for the one writer."""


@dataclass(frozen=True)
class DemonstrationJob:
    """One demonstration to record.

    Attributes:
        task: name of the task.
        seed: of layout and noise.
        noise_rad: largest noise on the executed joints.
        images: whether to render.
        spool: folder for the finished episode.
        setting: what varies, and which sentences.
        modes: name of the demonstrator.
    """

    task: str
    seed: int
    noise_rad: float
    images: bool
    spool: Path
    setting: Setting = PLAIN_SETTING
    modes: str = "one"

    @property
    def key(self) -> str:
        """The episode's name in the data set; sorts by task, then seed."""
        plain = {PLAIN_SETTING.variation, PLAIN_SETTING.phrasing, "one"}
        given = (self.setting.variation, self.setting.phrasing, self.modes)
        return "_".join([f"{self.task}_{self.seed:08d}", *(n for n in given if n not in plain)])

    @property
    def path(self) -> Path:
        """Where the finished episode waits."""
        return self.spool / f"{self.key}.npz"


def collect(
    folder: Path,
    wanted: Sequence[tuple[str, int]],
    workers: int,
    noise_rad: float,
    storage: str = "video",
    images: bool = True,
    setting: Setting = PLAIN_SETTING,
    modes: str = "one",
) -> list[str]:
    """Record the episodes that a data set lacks; may be killed and started again at any time.

    They are added in the order of ``wanted`` whatever the order in which recorders finish, so
    that the data set is the same however often this was interrupted.

    Args:
        folder: of the data set.
        wanted: task and seed of each episode.
        workers: processes.
        noise_rad: largest noise on the executed joints.
        storage: of the images, see :class:`DatasetWriter`.
        images: whether to render.
        setting: what varies, and which sentences.
        modes: name of the demonstrator, see ``sim.styles.DEMONSTRATORS``.

    Returns:
        What failed and is not in the data set.
    """
    spool = Path(folder) / SPOOL
    jobs = [
        DemonstrationJob(task, number, noise_rad, images, spool, setting, modes)
        for task, number in wanted
    ]
    started = time.monotonic()
    with DatasetWriter(folder, demonstration_spec(images), storage) as writer:
        missing = [job for job in jobs if job.key not in writer]
        _clear_spool(spool, writer)
        print(f"{len(jobs) - len(missing)} present, {len(missing)} to collect")
        failures = _collect(missing, writer, workers, len(jobs))
    _remove_spool(spool)
    for failure in failures:
        print(f"failed, not kept: {failure}")
    seconds = time.monotonic() - started
    print(
        f"{len(missing) - len(failures)}/{len(missing)} demonstrations in {seconds:.0f} s "
        f"({seconds / max(len(missing), 1):.2f} s each) in {folder}"
    )
    return failures


def _clear_spool(spool: Path, writer: DatasetWriter) -> None:
    """Remove from the spool what is half written or in the data set already."""
    spool.mkdir(exist_ok=True)
    for path in spool.iterdir():
        if path.suffix != ".npz" or path.stem in writer:
            path.unlink()


def _remove_spool(spool: Path) -> None:
    """Remove the spool unless another run's episodes wait in it."""
    if not any(spool.iterdir()):
        spool.rmdir()


def _collect(
    jobs: list[DemonstrationJob], writer: DatasetWriter, workers: int, total: int
) -> list[str]:
    """Record every job and add it at its turn; return what failed."""
    done: dict[str, str | None] = {}
    failures, turn = [], iter(jobs)
    job = next(turn, None)
    # disable=None: no bar where nobody watches
    with tqdm(
        total=total, initial=total - len(jobs), unit="episode", disable=None, mininterval=0.5
    ) as bar:
        for key, failure in _outcomes(jobs, workers):
            done[key] = failure
            while job is not None and job.key in done:
                if problem := done.pop(job.key) or _add(job, writer):
                    failures.append(problem)
                bar.set_postfix(failed=len(failures), refresh=False)
                bar.update()
                job = next(turn, None)
    return failures


def _outcomes(jobs: list[DemonstrationJob], workers: int) -> Iterator[tuple[str, str | None]]:
    """Yield key and failure of each job as it finishes; first those that waited already."""
    waiting = {job.key for job in jobs if job.path.exists()}
    missing = [job for job in jobs if job.key not in waiting]
    yield from ((key, None) for key in waiting)
    if missing:
        yield from run_parallel(record, missing, min(workers, len(missing)))


def _add(job: DemonstrationJob, writer: DatasetWriter) -> str | None:
    """Add a finished episode to the data set, then take it out of the spool.

    Returns:
        What is wrong with the file, if a power cut damaged it; the next run records it again.
    """
    try:
        writer.add(load_episode(job.path), job.key)
    except EpisodeError as error:
        job.path.unlink()
        return str(error)
    job.path.unlink()
    return None


def record(job: DemonstrationJob) -> tuple[str, str | None]:
    """Record one demonstration into the spool; return its key, and why it failed or None."""
    try:
        twin, expert = _worker_twin(), demonstrator(job.modes)
        twin.setting = job.setting
        episode = demonstrate(twin, job.task, job.seed, job.noise_rad, job.images, expert)
    except OutOfReach as error:
        return job.key, f"{job.task}, seed {job.seed}: {error}"
    if not episode.success:
        return job.key, f"{job.task}, seed {job.seed}: the task was not done"
    save_episode(episode, job.path)
    return job.key, None


@functools.cache
def _worker_twin() -> Twin:
    return Twin(CAMERA_SIZE)
