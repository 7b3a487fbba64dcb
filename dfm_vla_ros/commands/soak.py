"""``dfm-vla soak``: the graph on the twin for long, with faults at random moments.

Goals are cancelled and raced, the arms are stopped and resumed, the twin pauses or is reset,
chunks are corrupt, instructions are nonsense, policy and executor are killed and started again.
After each fault a goal must move the arms again. At the end every chunk must be accounted for
(received = executed + refused + superseded), memory must be flat and no process may be left.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm_vla_ros import signals
from dfm_vla_ros.errors import DfmVlaError

if TYPE_CHECKING:
    from dfm_vla_ros.graph.soak import Record

GROWTH_MB_PER_MIN = 0.5
LONG_LIFE_S = 180.0
"""Memory of a shorter life says nothing: caches and pools are still filling."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``soak``."""
    parser = subparsers.add_parser(
        "soak",
        help="run the graph for long while things go wrong",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--task", default="place_block")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--checkpoint", type=Path, help="folder; default: the shipped one")
    parser.add_argument(
        "--transport",
        choices=("udp", "default"),
        default="udp",
        help="default: with shared memory, over which a new node may not be reached",
    )
    parser.add_argument("--out", type=Path, help="keep the nodes' logs there")
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Soak, print, and return 0 if all that must hold held."""
    from dfm_vla_ros.nodes.qos import only_udp
    from dfm_vla_ros.resources import resource_path

    if not 0 < options.minutes <= 10_000:
        raise DfmVlaError(f"--minutes is {options.minutes}; give a number in (0, 10000]")
    signals.listen(signal.SIGTERM)
    if options.transport == "udp":
        only_udp()
    checkpoint = (options.checkpoint or resource_path("checkpoints/default")).resolve()
    with tempfile.TemporaryDirectory(prefix="dfm_vla_soak_") as folder:
        record, sessions = _soak(options, checkpoint, options.out or Path(folder))
    content = _summary(record, left_over(sessions))
    _print(record, content)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0 if content["passed"] else 1


def _soak(options: argparse.Namespace, checkpoint: Path, logs: Path) -> tuple[Record, set[int]]:
    """Run the graph; return what happened and the sessions of all processes ever started."""
    from dfm_vla_ros.graph.client import GraphClient
    from dfm_vla_ros.graph.processes import Children
    from dfm_vla_ros.graph.soak import RECOVERY_S, Soak
    from dfm_vla_ros.nodes.qos import own_domain

    trained = {"checkpoint": checkpoint}
    parameters = {"policy_node": trained, "executor_node": trained, "sim_node": {}}
    with own_domain() as domain, Children(domain, logs) as children:
        for name, given in parameters.items():
            children.start_node(name, given)
        with GraphClient(domain, use_sim_time=False, check=lambda: None) as client:
            client.wait_ready(RECOVERY_S)
            soak = Soak(client, children, parameters, options.task, options.seed)
            record = soak.run(60 * options.minutes, lambda line: print(line, flush=True))
        return record, children.sessions


def left_over(sessions: set[int]) -> list[int]:
    """Return the processes that still belong to one of these sessions."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            pid = int(folder.name)
            if os.getsid(pid) in sessions:
                found.append(pid)
        except ProcessLookupError:
            continue
    return found


def _summary(record: Record, left: list[int]) -> dict[str, Any]:
    """Return all figures, and whether what must hold held."""
    memory = {
        name: {
            "life_s": samples[-1][0] - samples[0][0],
            "first_mb": samples[0][1],
            "last_mb": samples[-1][1],
            "growth_mb_per_min": record.growth_mb_per_min(name),
        }
        for name, samples in record.memory_mb.items()
    }
    flat = all(
        entry["growth_mb_per_min"] < GROWTH_MB_PER_MIN
        for entry in memory.values()
        if entry["life_s"] >= LONG_LIFE_S
    )
    chunks = dict(record.chunks)
    lost = chunks.get("received", 0) - sum(
        chunks.get(name, 0) for name in ("executed", "refused", "superseded")
    )
    # A killed executor takes the chunk that was pending with it.
    accounted = record.unaccounted == 0 and 0 <= lost < record.lives["executor_node"]
    return {
        "faults": dict(record.faults),
        "recovery_median_s": statistics.median(record.recoveries_s or [0.0]),
        "recovery_max_s": max(record.recoveries_s, default=0.0),
        "chunks": chunks,
        "pending_when_killed": lost,
        "statuses_that_do_not_add_up": record.unaccounted,
        "lives": dict(record.lives),
        "memory": memory,
        "left_over_processes": left,
        "passed": flat and accounted and not left,
    }


def _print(record: Record, content: dict[str, Any]) -> None:
    """Print the summary."""
    total = sum(record.faults.values())
    print(
        f"{total} faults; moving again after a median of {content['recovery_median_s']:.1f} s, "
        f"at most {content['recovery_max_s']:.1f} s; chunks {content['chunks']}, pending when an "
        f"executor was killed {content['pending_when_killed']}; statuses that do not add up "
        f"{content['statuses_that_do_not_add_up']}; left-over processes "
        f"{len(content['left_over_processes'])}"
    )
    for name, entry in content["memory"].items():
        print(
            f"{name:15} started {record.lives[name]} times; last life {entry['life_s']:.0f} s: "
            f"{entry['first_mb']:.1f} -> {entry['last_mb']:.1f} MB, "
            f"{entry['growth_mb_per_min']:+.2f} MB/min in its last two thirds"
        )
    print("passed" if content["passed"] else "FAILED")
