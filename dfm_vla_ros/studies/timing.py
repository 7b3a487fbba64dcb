"""How long a chunk of each variant takes: all of them in turn, on the same observations."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dfm_vla_ros.policy.types import Observation
from dfm_vla_ros.sim.twin import Twin
from dfm_vla_ros.studies.running import make_policy
from dfm_vla_ros.studies.variants import Variant


@dataclass(frozen=True)
class Timing:
    """Of one variant, from an observation to its tokens.

    Attributes:
        median_ms, low_ms, high_ms: median and 5th to 95th percentile.
        evaluations: of the network a chunk.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    evaluations: int


def time_chunks(variants: Sequence[Variant], task: str, seed: int, rounds: int) -> list[Timing]:
    """Return the timing of each of ``variants``.

    In each round all take their turn, so that what else the machine does meets all alike.

    Args:
        variants: to time.
        task: whose scenes are looked at, from that of ``seed`` on.
        seed: of the first scene.
        rounds: a scene each; the first only warms up.
    """
    torch.set_num_threads(1)  # two collapse on busy cores
    policies = [make_policy(variant) for variant in variants]
    size = max((policy.image_size for policy in policies), default=0)
    twin = Twin(camera_size=(size, size)) if size else Twin()
    taken: list[list[float]] = [[] for _ in policies]
    counts = [0] * len(policies)
    for number in range(rounds + 1):
        twin.reset(task, seed + number)
        images = twin.render() if size else {}
        sight = Observation(images, twin.positions, twin.commanded, twin.instruction, twin.poses())
        for index, policy in enumerate(policies):
            chunk = policy.act(sight, number)
            counts[index] = chunk.evaluations
            if number:
                taken[index].append(1e3 * chunk.inference_s)
    return [_timing(times, count) for times, count in zip(taken, counts, strict=True)]


def _timing(times_ms: Sequence[float], evaluations: int) -> Timing:
    ordered = sorted(times_ms)
    last = len(ordered) - 1
    low, high = ordered[round(0.05 * last)], ordered[round(0.95 * last)]
    return Timing(statistics.median(ordered), low, high, evaluations)
