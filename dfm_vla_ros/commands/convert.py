"""``dfm-vla convert``: recordings of a robot or the twin into a LeRobot data set.

Frames are made at the control rate by the time in the messages' headers, by the code through which
the live node sees. Where frames are missing an episode ends and another begins; gaps, clock jumps
and whatever is wrong with a bag are printed by name and time. Killed and started again it goes on.

Exit status 0: every bag was read and gave at least one episode.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dfm_vla_ros.options import positive_count, positive_seconds

if TYPE_CHECKING:
    from dfm_vla_ros.bags.topics import TopicChoice

MEGABYTE = 1e6


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``convert``."""
    parser = subparsers.add_parser(
        "convert",
        help="recordings into a data set",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bags", nargs="+", type=Path, help="rosbag2 folders, or .mcap files")
    parser.add_argument("--out", type=Path, required=True, help="data set; is continued")
    parser.add_argument("--rate", type=positive_count, default=10, help="[Hz] frames a second")
    parser.add_argument(
        "--split",
        default="auto",
        choices=("auto", "goals", "resets", "whole"),
        help="episodes: goals of the policy, resets of the task, or the whole bag; auto: the "
        "first of these that the bag has",
    )
    parser.add_argument("--instruction", default="", help="instead of what the bag says")
    parser.add_argument("--task", default="", help="name; default: the bag's, or the sentence")
    parser.add_argument(
        "--success", action="store_true", help="count episodes as done where nothing tells"
    )
    parser.add_argument("--shortest", type=positive_seconds, default=1.0, help="[s] of an episode")
    parser.add_argument("--storage", choices=("video", "image"), default="video")
    _add_topics(parser)
    parser.set_defaults(run=run)


def _add_topics(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where the bag has other topics")
    group.add_argument(
        "--topic",
        action="append",
        default=[],
        metavar="NAME=TOPIC",
        help="NAME: third, left_wrist, right_wrist, joint_states, commanded_joint_states, ...",
    )
    group.add_argument("--namespace", default="", help="of the topics that are not named")
    group.add_argument(
        "--action-from",
        choices=("commanded_joint_states", "joint_states"),
        default="commanded_joint_states",
        help="joint_states: a robot led by hand, nobody says what is commanded",
    )
    group.add_argument(
        "--arm-joint-names", default="", help="seven names of an arm's driver, by commas"
    )
    group.add_argument("--gripper-scale", type=float, default=1.0, help="see docs/robots.md")


def run(options: argparse.Namespace) -> int:
    """Convert the bags; the exit status is in the module's docstring."""
    from dfm_vla_ros.bags.conversion import Converter, table
    from dfm_vla_ros.bags.episodes import EpisodeSettings

    settings = EpisodeSettings(
        period_s=1 / options.rate,
        split=options.split,
        instruction=options.instruction,
        task=options.task,
        shortest_s=options.shortest,
        success=options.success,
    )
    began = time.monotonic()
    with Converter(
        options.out, options.storage, _topics(options), settings, say=_say
    ) as converter:
        accounts = [converter.convert(path) for path in options.bags]
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        f"{table(accounts)}\n{time.monotonic() - began:.1f} s, of a processor "
        f"{used.ru_utime + used.ru_stime:.1f} s, peak memory "
        f"{used.ru_maxrss * 1024 / MEGABYTE:.0f} MB"
    )
    good = all(a.added + a.known and not a.refused for a in accounts)
    return 0 if good else 1


def _say(line: str) -> None:
    print(line, flush=True)


def _topics(options: argparse.Namespace) -> TopicChoice:
    """Return what the options say of topics."""
    from dfm_vla_ros.bags.topics import TopicChoice
    from dfm_vla_ros.errors import BagError

    given = {}
    for text in options.topic:
        name, equals, topic = text.partition("=")
        if not (equals and name and topic):
            raise BagError(f"--topic {text!r} is none: give NAME=TOPIC, e.g. third=/camera/image")
        given[name] = topic if topic.startswith("/") else f"/{topic}"
    names = [name.strip() for name in options.arm_joint_names.split(",") if name.strip()]
    driver = {"arm_joint_names": names or [""], "gripper_scale": options.gripper_scale}
    return TopicChoice(given, options.namespace, options.action_from, driver)
