"""``dfm-vla bench cache``: what the adaptive cache, and an early stop, change of the tokens.

Episodes in the twin with the prefix cache, which is exact; at every look the variants answer too,
with the same seed: the share of equal tokens, how far the others lie apart, the share of action
positions that were computed, evaluations and time. ``two seeds`` is how far two exact answers lie
apart. With ``--success`` each variant then drives episodes of its own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm_vla_ros.options import positive_count, positive_seconds, seed, versions

if TYPE_CHECKING:
    import numpy as np

    from dfm_vla_ros.evaluation.runner import Loop
    from dfm_vla_ros.policy.policy import Policy
    from dfm_vla_ros.policy.types import Chunk, Guidance, Observation

RATIOS = (1.0, 0.75, 0.5, 0.25, 0.125)
WITHIN = (1, 2)
EXACT, SEEDS = "prefix", "two seeds"
OTHER_SEED = 500_000_003


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``cache``."""
    parser = subparsers.add_parser(
        "cache",
        help="token agreement and success of the adaptive cache against its ratio",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", type=Path, help="folder; default: the shipped one")
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="default: the checkpoint's")
    parser.add_argument("--episodes", type=positive_count, default=1, help="of each task")
    parser.add_argument("--success", type=int, default=0, help="episodes of each task and variant")
    parser.add_argument("--seed", type=seed, default=1_000_000, help="of the first episode")
    parser.add_argument("--ratios", nargs="+", type=float, default=list(RATIOS))
    parser.add_argument("--threshold", nargs="*", type=float, default=[0.95])
    parser.add_argument("--interval", type=positive_count, default=5, help="of a full refresh")
    parser.add_argument("--timeout", type=positive_seconds, default=20.0, help="[s] an episode")
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print the table; 0 if a ratio of 1 changes no token."""
    import torch

    from dfm_vla_ros.resources import resource_path

    torch.set_num_threads(1)
    options.checkpoint = options.checkpoint or resource_path("checkpoints/default")
    compared = _Compared(dict(_variants(options)))
    exact = compared.variants[EXACT].policy
    tasks = options.tasks or list(exact.tasks)
    episodes = [(task, options.seed + i) for task in tasks for i in range(options.episodes)]
    loop = _loop(exact, compared.act, options.timeout)
    for episode in episodes:
        loop.run(*episode)
    print(f"{len(compared.variants[EXACT].equal)} looks in {len(episodes)} episodes")
    print(
        f"{'':20} {'equal':>6} {'mean off':>8} {'most':>5} {'computed':>8} "
        f"{'evaluations':>11} {'ms':>6}  success"
    )
    rows = []
    for name, variant in compared.variants.items():
        driven = None
        if options.success and name != SEEDS:
            drive = _loop(variant.policy, variant.policy.act, options.timeout)
            seeds = range(options.seed, options.seed + options.success)
            driven = [drive.run(task, number).success for task in tasks for number in seeds]
        rows.append(variant.row(name, driven))
        _print(rows[-1])
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        content = {"rows": rows, "tasks": tasks, "versions": versions()}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if all(row["equal"] == 1 for row in rows if row["name"] == "adaptive 1") else 1


@dataclass
class _Variant:
    """A policy, and how its answers compare with the exact ones."""

    policy: Policy
    seeds: int = 0
    equal: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    most: int = 0
    computed: list[float] = field(default_factory=list)
    evaluations: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, chunk: Chunk, exact: np.ndarray) -> None:
        """Compare one answer."""
        off = abs(chunk.tokens - exact)
        self.equal.append(float((off == 0).mean()))
        self.off.append(float(off.mean()))
        self.most = max(self.most, int(off.max()))
        self.computed.append(self.policy.computed_share)
        self.evaluations.append(chunk.evaluations)
        self.seconds.append(chunk.inference_s)

    def row(self, name: str, driven: list[bool] | None) -> dict[str, Any]:
        """Return the figures."""
        from statistics import mean, median

        return {
            "name": name,
            "looks": len(self.equal),
            "equal": mean(self.equal),
            "mean_off": mean(self.off),
            "most_off": self.most,
            "computed": mean(self.computed),
            "evaluations": mean(self.evaluations),
            "median_ms": 1e3 * median(self.seconds),
            "successes": None if driven is None else sum(driven),
            "episodes": None if driven is None else len(driven),
        }


@dataclass
class _Compared:
    """Asks every variant, and answers with the exact one."""

    variants: dict[str, _Variant]

    def act(
        self, observation: Observation, seed: int = 0, guidance: Guidance | None = None
    ) -> Chunk:
        """Return the exact chunk; see ``Policy.act``."""
        answers = {
            name: variant.policy.act(observation, seed + variant.seeds, guidance)
            for name, variant in self.variants.items()
        }
        for name, variant in self.variants.items():
            variant.add(answers[name], answers[EXACT].tokens)
        return answers[EXACT]


def _variants(options: argparse.Namespace) -> Iterator[tuple[str, _Variant]]:
    """Yield the exact policy, the adaptive ones and those that stop early."""
    from dataclasses import replace

    from dfm_vla_ros.model.caching import Caching
    from dfm_vla_ros.model.loading import load_checkpoint
    from dfm_vla_ros.policy.policy import Policy

    checkpoint = load_checkpoint(options.checkpoint)
    yield EXACT, _Variant(Policy(checkpoint))
    yield SEEDS, _Variant(Policy(checkpoint), seeds=OTHER_SEED)
    for ratio in options.ratios:
        caching = Caching("adaptive", ratio, refresh_interval=options.interval)
        yield f"adaptive {ratio:g}", _Variant(Policy(checkpoint, caching=caching))
    for threshold in options.threshold:
        caching = Caching("adaptive", 1.0, threshold, options.interval)
        yield f"adaptive below {threshold:g}", _Variant(Policy(checkpoint, caching=caching))
    for within in WITHIN:
        decoder = replace(checkpoint.config.decoder, early_stop_within=within)
        yield f"early stop within {within}", _Variant(Policy(checkpoint, decoder=decoder))


def _loop(policy: Policy, act: Any, timeout_s: float) -> Loop:
    from dfm_vla_ros.evaluation.runner import Loop, LoopConfig
    from dfm_vla_ros.robot.model import RobotModel
    from dfm_vla_ros.sim.twin import Twin

    twin = Twin(camera_size=(policy.image_size, policy.image_size))
    limits = RobotModel().limits()
    config = LoopConfig(policy.execute_steps, timeout_s=timeout_s)
    return Loop(twin, act, policy.tokenizer, limits, config)


def _print(row: dict[str, Any]) -> None:
    success = "" if row["episodes"] is None else f"{row['successes']}/{row['episodes']}"
    print(
        f"{row['name']:20} {row['equal']:6.3f} {row['mean_off']:8.3f} {row['most_off']:5} "
        f"{row['computed']:8.2f} {row['evaluations']:11.1f} {row['median_ms']:6.1f}  {success}",
        flush=True,
    )
