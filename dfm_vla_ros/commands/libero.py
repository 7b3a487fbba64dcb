"""``dfm-vla libero``: the suites, their assets, an evaluation, and playing recorded actions again.

The simulator has an environment of its own (make libero-env); docs/benchmarks.md has the rest.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfm_vla_ros.options import hardware, positive_count, positive_seconds, versions

if TYPE_CHECKING:
    from dfm_vla_ros.benchmarks.libero.evaluation import LiberoPlan

PAPER_SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``libero`` and its commands."""
    parser = subparsers.add_parser("libero", help="LIBERO: evaluate, replay, check its files")
    commands = parser.add_subparsers(dest="libero", required=True, metavar="COMMAND")
    adding: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
        "suites": (_add_suites, "tasks and stored states of an installation"),
        "assets": (_add_assets, "whether meshes and textures are there"),
        "presets": (_add_presets, "protocols and variations, with all their settings"),
        "eval": (_add_eval, "success of a policy"),
        "replay": (_add_replay, "play recorded actions, and compare the states with last time's"),
        "convert": (_add_convert, "demonstrations (HDF5) into a data set"),
    }
    for name, (add, words) in adding.items():
        add(commands.add_parser(name, help=words))


def _add_suites(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tasks", action="store_true", help="list every task")
    parser.set_defaults(run=run_suites)


def _add_assets(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run_assets)


def _add_presets(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run_presets)


def _add_eval(parser: argparse.ArgumentParser) -> None:
    which = parser.add_argument_group("which policy")
    which.add_argument("--checkpoint", type=Path, help="folder; is served to every worker")
    which.add_argument(
        "--policy",
        nargs="+",
        default=[],
        metavar="ADDRESS",
        help="or addresses of dfm-vla serve, one for each worker",
    )
    which.add_argument("--device", default="cpu", help="of --checkpoint: cpu or cuda")
    which.add_argument(
        "--camera",
        action="append",
        default=[],
        metavar="NAME=LIBERO",
        help="the policy's camera NAME is LIBERO's agentview or eye_in_hand",
    )
    _add_scenes(parser)
    parser.add_argument("--workers", type=positive_count, default=1, help="simulators at once")
    parser.add_argument("--out", type=Path, required=True, help="folder; an earlier run goes on")
    parser.add_argument("--again", action="store_true", help="repeat what ended in an error")
    parser.add_argument("--films", type=int, default=0, help="episodes of each task to film")
    parser.add_argument(
        "--limit", type=positive_seconds, default=3600.0, help="[s] an episode; longer: an error"
    )
    parser.set_defaults(run=run_eval)


def _add_scenes(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which episodes, and how")
    group.add_argument("--preset", default="openpi", help="see dfm-vla libero presets")
    group.add_argument("--suite", nargs="+", default=list(PAPER_SUITES))
    group.add_argument("--task", nargs="+", type=int, help="indices; default: all of a suite")
    group.add_argument("--episodes", type=positive_count, help="stored states of each task")
    group.add_argument("--replan", type=positive_count, help="steps of a chunk that are executed")
    group.add_argument(
        "--on-demand",
        action="store_true",
        help="render only what the policy looks at: the same states and images, sooner",
    )
    group.add_argument("--each", action="store_true", help="seed each episode, not each task")
    group.add_argument("--variation", default="", help="see dfm-vla libero presets")
    group.add_argument("--definitions", type=Path, help="folder libero_ood of LIBERO-PRO")


def _add_replay(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("actions", type=Path, help="(T, 7) in .npy, as the simulator takes them")
    parser.add_argument("--suite", required=True)
    parser.add_argument("--task", type=int, required=True)
    parser.add_argument("--number", type=int, default=0, help="stored state")
    parser.add_argument("--preset", default="openpi")
    parser.add_argument("--times", type=positive_count, default=2)
    parser.add_argument("--on-demand", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder for actions, states and frames")
    parser.add_argument("--limit", type=positive_seconds, default=3600.0, help="[s] an episode")
    parser.set_defaults(run=run_replay)


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", type=Path, nargs="+", help="*_demo.hdf5")
    parser.add_argument("--out", type=Path, required=True, help="data set; is continued")
    parser.add_argument("--storage", choices=("video", "image"), default="video")
    parser.add_argument(
        "--seen",
        choices=("after", "before"),
        default="after",
        help="frame t shows the world after action t, as in LIBERO's own files, or before",
    )
    parser.add_argument("--as-stored", action="store_true", help="do not turn images by 180")
    parser.set_defaults(run=run_convert)


def run_suites(options: argparse.Namespace) -> int:
    """Count scenes and stored states; 1 if one is missing."""
    from dfm_vla_ros.benchmarks.libero.suites import count_suites, find_installation

    return int(not count_suites(find_installation(), options.tasks, _say))


def run_assets(options: argparse.Namespace) -> int:
    """List what is missing or different; 1 if something is missing."""
    from dfm_vla_ros.benchmarks.libero.suites import check_assets, find_installation

    report = check_assets(find_installation().assets)
    for line in report.lines():
        print(line)
    return int(bool(report.missing))


def run_presets(options: argparse.Namespace) -> int:
    """Print every preset."""
    from dfm_vla_ros.benchmarks.evaluation import presets
    from dfm_vla_ros.benchmarks.libero import LiberoProtocol
    from dfm_vla_ros.benchmarks.libero.scenes import SceneVariation

    for name, protocol in presets(LiberoProtocol).items():
        print(f"{name}:")
        for key, value in asdict(protocol).items():
            print(f"  {key}: {value}")
    print("variations:", ", ".join(presets(SceneVariation)))
    return 0


def run_eval(options: argparse.Namespace) -> int:
    """Run the episodes that are missing; 1 if one ended in an error."""
    from dfm_vla_ros.benchmarks.evaluation import evaluate
    from dfm_vla_ros.benchmarks.libero.evaluation import program
    from dfm_vla_ros.benchmarks.libero.suites import find_installation, require_assets
    from dfm_vla_ros.benchmarks.processes import served_policies
    from dfm_vla_ros.benchmarks.results import markdown, success_rows

    installation = find_installation()
    assets = require_assets(installation)
    if assets.different:
        print(f"{len(assets.different)} assets are not as published: the result says so")
    plan = _plan(options, installation)
    workers = len(options.policy) or options.workers
    about = {"assets": assets.record(), "versions": versions(), "hardware": hardware()}
    device = ("--device", options.device)
    with served_policies(options.checkpoint, options.policy, workers, device) as addresses:
        book = evaluate(
            plan, program(installation), addresses, about, options.limit, options.again, _say
        )
    print("\n".join(markdown(success_rows(book.episodes))))
    return int(bool(book.errors))


def _plan(options: argparse.Namespace, installation: Any) -> LiberoPlan:
    from dfm_vla_ros.benchmarks.evaluation import find_preset, read_cameras
    from dfm_vla_ros.benchmarks.libero import CAMERAS, LiberoProtocol
    from dfm_vla_ros.benchmarks.libero.evaluation import (
        LiberoPlan,
        changed_plan,
        find_variation,
    )
    from dfm_vla_ros.benchmarks.libero.suites import choose_tasks

    protocol = find_preset(
        LiberoProtocol,
        options.preset,
        episodes=options.episodes,
        replan=options.replan,
        rendering="on_demand" if options.on_demand else None,
        reseed="episode" if options.each else None,
    )
    plan = LiberoPlan(
        protocol=protocol,
        folder=options.out,
        cameras=read_cameras(options.camera, CAMERAS),
        films=options.films,
        tasks=choose_tasks(installation, options.suite, options.task),
        variation=find_variation(options.variation),
    )
    return changed_plan(plan, options.definitions, _say)


def run_replay(options: argparse.Namespace) -> int:
    """Play the actions; 0 only if they succeed and the states are the same every time."""
    from dfm_vla_ros.benchmarks.evaluation import find_preset
    from dfm_vla_ros.benchmarks.libero import LiberoProtocol
    from dfm_vla_ros.benchmarks.libero.evaluation import LiberoPlan, replay
    from dfm_vla_ros.benchmarks.libero.suites import (
        choose_tasks,
        find_installation,
        require_assets,
    )

    installation = find_installation()
    require_assets(installation)
    rendering = "on_demand" if options.on_demand else None
    plan = LiberoPlan(
        protocol=find_preset(LiberoProtocol, options.preset, rendering=rendering),
        folder=options.actions.parent,
        tasks=choose_tasks(installation, [options.suite], [options.task]),
    )
    same = replay(
        installation,
        plan,
        options.number,
        options.actions,
        options.times,
        options.limit,
        options.keep,
        _say,
    )
    return int(not same)


def run_convert(options: argparse.Namespace) -> int:
    """Add every demonstration that is not there yet."""
    from dfm_vla_ros.benchmarks.libero.data import convert

    added, known = convert(
        options.files,
        options.out,
        options.storage,
        seen=options.seen,
        turn=not options.as_stored,
    )
    print(f"{options.out}: {added} demonstrations added, {known} were there")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)
