"""``dfm-vla replay BAG``: what the policy said to a recording, once more and offline.

Reads a rosbag2 recording (MCAP or sqlite3), makes every chunk again from what it was made from,
and writes a page with plots that can be hovered and scrubbed. Nothing is published: no robot
moves. Of a damaged bag what is readable is shown, and what is not is said. Exit status 0: the
whole bag was read, and the checkpoint that recorded it gave the same tokens.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.options import positive_count

if TYPE_CHECKING:
    from dfm_vla_ros.bags.replay import Replayed

PAGE = "report.html"


class NothingReplayed(DfmVlaError):
    """The bag holds nothing that a policy could look at."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``replay``."""
    parser = subparsers.add_parser(
        "replay",
        help="a recording through the policy, offline: a report page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bag", type=Path, help="folder of a rosbag2 recording, or its .mcap file")
    parser.add_argument(
        "--checkpoint",
        type=Path,
        action="append",
        help="folder; twice: both side by side; default: the shipped one",
    )
    parser.add_argument("--out", type=Path, default=Path("out/replay"), help=f"gets {PAGE}")
    parser.add_argument(
        "--processes", type=positive_count, default=2, help="that load the policy, one core each"
    )
    parser.add_argument("--instruction", default="", help="for a bag that tells none")
    parser.add_argument("--namespace", default="", help="of the robot's topics in the bag")
    parser.add_argument("--reference", type=Path, help="bag of a good run, to compare the cameras")
    parser.add_argument("--no-film", action="store_true", help="leave the film out of the page")
    parser.add_argument("--rerun", type=Path, help="also write this .rrd file (rerun-sdk)")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument(
        "--break",
        dest="fault",
        metavar="FAULT",
        help="replay a copy with a fault put in, to see what it looks like: swap_wrists, bgr, "
        "joint_order, stale_calibration, joint_offset or gripper_scale",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Replay and write; the exit status is in the module's docstring."""
    from dfm_vla_ros.bags.replay import ReplayRequest, replay_bag
    from dfm_vla_ros.resources import resource_path

    began_s = time.perf_counter()
    bag, reference = options.bag, options.reference
    if options.rerun is not None:
        from dfm_vla_ros.bags.show import check_rerun

        check_rerun()
    if options.fault is not None:
        from dfm_vla_ros.bags.replay_breaking import broken_copy

        reference = reference or bag
        bag = broken_copy(bag, options.out / "bag", options.fault, options.namespace)
    checkpoints = options.checkpoint or [resource_path("checkpoints/default")]
    request = ReplayRequest(
        bag=bag,
        checkpoints=tuple(path.resolve() for path in checkpoints),
        processes=options.processes,
        instruction=options.instruction,
        namespace=options.namespace,
        reference=reference,
        with_film=not options.no_film,
        fault=options.fault or "",
    )
    done = replay_bag(request)
    for problem in done.problems:
        print(f"{bag}: {problem}", file=sys.stderr)
    page = options.out / PAGE
    size = done.write_page(page)
    if options.rerun is not None:
        from dfm_vla_ros.bags.show import write_rerun

        write_rerun(done, options.rerun)
    figures = _print(done, page, size, time.perf_counter() - began_s)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return _status(done, options.fault is not None)


def _status(done: Replayed, broken: bool) -> int:
    if not any(run.answers for run in done.runs):
        raise NothingReplayed(
            f"{done.request.bag}: no chunk could be replayed: a policy needs the images and the "
            "joints of one moment"
        )
    differ = any(run.compared != run.same for run in done.runs)
    return 1 if done.problems or (differ and not broken) else 0


def _print(done: Replayed, page: Path, size: int, seconds: float) -> dict[str, Any]:
    """Print the figures and return them for machines."""
    print(f"{done.request.bag}: {done.duration_s:.1f} s, {len(done.recording.chunks)} chunks")
    for run in done.runs:
        line = f"{run.name}: {len(run.answers)} chunks replayed in {run.seconds:.1f} s"
        line += f", {done.duration_s / max(run.seconds, 1e-9):.1f} x real time"
        line += f" (the first after {run.loading_s:.1f} s)"
        if run.compared:
            line += f"; the recorded tokens in {run.same} of {run.compared}"
        print(line)
        for sentence in run.differences:
            print(f"  {sentence}")
    print(f"{page} ({size / 1e6:.1f} MB), {seconds:.1f} s in all")
    return {
        "bag": str(done.request.bag),
        "duration_s": done.duration_s,
        "chunks": len(done.recording.chunks),
        "problems": list(done.problems),
        "seconds": seconds,
        "page_bytes": size,
        "runs": [
            {
                "name": run.name,
                "replayed": len(run.answers),
                "seconds": run.seconds,
                "loading_s": run.loading_s,
                "compared": run.compared,
                "same": run.same,
            }
            for run in done.runs
        ],
    }
