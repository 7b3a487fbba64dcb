"""One thread that loads the policy and makes every chunk: rclpy's threads never run torch."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.types import Chunk, Guidance, Observation, grey_observation


class InferenceFailed(DfmVlaError):
    """A policy call raised; the message names what."""


class Inference:
    """Loads a policy, then makes one chunk at a time."""

    def __init__(self, on_error: Callable[[str], None]) -> None:
        """Load nothing yet; ``on_error`` gets the trace of a failed call (inference thread)."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._on_error = on_error
        self._policy: Policy | None = None
        self._busy: Future | None = None
        self._loading: Future | None = None
        self._hurry = threading.Event()

    @property
    def policy(self) -> Policy | None:
        """The policy once it is loaded and warm."""
        return self._policy

    @property
    def idle(self) -> bool:
        """Whether a chunk can be asked for."""
        return self._policy is not None and (self._busy is None or self._busy.done())

    def load(self, load: Callable[[], Policy], start_t0: float | None) -> Future:
        """Start loading and warming up; the future ends when the policy is ready.

        Args:
            load: returns the policy.
            start_t0: of the warm start, which then is warmed up too; None: there will be none.
        """
        self._loading = self._thread.submit(self._load, load, start_t0)
        return self._loading

    def unload(self) -> None:
        """Wait for the call in work, then free the policy and what it holds on its device.

        A policy that is loading is left alone: only a node that ends is cleaned up meanwhile.
        """
        if self._loading is not None and not self._loading.done():
            return
        self._hurry.set()
        self._thread.submit(self._free).result()
        self._hurry.clear()

    def submit(
        self,
        observation: Observation,
        seed: int,
        guidance: Guidance | None,
        minimum_s: float,
        when_done: Callable[[Future[Chunk]], None],
        trace: bool = False,
    ) -> None:
        """Make a chunk; ``when_done`` gets its future in the inference thread. Only while idle.

        Args:
            observation: see ``Policy.act``.
            seed: see ``Policy.act``.
            guidance: see ``Policy.act``.
            minimum_s: how long the call takes at least [s].
            when_done: the future raises InferenceFailed if the policy raised anything.
            trace: see ``Policy.act``.
        """
        assert self._policy is not None, "not loaded yet"

        def call() -> None:
            # One task with its callback: idle only once the chunk is published.
            outcome: Future[Chunk] = Future()
            try:
                outcome.set_result(self._act(observation, seed, guidance, minimum_s, trace))
            except InferenceFailed as error:
                outcome.set_exception(error)
            when_done(outcome)

        self._busy = self._thread.submit(call)

    def stop(self) -> None:
        """Make no chunk more; wait for the one in work, but not for a policy that is loading."""
        self._hurry.set()
        loading = self._loading is not None and not self._loading.done()
        self._thread.shutdown(wait=not loading, cancel_futures=True)

    def _load(self, load: Callable[[], Policy], start_t0: float | None) -> None:
        policy = load()
        warm_up(policy, start_t0)
        self._policy = policy

    def _free(self) -> None:
        self._policy = self._busy = self._loading = None
        free_cache()

    def _act(
        self,
        observation: Observation,
        seed: int,
        guidance: Guidance | None,
        minimum_s: float,
        trace: bool,
    ) -> Chunk:
        began_s = time.perf_counter()
        try:
            chunk = self._policy.act(observation, seed, guidance, trace)
        except Exception as error:  # noqa: BLE001 - whatever it is ends one goal, not the node
            self._on_error(traceback.format_exc())
            failure = f"{type(error).__name__}: {error}"
            traceback.clear_frames(error.__traceback__)  # they hold the tensors
        else:
            return self._padded(chunk, began_s, minimum_s)
        free_cache()
        raise InferenceFailed(failure)

    def _padded(self, chunk: Chunk, began_s: float, minimum_s: float) -> Chunk:
        """Return the chunk no sooner than ``minimum_s`` after ``began_s``."""
        left_s = began_s + minimum_s - time.perf_counter()
        if left_s <= 0:
            return chunk
        self._hurry.wait(left_s)
        return replace(chunk, inference_s=time.perf_counter() - began_s)


def free_cache() -> None:
    """Give the GPU's memory that no tensor uses back to the driver."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def warm_up(policy: Policy, start_t0: float | None = None) -> None:
    """Run the policy on grey images, free and guided: the first call is slow, counts for nothing.

    Raises:
        FlowError: ``start_t0`` leaves no step to refine.
    """
    observation = grey_observation(
        policy.cameras,
        policy.image_size,
        len(policy.tokenizer.joint_names),
        next(iter(policy.tasks.values())),
    )
    tokens = policy.act(observation).tokens
    committed = np.zeros(tokens.shape, dtype=bool)
    committed[:1] = True
    policy.act(observation, guidance=Guidance(committed, tokens, start_t0, 1))
