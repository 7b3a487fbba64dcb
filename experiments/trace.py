"""What the refinement trace costs a chunk: ``python -m experiments.trace``.

One process makes the same chunks in turns, without the trace and as the policy node makes them:
first while nobody subscribes to ``policy_node/trace``, then while somebody does. Exit status 0:
while nobody subscribes a chunk takes less than 3% longer.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rclpy
from dfm_vla_ros.msg import ActionChunk, PolicyTrace
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.signals import SignalHandlerOptions

from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.messages import TraceTopic, doubles
from dfm_vla_ros.nodes.qos import local, own_domain
from dfm_vla_ros.policy.policy import Policy
from dfm_vla_ros.policy.types import Chunk, Observation
from dfm_vla_ros.resources import resource_path

UNHEARD, HEARD = "nobody subscribes", "somebody subscribes"
RESAMPLES = 2000
BOUND = 0.03


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


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--checkpoint", type=Path, help="folder; default: the shipped one")
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args()
    policy = Policy.load(options.checkpoint or resource_path("checkpoints/default"))
    random = np.random.default_rng(0)
    size = (policy.image_size, policy.image_size, 3)
    images = {name: random.integers(0, 256, size, dtype=np.uint8) for name in policy.cameras}
    joints = np.zeros(len(policy.tokenizer.joint_names))
    sentence = next(iter(policy.tasks.values()))
    found = measure(policy, Observation(images, joints, joints, sentence), options.rounds)
    content = _print(found, options.rounds)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if found.extra(UNHEARD)[0] < BOUND else 1


def _print(found: Costs, rounds: int) -> dict[str, object]:
    content: dict[str, object] = {"rounds": rounds}
    for name in (UNHEARD, HEARD):
        value, low, high = found.extra(name)
        without_s, node_s = found.median_s(name)
        print(
            f"{name}: a chunk takes {1e3 * node_s:.2f} ms, without the trace "
            f"{1e3 * without_s:.2f} ms: {value:+.2%} [{low:+.2%}, {high:+.2%}]"
        )
        content[name.split()[0]] = {"extra": value, "interval": [low, high]}
    return content


if __name__ == "__main__":
    sys.exit(main())
