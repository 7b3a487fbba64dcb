"""``dfm-vla bench connection``: what asking a policy in another process costs a call.

A server in a process of its own answers at once, over TCP on this machine and over a local
socket; what a call takes is what the connection adds. Exit status 0: both medians are below 3 ms.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from dfm_vla_ros.options import hardware, positive_count, versions

BOUND_S = 3e-3


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``connection``."""
    parser = subparsers.add_parser(
        "connection",
        help="what asking a policy in another process costs a call",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--calls", type=positive_count, default=500)
    parser.add_argument("--cameras", type=positive_count, default=2, help="images of a request")
    parser.add_argument("--size", type=positive_count, default=256, help="of an image [px]")
    parser.add_argument("--json", type=Path, help="write the result there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    from dfm_vla_ros.remote.overhead import measure, request

    asked = request(options.cameras, options.size)
    with tempfile.TemporaryDirectory() as folder:
        places = {"TCP, loopback": "127.0.0.1:0", "local socket": f"{folder}/policy.sock"}
        found = {name: measure(place, options.calls, asked) for name, place in places.items()}
    what = f"{options.cameras} images of {options.size} px"
    for name, result in found.items():
        print(
            f"{name}: {what}: median {1e3 * result.median_s:.2f} ms a call, "
            f"99% below {1e3 * result.p99_s:.2f} ms ({options.calls} calls)"
        )
    if options.json is not None:
        content = {name: asdict(result) for name, result in found.items()}
        about = {"calls": options.calls, "versions": versions(), "hardware": hardware()}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**about, "overhead": content}, indent=1) + "\n"
        options.json.write_text(text, encoding="utf-8")
    return 0 if all(result.median_s < BOUND_S for result in found.values()) else 1
