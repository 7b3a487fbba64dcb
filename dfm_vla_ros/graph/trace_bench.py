"""What the trace costs a chunk: the same chunks with and without it, in turns."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.signals import SignalHandlerOptions

from dfm_vla_ros.msg import ActionChunk, PolicyTrace
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.messages import TraceTopic, doubles
from dfm_vla_ros.nodes.qos import local, own_domain
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.types import Chunk, Observation

UNHEARD, HEARD = "nobody subscribes", "somebody subscribes"
RESAMPLES = 2000


@dataclass(frozen=True)
class Costs:
    """Times of chunks, from the call to the published message.

    Attributes:
        pairs_s: UNHEARD, HEARD -> (R, 2), without the trace and as the node makes chunks [s].
    """

    pairs_s: dict[str, NDArray[np.float64]]

    def median_s(self, situation: str) -> tuple[float, float]:
        """Return the median time without the trace, and as the node makes chunks [s]."""
        without, node = np.median(self.pairs_s[situation], axis=0)
        return float(without), float(node)

    def extra(self, situation: str) -> tuple[float, float, float]:
        """Return by which share the node's chunks take longer: value, 95% interval.

        The median over pairs of the difference within a pair, by the median without the trace;
        the interval by resampling pairs.
        """
        pairs = self.pairs_s[situation]
        base, differences = np.median(pairs[:, 0]), pairs[:, 1] - pairs[:, 0]
        random = np.random.default_rng(0)
        drawn = random.integers(len(pairs), size=(RESAMPLES, len(pairs)))
        low, high = np.percentile(np.median(differences[drawn], axis=1), [2.5, 97.5])
        value = float(np.median(differences))
        return value / base, float(low) / base, float(high) / base


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

    def listen(self) -> None:
        """Subscribe to the trace."""
        topic = "policy_node/trace"
        self._ear.create_subscription(PolicyTrace, topic, lambda _: None, qos.EVERY_COMMAND)
        while not self._trace.wanted:
            self._executor.spin_once(timeout_sec=0.01)

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
    """Make ``rounds`` pairs of chunks while nobody subscribes, and as many while somebody does.

    Within a pair the order is drawn, so that what else the machine does meets both alike.
    """
    with own_domain() as domain:
        bench = _Bench(policy, domain)
        try:
            for make in (bench.plain, bench.traced):
                make(observation, 0)  # warm
            unheard = _pairs(bench, observation, rounds)
            bench.listen()
            heard = _pairs(bench, observation, rounds)
        finally:
            bench.close()
    return Costs({UNHEARD: unheard, HEARD: heard})


def _pairs(bench: _Bench, observation: Observation, rounds: int) -> NDArray[np.float64]:
    """Return (R, 2): times without the trace and as the node makes chunks [s]."""
    random = np.random.default_rng(0)
    makes = (bench.plain, bench.traced)
    times = np.zeros((rounds, 2))
    for number in range(rounds):
        for which in random.permutation(2):
            began_s = time.perf_counter()
            makes[which](observation, number)
            times[number, which] = time.perf_counter() - began_s
    return times
