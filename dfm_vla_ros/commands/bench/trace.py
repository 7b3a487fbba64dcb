"""``dfm-vla bench trace``: what recording and publishing the refinement costs a chunk.

One process makes the same chunks in turns, without the trace and as the policy node makes them:
first while nobody subscribes to ``policy_node/trace``, then while somebody does. Exit status 0:
while nobody subscribes a chunk takes less than 3% longer.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dfm_vla_ros.options import positive_count

BOUND = 0.03


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``trace``."""
    parser = subparsers.add_parser(
        "trace",
        help="what the trace of the refinement costs a chunk",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=positive_count, default=200)
    parser.add_argument("--checkpoint", type=Path, help="folder; default: the shipped one")
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    import numpy as np

    from dfm_vla_ros.graph.trace_bench import HEARD, UNHEARD, measure
    from dfm_vla_ros.policy.policy import Policy
    from dfm_vla_ros.policy.types import Observation
    from dfm_vla_ros.resources import resource_path

    policy = Policy.load(options.checkpoint or resource_path("checkpoints/default"))
    random = np.random.default_rng(0)
    size = (policy.image_size, policy.image_size, 3)
    images = {name: random.integers(0, 256, size, dtype=np.uint8) for name in policy.cameras}
    joints = np.zeros(len(policy.tokenizer.joint_names))
    sentence = next(iter(policy.tasks.values()))
    found = measure(policy, Observation(images, joints, joints, sentence), options.rounds)
    content: dict[str, object] = {"rounds": options.rounds}
    for name in (UNHEARD, HEARD):
        value, low, high = found.extra(name)
        without_s, node_s = found.median_s(name)
        print(
            f"{name}: a chunk takes {1e3 * node_s:.2f} ms, without the trace "
            f"{1e3 * without_s:.2f} ms: {value:+.2%} [{low:+.2%}, {high:+.2%}]"
        )
        content[name.split()[0]] = {"extra": value, "interval": [low, high]}
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if found.extra(UNHEARD)[0] < BOUND else 1
