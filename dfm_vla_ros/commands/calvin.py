"""``dfm-vla calvin``: CALVIN's official chains, and a policy evaluated on them."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.options import hardware, positive_count, seed, versions

if TYPE_CHECKING:
    from dfm_vla_ros.benchmarks.calvin.evaluation import Installation, Plan
    from dfm_vla_ros.benchmarks.calvin.sequences import Chain


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
    import json

    from dfm_vla_ros.benchmarks.calvin import sequences

    chains = sequences.official_chains()
    found = sequences.checksum(chains)
    if options.json:
        rows = [[chain.state, list(chain.tasks)] for chain in chains]
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if not options.checksum:
        for number, chain in enumerate(chains):
            print(f"{number:4} {' -> '.join(chain.tasks)}")
    if options.compare:
        others = sequences.read_chains(options.compare)
        rows = sequences.differing_rows(chains, others)
        print(f"{options.compare}: {sequences.checksum(others)}, {len(rows)} rows differ: {rows}")
    print(found)
    return 0 if found == sequences.OFFICIAL else 1


def run_eval(options: argparse.Namespace) -> int:
    """Run the chains that are missing; print a line for each and a table at the end."""
    plan, installation = _plan(options), _installation(options)
    from dfm_vla_ros.benchmarks.calvin.evaluation import encode_film, evaluate, program
    from dfm_vla_ros.benchmarks.calvin.sequences import metrics, table
    from dfm_vla_ros.benchmarks.results import Book, write_result
    from dfm_vla_ros.benchmarks.served import about, policies
    from dfm_vla_ros.benchmarks.simulators import SimulatorPool

    with policies(options.checkpoint, options.policy, options.workers) as addresses:
        policy = about(addresses)
        plan = plan.settled(policy.execute_steps)
        with SimulatorPool(program(installation), len(addresses), options.out) as pool:
            book = Book(options.out, plan.common(policy.checkpoint_hash, pool.about))
            places = book.missing(plan.places(), options.again)
            evaluate(plan, pool, addresses, book, places, _say, encode_film)
    found = metrics(book.episodes, plan.chains)
    about_run = {"calvin": found, "versions": versions(), "hardware": hardware()}
    path = write_result(options.out, book, about_run)
    print(f"{table(found)}\n{plan.protocol.name}, list {book.common['list']}: {path}")
    return 1 if any(episode.error for episode in book.episodes) else 0


def _say(line: str) -> None:
    print(line, flush=True)


def _plan(options: argparse.Namespace) -> Plan:
    from dfm_vla_ros.benchmarks.calvin.evaluation import Plan, find_protocol
    from dfm_vla_ros.benchmarks.calvin.sequences import official_chains, read_chains

    names = ("steps", "replan", "actions", "scene", "renderer", "rendering", "policy_seed")
    changes: dict[str, Any] = {name: getattr(options, name) for name in names}
    protocol = find_protocol(options.preset, **changes)
    cameras = dict(_pair(text) for text in options.camera)
    chains = read_chains(options.list) if options.list else official_chains()
    numbers = _rows(options.chains, chains)
    return Plan(chains, numbers, protocol, options.out / "films", cameras, options.films)


def _pair(text: str) -> tuple[str, str]:
    name, equals, ours = text.partition("=")
    if not (name and equals and ours in ("static", "gripper")):
        raise DfmVlaError(f"--camera {text!r} is none: give NAME=static or NAME=gripper")
    return name, ours


def _rows(text: str, chains: list[Chain]) -> list[int]:
    first, colon, last = text.partition(":")
    try:
        found = list(range(len(chains)))[slice(int(first or 0), int(last or len(chains)))]
    except ValueError:
        found = []
    if not (colon and found):
        raise DfmVlaError(f"--chains {text!r}: give A:B within 0:{len(chains)}, such as 0:100")
    return found


def _installation(options: argparse.Namespace) -> Installation:
    from dfm_vla_ros.benchmarks.calvin.evaluation import Installation
    from dfm_vla_ros.benchmarks.calvin.simulator import check_folder

    given = options.calvin_env or os.environ.get("CALVIN_ENV")
    if not given:
        raise DfmVlaError(
            "where is CALVIN? let CALVIN_ENV name a checkout of github.com/mees/calvin_env, and "
            "CALVIN_PYTHON an interpreter that has pybullet; see docs/benchmarks.md"
        )
    folder = Path(given).resolve()
    check_folder(folder, options.scene or "calvin_scene_D")
    python = options.python or os.environ.get("CALVIN_PYTHON") or sys.executable
    return Installation(Path(python).absolute(), folder)


def run_convert(options: argparse.Namespace) -> int:
    """Add every annotated stretch of the recordings; 0 if there was one."""
    from dfm_vla_ros.benchmarks.calvin.data import convert

    return 0 if convert(options.data, options.out, options.episodes, options.storage, _say) else 1
