"""Measures a running graph."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.graph.client import GraphClient
from dfm_vla_ros.msg import ActionChunk, ExecutorStatus, TaskStatus
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import nanoseconds

EVERY = QoSProfile(depth=100, durability=DurabilityPolicy.VOLATILE)
EPISODE_S = 20.0


class NothingMeasured(DfmVlaError):
    """No chunk was accepted."""


@dataclass
class Latency:
    """Times of the chunks that were accepted.

    Attributes:
        overheads: from image stamp to published trajectories less the policy call [s].
        executors: the part of it from a chunk's publication on [s].
        images: the part of it until a subscriber has the image: rendering and transport [s].
        inferences: policy calls [s].
        refused: chunks that the executor refused meanwhile.
        real_time_factor: simulated per real second.
    """

    overheads: list[float]
    executors: list[float]
    images: list[float]
    inferences: list[float]
    refused: int
    real_time_factor: float

    @property
    def count(self) -> int:
        """Number of accepted chunks."""
        return len(self.overheads)

    def overhead_s(self, percentile: float) -> float:
        """Return a percentile of the overhead [s]."""
        return float(np.percentile(self.overheads, percentile))

    def executor_s(self, percentile: float) -> float:
        """Return a percentile of the executor's part [s]."""
        return float(np.percentile(self.executors, percentile))

    def image_s(self, percentile: float) -> float:
        """Return a percentile of the images' part [s]."""
        return float(np.percentile(self.images, percentile))

    def inference_s(self, percentile: float) -> float:
        """Return a percentile of the policy call [s]."""
        return float(np.percentile(self.inferences, percentile))


class _Ear:
    """Listens to the executor's and the task's status."""

    def __init__(self, client: GraphClient) -> None:
        self.overheads: dict[int, float] = {}
        self.executors: dict[int, float] = {}
        self.inferences: dict[int, float] = {}
        self.images: list[float] = []
        self._sent_ns: dict[int, int] = {}
        self.refused = 0
        self.elapsed_s = self.listened_s = 0.0
        self._before: tuple[float, float] | None = None
        subscribe = client.node.create_subscription
        subscribe(ActionChunk, "action_chunk", self._on_chunk, EVERY)
        subscribe(ExecutorStatus, "executor_node/status", self._on_executor, EVERY)
        subscribe(TaskStatus, "task_status", self._on_task, qos.STATUS)
        subscribe(Image, "third_camera/image_raw", self._on_image, qos.SENSOR)

    def _on_image(self, image: Image) -> None:
        self.images.append((time.time_ns() - nanoseconds(image.header.stamp)) * 1e-9)

    def _on_chunk(self, chunk: ActionChunk) -> None:
        self._sent_ns[nanoseconds(chunk.observation_stamp)] = nanoseconds(chunk.header.stamp)

    def _on_executor(self, status: ExecutorStatus) -> None:
        self.refused = status.refused
        seen_ns, sent_ns = (
            nanoseconds(status.observation_stamp),
            nanoseconds(status.published_stamp),
        )
        if not sent_ns:
            return  # no chunk was accepted yet
        # Several statuses tell of one chunk; its publication names it.
        self.overheads[sent_ns] = (sent_ns - seen_ns) * 1e-9 - status.inference_time
        self.inferences[sent_ns] = status.inference_time
        if seen_ns in self._sent_ns:
            self.executors[sent_ns] = (sent_ns - self._sent_ns[seen_ns]) * 1e-9

    def _on_task(self, status: TaskStatus) -> None:
        """Add up simulated and real time, not across a reset."""
        now = (status.elapsed, time.monotonic())
        if self._before is not None and now[0] > self._before[0]:
            self.elapsed_s += now[0] - self._before[0]
            self.listened_s += now[1] - self._before[1]
        self._before = now


def measure(client: GraphClient, task: str, seconds: float) -> Latency:
    """Run episodes of ``task`` for about ``seconds`` and return the latency of their chunks.

    Raises:
        NothingMeasured: no chunk was accepted.
    """
    ear = _Ear(client)
    end_s, seed = time.monotonic() + seconds, 1_000_000
    while time.monotonic() < end_s:
        sentence = client.reset(task, seed)
        timeout_s = max(1.0, min(EPISODE_S, end_s - time.monotonic()))
        client.execute(sentence, timeout_s, patience_s=10 * timeout_s)
        seed += 1
    if not ear.overheads:
        raise NothingMeasured(f"no chunk was accepted in {seconds:.0f} s; {ear.refused} refused")
    return Latency(
        list(ear.overheads.values()),
        list(ear.executors.values()),
        ear.images,
        list(ear.inferences.values()),
        ear.refused,
        ear.elapsed_s / max(ear.listened_s, 1e-9),
    )
