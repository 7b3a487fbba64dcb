"""``dfm-vla record``: what a run's topics say, into a bag that ``convert`` and ``replay`` read.

Needs no rosbag2. Records three cameras, joints, commands, chunks, statuses, and /tf and
/diagnostics where they are published. Killed, it leaves a bag that can be read up to the last
second or two.

Exit status 0: the bag is finished, and everything that convert needs was heard.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dfm_vla_ros.options import positive_seconds

if TYPE_CHECKING:
    from dfm_vla_ros.nodes.recorder import Recorder


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``record``."""
    parser = subparsers.add_parser(
        "record",
        help="a run into a bag",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the bag; must not exist"
    )
    parser.add_argument("--topics", nargs="+", default=[], help="instead of the usual ones")
    parser.add_argument("--duration", type=positive_seconds, help="[s]; default: until Ctrl-C")
    parser.add_argument("--image-transport", choices=("raw", "compressed"), default="raw")
    parser.add_argument("--namespace", default="", help="of the robot")
    parser.add_argument("--use-sim-time", action="store_true", help="time of receipt is /clock's")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Record; the exit status is in the module's docstring."""
    from dfm_vla_ros.nodes.lifecycle import run as run_node
    from dfm_vla_ros.nodes.recorder import Recorder

    made: list[Recorder] = []

    def make() -> Recorder:
        made.append(Recorder())
        print(f"recording to {options.out}; Ctrl-C ends it", flush=True)
        return made[0]

    status = run_node(make, _arguments(options))
    if status or not made:
        return status or 1
    return _summarise(made[0])


def _arguments(options: argparse.Namespace) -> list[str]:
    """Return the node's arguments."""
    from dfm_vla_ros.graph.processes import node_arguments

    values = {
        "folder": options.out,
        "topics": options.topics or [""],
        "image_transport": options.image_transport,
        "duration": float(options.duration or 0.0),
        "report": True,
        "use_sim_time": options.use_sim_time,
    }
    words = node_arguments(values)
    namespace = options.namespace.strip("/")
    return [*words, "-r", f"__ns:=/{namespace}"] if namespace else words


def _summarise(recorder: Recorder) -> int:
    """Print what was recorded; 1 if something is missing."""
    if sys.stdout.isatty():
        print()  # after the line that shows the rates
    counts = recorder.bag.counts
    width = max(map(len, counts), default=0)
    for topic, count in sorted(counts.items()):
        print(f"{topic:{width}}  {count:8d}")
    size = sum(file.stat().st_size for file in recorder.folder.iterdir())
    print(f"{sum(counts.values())} messages, {size / 1e6:.1f} MB in {recorder.folder}")
    unheard = recorder.unheard()
    if unheard:
        print(f"never heard, and convert needs it: {'; '.join(unheard)}")
    return 1 if unheard else 0
