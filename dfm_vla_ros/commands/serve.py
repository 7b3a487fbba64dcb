"""``dfm-vla serve``: a checkpoint for simulators and programs in other environments.

Clients are ``dfm_vla_ros.remote.client.PolicyClient`` and openpi's client: the wire format is
openpi's. docs/benchmarks.md has the protocol.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from dfm_vla_ros.options import positive_count
from dfm_vla_ros.remote.protocol import DEFAULT_ADDRESS


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``serve``."""
    parser = subparsers.add_parser(
        "serve",
        help="answer programs in other environments from a checkpoint",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", type=Path, help="folder; default: the shipped one")
    parser.add_argument(
        "--address",
        default=DEFAULT_ADDRESS,
        help="HOST:PORT, port 0 for any, or the path of a socket (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-remote",
        action="store_true",
        help="let other machines connect; nothing is encrypted and nobody is asked who they are",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=positive_count, default=1, help="of the CPU")
    parser.add_argument("--steps", type=int, help="refinement steps instead of the checkpoint's")
    parser.add_argument("--validation", type=int, help="validation steps, likewise")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM."""
    from concurrent.futures import ThreadPoolExecutor

    from dfm_vla_ros.policy.policy import Policy
    from dfm_vla_ros.policy.serving import about, answering
    from dfm_vla_ros.remote.server import PolicyServer, serve_until_signal
    from dfm_vla_ros.resources import resource_path

    folder = options.checkpoint or resource_path("checkpoints/default")
    given = (folder, options.device, options.threads, options.steps, options.validation)
    # torch's number of threads holds in the thread that sets it.
    thread = ThreadPoolExecutor(1, thread_name_prefix="policy")
    policy = thread.submit(Policy.load, *given).result()
    say = partial(print, flush=True)
    server = PolicyServer(
        answering(policy),
        about(policy),
        options.address,
        allow_remote=options.allow_remote,
        thread=thread,
        log=say,
    )
    say(f"{policy.checkpoint_hash[:12]} is served at {server.address}")
    serve_until_signal(server)
