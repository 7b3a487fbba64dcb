"""``dfm-vla``: the command line; every file in ``commands/`` adds its subcommand."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import signal
import sys
from collections.abc import Sequence

from dfm_vla_ros import __version__, commands, signals
from dfm_vla_ros.errors import DfmVlaError

# dfm_vla_ros.msg and its like are the only modules of this package that can be missing.
ROS_MODULES = ("rclpy", "dfm_vla_ros", "sensor_msgs", "trajectory_msgs", "rosgraph_msgs")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all subcommands; each sets ``run`` to its function."""
    parser = argparse.ArgumentParser(prog="dfm-vla", description=__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_commands(subparsers, commands.__path__, commands.__name__)
    return parser


def add_commands(
    subparsers: argparse._SubParsersAction, folder: Sequence[str], package: str
) -> None:
    """Let every module in ``folder`` add its parser; modules import heavy things when run."""
    for module in sorted(pkgutil.iter_modules(folder), key=lambda found: found.name):
        importlib.import_module(f"{package}.{module.name}").add_parser(subparsers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; return its exit status (0 only if what was asked for happened)."""
    with signals.noted():
        try:
            status = _run(arguments)
        except KeyboardInterrupt:
            status = 128 + signal.SIGINT
        except BaseException:  # a signal can come out as any exception
            if signals.status() is None:
                raise
            status = 1
        return status and (signals.status() or status)


def _run(arguments: Sequence[str] | None) -> int:
    options = build_parser().parse_args(arguments)
    try:
        status = int(options.run(options) or 0)
        sys.stdout.flush()
        return status
    except DfmVlaError as error:
        print(f"dfm-vla {options.command}: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ROS_MODULES:
            raise
        print(f"dfm-vla {options.command}: needs ROS 2 ({error}): run make setup", file=sys.stderr)
        return 1
    except BrokenPipeError:  # who read the output has gone, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


if __name__ == "__main__":
    sys.exit(main())
