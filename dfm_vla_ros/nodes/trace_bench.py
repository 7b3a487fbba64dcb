"""What the trace costs a chunk: the same chunks with and without it, in turns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.signals import SignalHandlerOptions

from dfm_vla_ros.msg import ActionChunk, PolicyTrace
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.domain import local, own_domain
from dfm_vla_ros.nodes.trace_topic import TraceTopic
from dfm_vla_ros.nodes.trajectories import doubles
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.types import Chunk, Observation

WITHOUT, UNHEARD, HEARD = "without the trace", "nobody subscribes", "somebody subscribes"
RESAMPLES = 2000


@dataclass(frozen=True)
class Costs:
    """Times of chunks, from the call to the published message.

    Attributes:
        times_s: variant -> (R,), one a round [s].
    """

    times_s: dict[str, NDArray[np.float64]]

    def median_s(self, variant: str) -> float:
        """Return the median time [s]."""
        return float(np.median(self.times_s[variant]))

    def extra(self, variant: str) -> tuple[float, float, float]:
        """Return by which share ``variant`` takes longer than without: value, 95% interval.

        The median over rounds of the difference within a round, so that what else the machine
        does meanwhile cancels; the interval by resampling rounds.
        """
        base = self.median_s(WITHOUT)
        differences = self.times_s[variant] - self.times_s[WITHOUT]
        drawn = np.random.default_rng(0).integers(
            len(differences), size=(RESAMPLES, len(differences))
        )
        low, high = np.percentile(np.median(differences[drawn], axis=1), [2.5, 97.5])
        return float(np.median(differences)) / base, float(low) / base, float(high) / base


class _Bench:
    """A policy node's publishers, and what it does for a chunk."""

    def __init__(self, policy: Policy, domain: int) -> None:
        os.environ.update(local())
        self._policy = policy
        self._context = rclpy.Context()
        rclpy.init(
            context=self._context,
            domain_id=domain,
            signal_handler_options=SignalHandlerOptions.NO,
        )
        self._node = LifecycleNode("policy_node", context=self._context)
        self._chunks = self._node.create_lifecycle_publisher(
            ActionChunk, "action_chunk", qos.EVERY_COMMAND
        )
        self._trace = TraceTopic(self._node)
        self._node.trigger_configure()
        self._node.trigger_activate()
        self._ear = rclpy.create_node("ear", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._ear)

    def listen(self) -> Callable[[], None]:
        """Subscribe to the trace; return what ends it."""
        topic = "policy_node/trace"
        made = self._ear.create_subscription(PolicyTrace, topic, lambda _: None, qos.EVERY_COMMAND)
        while not self._trace.wanted:
            self._executor.spin_once(timeout_sec=0.01)

        def end() -> None:
            self._ear.destroy_subscription(made)
            while self._trace.wanted:
                self._executor.spin_once(timeout_sec=0.01)

        return end

    def plain(self, observation: Observation, seed: int) -> None:
        """Make and publish a chunk as if there were no trace."""
        self._publish(self._policy.act(observation, seed))

    def traced(self, observation: Observation, seed: int) -> None:
        """Make and publish a chunk as the node does."""
        wanted = self._trace.wanted
        chunk = self._policy.act(observation, seed, trace=wanted)
        message = self._publish(chunk)
        if chunk.trace is not None:
            self._trace.publish(chunk.trace, message)

    def _publish(self, chunk: Chunk) -> ActionChunk:
        message = ActionChunk(
            tokens=chunk.tokens.ravel().tolist(), reference_positions=doubles(chunk.reference)
        )
        self._chunks.publish(message)
        return message

    def close(self) -> None:
        self._executor.shutdown()
        self._ear.destroy_node()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


def measure(policy: Policy, observation: Observation, rounds: int) -> Costs:
    """Make ``rounds`` chunks of every variant, in an order that changes from round to round."""
    times: dict[str, list[float]] = {WITHOUT: [], UNHEARD: [], HEARD: []}
    random = np.random.default_rng(0)
    with own_domain() as domain:
        bench = _Bench(policy, domain)
        try:
            for variant in (bench.plain, bench.traced):
                variant(observation, 0)  # warm
            for number in range(rounds):
                for name in random.permutation(list(times)):
                    times[name].append(_timed(bench, name, observation, number))
        finally:
            bench.close()
    return Costs({name: np.array(taken) for name, taken in times.items()})


def _timed(bench: _Bench, name: str, observation: Observation, seed: int) -> float:
    end = bench.listen() if name == HEARD else lambda: None
    make = bench.plain if name == WITHOUT else bench.traced
    began_s = time.perf_counter()
    make(observation, seed)
    taken_s = time.perf_counter() - began_s
    end()
    return taken_s
