"""The thread that loads a policy and calls it, so that the node's own thread never waits."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.realtime import committing
from dfm_vla_ros.policy.session import PolicyCall
from dfm_vla_ros.policy.types import Chunk, grey_observation


class InferenceFailed(DfmVlaError):
    """A policy call raised; the message names what."""


class InferenceThread:
    """Loads a policy, then does one piece of work with it at a time."""

    def __init__(self, on_error: Callable[[str], None]) -> None:
        """Load nothing yet; ``on_error`` gets the trace of a failed call (on this thread)."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._on_error = on_error
        self.policy: Policy | None = None
        """The policy once it is loaded and warm."""
        self._busy: Future | None = None
        self._loading: Future | None = None
        self._hurry = threading.Event()

    @property
    def idle(self) -> bool:
        """Whether the policy can be called."""
        return self.policy is not None and (self._busy is None or self._busy.done())

    def load(self, load: Callable[[], Policy], start_t0: float | None) -> Future:
        """Start loading and warming up; the future ends when the policy is ready.

        Args:
            load: returns the policy.
            start_t0: of the warm start, which then is warmed up too; None: there will be none.
        """
        self._loading = self._thread.submit(self._load, load, start_t0)
        return self._loading

    def submit(self, work: Callable[..., None], *arguments: Any) -> None:
        """Run ``work``, which calls the policy with `act`, on this thread; only while idle."""
        self._busy = self._thread.submit(work, *arguments)

    def act(self, call: PolicyCall, minimum_s: float = 0.0, trace: bool = False) -> Chunk:
        """Return the chunk of ``call``, no sooner than after ``minimum_s``; on this thread.

        Raises:
            InferenceFailed: the policy raised anything.
        """
        began_s = time.perf_counter()
        try:
            chunk = call.run(self.policy.act, trace)
        except Exception as error:  # noqa: BLE001 - whatever it is ends one goal, not the node
            self._on_error(traceback.format_exc())
            failure = f"{type(error).__name__}: {error}"
            traceback.clear_frames(error.__traceback__)  # they hold the tensors
        else:
            if time.perf_counter() < began_s + minimum_s:
                self._hurry.wait(began_s + minimum_s - time.perf_counter())
                chunk = replace(chunk, inference_s=time.perf_counter() - began_s)
            return chunk
        _free_cache()
        raise InferenceFailed(failure)

    def unload(self) -> None:
        """Wait for the call in work, then free the policy and what it holds on its device.

        A policy that is loading is left alone: only a node that ends is cleaned up meanwhile.
        """
        if self._is_loading():
            return
        self._hurry.set()
        self._thread.submit(self._free).result()
        self._hurry.clear()

    def stop(self) -> None:
        """Call no more; wait for the call in work, but not for a policy that is loading."""
        self._hurry.set()
        self._thread.shutdown(wait=not self._is_loading(), cancel_futures=True)

    def _is_loading(self) -> bool:
        return self._loading is not None and not self._loading.done()

    def _load(self, load: Callable[[], Policy], start_t0: float | None) -> None:
        policy = load()
        warm_up(policy, start_t0)
        self.policy = policy

    def _free(self) -> None:
        self.policy = self._busy = self._loading = None
        _free_cache()


def _free_cache() -> None:
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
    policy.act(observation, guidance=committing(tokens, 1, start_t0))
