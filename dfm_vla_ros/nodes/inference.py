"""One thread that loads the policy and makes every chunk: rclpy's threads never run torch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.types import Chunk, Observation


class Inference:
    """Loads a policy, then makes one chunk at a time."""

    def __init__(self, load: Callable[[], Policy], when_ready: Callable[[Future], None]) -> None:
        """Start loading; ``when_ready`` gets a future of the policy, in the inference thread."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._policy: Policy | None = None
        self._running: Future | None = None
        loaded = self._thread.submit(self._prepare, load)
        loaded.add_done_callback(when_ready)

    @property
    def policy(self) -> Policy | None:
        """The policy once it is loaded and warm."""
        return self._policy

    @property
    def idle(self) -> bool:
        """Whether a chunk can be asked for."""
        return self._policy is not None and (self._running is None or self._running.done())

    def submit(
        self, observation: Observation, seed: int, when_done: Callable[[Future[Chunk]], None]
    ) -> None:
        """Make a chunk; ``when_done`` gets its future in the inference thread. Only while idle."""
        assert self._policy is not None, "not loaded yet"
        self._running = self._thread.submit(self._policy.act, observation, seed)
        self._running.add_done_callback(when_done)

    def stop(self) -> None:
        """Make no chunk more; wait for the one in work."""
        self._thread.shutdown(wait=self._policy is not None, cancel_futures=True)

    def _prepare(self, load: Callable[[], Policy]) -> Policy:
        policy = load()
        warm_up(policy)
        self._policy = policy
        return policy


def warm_up(policy: Any, runs: int = 2) -> None:
    """Run the policy on grey images: the first call is slow and counts for nothing."""
    joints = np.zeros(len(policy.tokenizer.joint_names))
    grey = np.full((policy.image_size, policy.image_size, 3), 128, dtype=np.uint8)
    instruction = next(iter(policy.tasks.values()))
    observation = Observation(dict.fromkeys(policy.cameras, grey), joints, joints, instruction)
    for _ in range(runs):
        policy.act(observation)
