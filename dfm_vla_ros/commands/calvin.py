"""``dfm-vla calvin``: CALVIN's official chains, and a policy evaluated on them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm_vla_ros.options import hardware, positive_count, seed, versions

if TYPE_CHECKING:
    from dfm_vla_ros.benchmarks.calvin.evaluation import CalvinPlan


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``calvin`` and its commands."""
    parser = subparsers.add_parser("calvin", help="CALVIN: chains of tasks, evaluation, data")
    commands = parser.add_subparsers(dest="calvin", required=True, metavar="COMMAND")
    _add_sequences(commands)
    _add_eval(commands)
    _add_convert(commands)


def _add_sequences(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("sequences", help="make the official list of 1000 chains anew")
    parser.add_argument("--checksum", action="store_true", help="print the checksum alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the list there")
    parser.add_argument(
        "--compare", type=Path, metavar="FILE", help="name the rows where a published list differs"
    )
    parser.set_defaults(run=run_sequences)


def _add_eval(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "eval", help="evaluate a policy in calvin_env; docs/benchmarks.md says how to get it"
    )
    parser.add_argument("--checkpoint", type=Path, help="folder; is served to each simulator")
    parser.add_argument("--policy", nargs="+", default=[], help="instead: addresses of servers")
    parser.add_argument("--out", type=Path, required=True, help="results; is continued")
    parser.add_argument("--calvin-env", type=Path, help="checkout; default: $CALVIN_ENV")
    parser.add_argument("--python", type=Path, help="that has PyBullet; default: $CALVIN_PYTHON")
    parser.add_argument("--preset", default="official", help="see config/benchmarks/calvin")
    parser.add_argument("--list", type=Path, help="chains, JSON; default: the official ones")
    parser.add_argument("--chains", default=":", metavar="A:B", help="rows; default: all")
    parser.add_argument("--workers", type=positive_count, default=1, help="simulators")
    parser.add_argument("--again", action="store_true", help="also what ended in an error")
    parser.add_argument("--films", type=int, default=0, help="film that many chains")
    parser.add_argument(
        "--camera", action="append", default=[], metavar="NAME=OURS", help="OURS: static, gripper"
    )
    group = parser.add_argument_group("instead of the preset's; the result says so")
    group.add_argument("--steps", type=positive_count, help="most of a task")
    group.add_argument("--replan", type=positive_count, help="steps before the policy looks again")
    group.add_argument("--actions", choices=("relative", "absolute"))
    group.add_argument("--scene", help="of calvin_env's conf/scene")
    group.add_argument("--renderer", choices=("egl", "tiny"))
    group.add_argument("--rendering", choices=("always", "on_demand"))
    group.add_argument("--policy-seed", type=seed)
    parser.set_defaults(run=run_eval)


def _add_convert(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser("convert", help="CALVIN's recordings into a data set to train on")
    parser.add_argument("data", type=Path, help="folder with episode_*.npz, such as training/")
    parser.add_argument("--out", type=Path, required=True, help="data set; is continued")
    parser.add_argument("--episodes", type=positive_count, help="no more than these")
    parser.add_argument("--storage", choices=("video", "image"), default="video")
    parser.set_defaults(run=run_convert)


def run_sequences(options: argparse.Namespace) -> int:
    """Print the chains, and last their checksum; 1 if it is not the official one."""
    from dfm_vla_ros.benchmarks.calvin import tasks
    from dfm_vla_ros.files import write_json

    chains = tasks.official_chains()
    found = tasks.checksum(chains)
    if options.json:
        write_json(options.json, tasks.rows_of(chains))
    if not options.checksum:
        for number, chain in enumerate(chains):
            print(f"{number:4} {' -> '.join(chain.tasks)}")
    if options.compare:
        others = tasks.read_chains(options.compare)
        rows = tasks.differing_rows(chains, others)
        print(f"{options.compare}: {tasks.checksum(others)}, {len(rows)} rows differ: {rows}")
    print(found)
    return 0 if found == tasks.OFFICIAL else 1


def run_eval(options: argparse.Namespace) -> int:
    """Run the chains that are missing; print a line for each and a table at the end."""
    from dfm_vla_ros.benchmarks.calvin.evaluation import find_program, table
    from dfm_vla_ros.benchmarks.evaluation import evaluate
    from dfm_vla_ros.benchmarks.processes import served_policies

    plan = _plan(options)
    program = find_program(options.calvin_env, options.python, plan.protocol.scene)
    about = {"versions": versions(), "hardware": hardware()}
    with served_policies(options.checkpoint, options.policy, options.workers) as addresses:
        book = evaluate(plan, program, addresses, about, plan.limit_s, options.again, _say)
    print(table(plan.figures(book.episodes)["calvin"]))
    print(f"{plan.protocol.name}, list {book.common['list']}")
    return int(bool(book.errors))


def _say(line: str) -> None:
    print(line, flush=True)


def _plan(options: argparse.Namespace) -> CalvinPlan:
    from dfm_vla_ros.benchmarks.calvin import CAMERAS, CalvinProtocol
    from dfm_vla_ros.benchmarks.calvin.evaluation import CalvinPlan, parse_rows
    from dfm_vla_ros.benchmarks.calvin.tasks import official_chains, read_chains
    from dfm_vla_ros.benchmarks.evaluation import find_preset, read_cameras

    names = ("steps", "replan", "actions", "scene", "renderer", "rendering", "policy_seed")
    changes: dict[str, Any] = {name: getattr(options, name) for name in names}
    protocol = find_preset(CalvinProtocol, options.preset, **changes)
    cameras = read_cameras(options.camera, CAMERAS)
    chains = read_chains(options.list) if options.list else official_chains()
    return CalvinPlan(
        protocol=protocol,
        folder=options.out,
        cameras=cameras,
        films=options.films,
        chains=chains,
        numbers=parse_rows(options.chains, len(chains)),
    )


def run_convert(options: argparse.Namespace) -> int:
    """Add every annotated stretch of the recordings; 0 if there was one."""
    from dfm_vla_ros.benchmarks.calvin.data import convert

    return 0 if convert(options.data, options.out, options.episodes, options.storage, _say) else 1
