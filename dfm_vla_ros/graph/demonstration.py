"""The graph of a demo: its processes, and one episode after the other."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Self

from dfm_vla_ros.bags.storage import TOPICS
from dfm_vla_ros.bags.writing import remove_bag
from dfm_vla_ros.graph.client import GraphClient, Result
from dfm_vla_ros.graph.processes import Children
from dfm_vla_ros.nodes.qos import own_domain

READY_S = 120.0
"""Loading torch and a checkpoint on two busy cores."""
SLOWEST = 20.0
"""Real seconds per simulated second before an episode counts as stuck."""
IN_FLIGHT_S = 0.5
"""Until every publisher knows the recorder, and until it has what was published last."""


@dataclass(frozen=True)
class Settings:
    """What to run.

    Attributes:
        task: of every episode.
        checkpoint: folder of the policy.
        out: gets the bag and the logs.
        instruction: None takes the task's sentence.
        black_cameras: shown black.
        timeout_s: of an episode, ROS time.
        record_episodes: how many, from the first on.
        wall_clock: real time instead of /clock.
        real_time_factor: simulated per real second, with /clock.
        camera_size: width and height [px].
    """

    task: str
    checkpoint: Path
    out: Path
    instruction: str | None = None
    black_cameras: tuple[str, ...] = ()
    timeout_s: float = 30.0
    record_episodes: int = 0
    wall_clock: bool = False
    real_time_factor: float = 1.0
    camera_size: tuple[int, int] = (96, 96)


@dataclass(frozen=True)
class Outcome:
    """How one episode went.

    Attributes:
        reason: the error code's name and text; empty on success.
        is_error: the graph failed, not the policy.
        duration_s: ROS time from goal to end [s].
        inference_s: median policy call [s].
    """

    seed: int
    success: bool
    reason: str
    is_error: bool
    duration_s: float
    chunks: int
    inference_s: float


class Demonstration:
    """Starts the nodes; as a context manager it ends them, whatever happens."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._recorded = 0
        self.checkpoint_hash = ""

    def __enter__(self) -> Self:
        """Start every process."""
        settings = self._settings
        if settings.record_episodes:
            remove_bag(settings.out / "bag")
        with ExitStack() as stack:
            domain = stack.enter_context(own_domain())
            self.children = stack.enter_context(Children(domain, settings.out / "log"))
            self._start(settings)
            self.client = stack.enter_context(
                GraphClient(domain, not settings.wall_clock, self.children.check)
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, settings: Settings) -> None:
        shared = {"use_sim_time": not settings.wall_clock}
        trained = {**shared, "checkpoint": settings.checkpoint}
        width, height = settings.camera_size
        simulated = {
            "task": settings.task,
            "publish_clock": not settings.wall_clock,
            "real_time_factor": float(settings.real_time_factor),
            "camera_width": width,
            "camera_height": height,
            "black_cameras": list(settings.black_cameras) or [""],
        }
        seeing = dict(trained)
        if settings.black_cameras:
            seeing["frozen_timeout"] = 0.0  # black on purpose: the picture never changes
        self.children.start_node("policy_node", seeing)  # first: it takes the longest
        self.children.start_node("sim_node", simulated)
        self.children.start_node("executor_node", trained)
        if settings.record_episodes:
            folder = settings.out / "bag"
            # SIGTERM: it still finishes the bag.
            self.children.start_node("recorder", {**shared, "folder": folder}, signal.SIGTERM)

    def wait_ready(self) -> None:
        """Wait until every node can do its part."""
        self.client.wait_ready(READY_S)
        if self._settings.record_episodes:
            self.client.wait_listener("recorder", TOPICS, READY_S)
            self.client.linger(IN_FLIGHT_S)
        self.checkpoint_hash = self.client.statuses["policy_node/status"].checkpoint_hash

    def episode(
        self, seed: int, on_progress: Callable[[float, float, str], None] = lambda *_: None
    ) -> Outcome:
        """Reset the twin, send the goal and wait for its end."""
        settings = self._settings
        sentence = self.client.reset(settings.task, seed)
        run = self.client.execute(
            sentence if settings.instruction is None else settings.instruction,
            settings.timeout_s,
            patience_s=SLOWEST * settings.timeout_s / settings.real_time_factor,
            on_feedback=lambda f: on_progress(f.elapsed, f.progress, f.message),
        )
        self._recorded += 1
        if self._recorded == settings.record_episodes:
            self.client.linger(IN_FLIGHT_S)
            self.children.stop("recorder")
        success = run.error_code == Result.NONE
        return Outcome(
            seed,
            success,
            "" if success else f"{run.error}: {run.message}",
            run.error_code not in (Result.NONE, Result.TIMEOUT),
            run.duration_s,
            run.chunks,
            median(run.inference_s) if run.inference_s else 0.0,
        )
