"""Makes the chunks of the current goal, joins them to the running one, and holds."""

from __future__ import annotations

import threading
import time
import traceback
from array import array
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from rclpy.lifecycle import LifecycleNode

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.msg import ActionChunk
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.clock import TimeBase
from dfm_vla_ros.nodes.goals import Goal, Submission
from dfm_vla_ros.nodes.health import ExecutorWatch
from dfm_vla_ros.nodes.inputs import Watch
from dfm_vla_ros.nodes.messages import TraceTopic, doubles
from dfm_vla_ros.nodes.policy_parameters import MODES
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.realtime import Continuation, RequestTiming
from dfm_vla_ros.policy.types import Chunk, Guidance, Observation, grey_observation
from dfm_vla_ros.robot.chunks import JoinMode


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


SEED_STRIDE = 1_000_003


class ChunkMaker:
    """Looks when it is time, infers on the inference thread, publishes straight from there.

    ``_lock`` guards what both threads decide by: which goal is current, and how many holds there
    were. A chunk that was begun before a hold or for an older goal is dropped, so a hold is the
    last message of its goal.
    """

    def __init__(
        self,
        node: LifecycleNode,
        values: Mapping[str, Any],
        time_base: TimeBase,
        watch: Watch,
        executor: ExecutorWatch,
        inference: Inference,
        wake: Callable[[], None],
    ) -> None:
        """Publish on ``action_chunk``; ``wake`` lets the node's thread see what came of a call."""
        self._node, self._values, self._time = node, values, time_base
        self._watch, self._executor, self._inference = watch, executor, inference
        self._wake = wake
        self._topic = node.create_lifecycle_publisher(
            ActionChunk, "action_chunk", qos.EVERY_COMMAND
        )
        self._trace = TraceTopic(node)
        self._lock = threading.Lock()
        self._holds = 0
        self._moving = False
        self._mode = MODES[values["mode"]]
        self._policy: Policy | None = None
        self.goal: Goal | None = None
        """The current one; only the node's thread changes it."""
        self.times: deque[float] = deque(maxlen=100)
        """Of the last policy calls whose chunks were published [s]."""
        self.published = self.dropped = self.failed = 0

    def prepare(self, policy: Policy) -> None:
        """Make chunks with ``policy`` from now on.

        Raises:
            RealtimeError: ``execute_steps`` exceeds the horizon.
        """
        steps = self._values["execute_steps"] or policy.execute_steps
        pace = RequestTiming(self._mode, steps, policy.horizon, policy.control_period_s)
        self._pace, self._policy, self._decoding = pace, policy, policy.decoding
        self._begin_anew()
        self.times.clear()

    def _begin_anew(self) -> None:
        """Continue no chunk published so far: at first, and after a hold."""
        start_t0 = self._values["warm_start"] or None
        self._continuation = Continuation(self._policy.tokenizer, self._mode, start_t0)

    def forget(self) -> None:
        """Let go of the policy."""
        with self._lock:
            self._policy = None

    def serve(self, goal: Goal) -> Goal | None:
        """Make chunks for ``goal``; return the goal that it takes over from."""
        with self._lock:
            old, self.goal = self.goal, goal
        return old

    def end(self) -> None:
        """Make no chunk more for the current goal; hold is its last message."""
        with self._lock:
            goal, self.goal = self.goal, None
            if goal is not None:
                self._hold(goal)

    def pause(self) -> None:
        """Hold until the next chunk, once: the observations are unusable."""
        with self._lock:
            if self.goal is not None and (self._moving or not self._inference.idle):
                self._hold(self.goal)

    def _hold(self, goal: Goal) -> None:
        self._holds += 1
        self._moving = False
        self._begin_anew()
        now = self._node.get_clock().now().to_msg()
        message = ActionChunk(
            observation_stamp=now, chunk_id=goal.chunks, goal_id=goal.id, hold=True
        )
        message.instruction = goal.instruction
        self._publish(message)

    def start_if_due(self) -> None:
        """Start an inference if a new chunk is due; called at each third view."""
        goal, at_s = self.goal, self._watch.image_stamp_s
        if goal is None or not self._inference.idle:
            return
        if self._watch.complaint() or self._executor.complaint() or not self._is_due(goal, at_s):
            return
        observation = self._watch.observation(goal.instruction)
        with self._lock:
            holds = self._holds
            guidance = self._continuation.guidance(
                self._executor.progress, at_s, observation.commanded, self._pace.arrival_s(at_s)
            )
            self._pace.asked(at_s)
        seed = self._values["seed"] * SEED_STRIDE + goal.submissions
        goal.submissions += 1
        sources = self._watch.sources
        stamps_s = {name: sources[f"{name}_camera"].stamp_s for name in self._policy.cameras}
        traced = self._trace.wanted
        look = Submission(goal, holds, at_s, observation, stamps_s, seed, guidance, traced)

        def publish(done: Future[Chunk]) -> None:
            self._on_chunk(look, done)

        minimum_s = self._values["minimum_inference_time"]
        self._inference.submit(observation, seed, guidance, minimum_s, publish, traced)

    def _is_due(self, goal: Goal, at_s: float) -> bool:
        """Return whether to look at the image of ``at_s``; a new goal does not wait."""
        if goal.submissions == 0 and self._mode != JoinMode.SYNCHRONOUS:
            return True
        with self._lock:
            return self._pace.due(at_s, self._executor.progress)

    def _on_chunk(self, look: Submission, done: Future[Chunk]) -> None:
        """Publish a chunk straight from the inference thread: no wait for the node's thread."""
        try:
            self._publish_chunk(look, done.result())
        except Exception as error:  # noqa: BLE001 - the thread would swallow it
            self.failed += 1
            look.goal.failure = str(error) or type(error).__name__
        self._wake()

    def _publish_chunk(self, look: Submission, chunk: Chunk) -> None:
        goal = look.goal
        with self._lock:
            if goal is not self.goal or look.holds != self._holds:
                self.dropped += 1
                return
            message = self._message(chunk)
            look.describe(message, self._time)
            goal.chunks += 1
            goal.inference_s = chunk.inference_s
            message.chunk_id = goal.chunks
            now_s = self._time.from_nanoseconds(self._node.get_clock().now().nanoseconds)
            self._continuation.remember(goal.id, goal.chunks, chunk, look.guidance)
            self._pace.answered(goal.id, goal.chunks, now_s)
            message.expected_interval = self._pace.expected_interval_s
            self._publish(message)
            self._moving = True
        self.published += 1
        self.times.append(chunk.inference_s)
        if chunk.trace is not None:
            self._trace.publish(chunk.trace, message)

    def _message(self, chunk: Chunk) -> ActionChunk:
        policy = self._policy
        return ActionChunk(
            reference_positions=doubles(chunk.reference),
            control_period=policy.control_period_s,
            horizon=policy.horizon,
            tokens=array("H", chunk.tokens.astype(np.uint16).tobytes()),
            refinement_steps=policy.refinement_steps,
            validation_steps=policy.validation_steps,
            evaluations=chunk.evaluations,
            inference_time=chunk.inference_s,
            committed_steps=chunk.committed_steps,
            execute_steps=self._pace.request_steps,
            decoding=self._decoding,
        )

    def _publish(self, message: ActionChunk) -> None:
        """Publish with what is the same in every chunk."""
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.checkpoint_hash = self._policy.checkpoint_hash
        message.tokenizer_hash = self._policy.tokenizer.hash
        message.joint_names = list(self._policy.tokenizer.joint_names)
        message.mode = int(self._mode)
        self._topic.publish(message)
