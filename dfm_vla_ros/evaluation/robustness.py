"""Episodes of many conditions: kept as they end, counted, compared with the clean ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dfm_vla_ros.evaluation.motion import MotionRecord
from dfm_vla_ros.evaluation.runner import EpisodeResult, summarise
from dfm_vla_ros.evaluation.statistics import ComparisonError, Paired, holm, paired
from dfm_vla_ros.files import Book
from dfm_vla_ros.robot.joints import CAMERAS
from dfm_vla_ros.sim.perturbations import NONE, PERTURBATIONS, PLAIN_SETTING, Setting

CLEAN = "clean"
WRONG_SENTENCE = {"pot_lift": "place_block", "place_block": "pot_lift", "place_veg": "pot_lift"}
"""Task -> the one whose sentence is said: of one arm instead of both, or both instead of one."""


@dataclass(frozen=True)
class Condition:
    """One row of the table.

    Attributes:
        setting: of the twin.
        dark_cameras: that see black.
    """

    setting: Setting = PLAIN_SETTING
    dark_cameras: tuple[str, ...] = ()


def conditions(task: str) -> dict[str, Condition]:
    """Return name -> condition for a task, :data:`CLEAN` first."""
    told, perturbations = WRONG_SENTENCE[task], [name for name in PERTURBATIONS if name != NONE]
    return {
        CLEAN: Condition(),
        f"told_{told}": Condition(Setting(instruction_of=told)),
        **{name: Condition(Setting(perturbation=name)) for name in perturbations},
        "third_black": Condition(dark_cameras=("third",)),
        "all_black": Condition(dark_cameras=CAMERAS),
        "held_out": Condition(Setting(phrasing="held_out")),
    }


EPISODES = "episodes.jsonl"
Job = tuple[str, str, int]
"""Condition, task, seed."""
Outcome = EpisodeResult | str
"""How an episode went, or what went wrong."""


class ConditionBook(Book):
    """What is known of every episode, in a file that survives an interruption.

    Attributes:
        outcomes: of each job that has ended.
    """

    def __init__(self, folder: Path, common: Mapping[str, Any]) -> None:
        """Open ``folder``, or begin it.

        Raises:
            BookError: its episodes are of something else than ``common``.
        """
        super().__init__(folder / EPISODES, common)
        self.outcomes: dict[Job, Outcome] = {
            (row["condition"], row["task"], row["seed"]): row.get("error")
            or _result(row["result"])
            for row in self.rows
        }

    def keep(self, job: Job, outcome: Outcome) -> None:
        """Keep how an episode went."""
        row: dict[str, Any] = dict(zip(("condition", "task", "seed"), job, strict=True))
        row |= {"error": outcome} if isinstance(outcome, str) else {"result": asdict(outcome)}
        self.add(row)
        self.outcomes[job] = outcome

    def rows_of(self, condition: str, seeds: Iterable[int]) -> list[dict[str, Any]]:
        """Return the row of each task of a condition, as in a result of ``dfm-vla eval``."""
        wanted = set(seeds)
        found: dict[str, dict[int, Outcome]] = {}
        for (name, task, seed), outcome in self.outcomes.items():
            if name == condition and seed in wanted:
                found.setdefault(task, {})[seed] = outcome
        return [
            summarise(
                task,
                [each for each in outcomes.values() if not isinstance(each, str)],
                {seed: each for seed, each in outcomes.items() if isinstance(each, str)},
            )
            for task, outcomes in found.items()
        ]


def table(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return lines of Markdown: each condition beside the clean one, p-values after Holm.

    Args:
        results: condition -> result, :data:`CLEAN` among them.
    """
    rows = [(name, row) for name, result in results.items() for row in result["tasks"]]
    rows.sort(key=lambda found: found[1]["task"])
    pairs = [_pair(results[CLEAN], row) if name != CLEAN else None for name, row in rows]
    corrected = iter(holm([pair.p_value for pair in pairs if pair is not None]))
    return [
        "| task | condition | successes | 95% | median | only clean, only this | p (Holm) "
        "| arms that moved |",
        "|---|---|---|---|---|---|---|---|",
        *(
            _line(name, row, pair, next(corrected) if pair else 1.0)
            for (name, row), pair in zip(rows, pairs, strict=True)
        ),
    ]


def _pair(clean: Mapping[str, Any], row: Mapping[str, Any]) -> Paired | None:
    """Return the comparison of a task's row with the clean one, if they have seeds in common."""
    same = [other for other in clean["tasks"] if other["task"] == row["task"]]
    try:
        return paired({"tasks": same}, {"tasks": [row]})[0]
    except ComparisonError:
        return None


def _line(name: str, row: Mapping[str, Any], pair: Paired | None, p_holm: float) -> str:
    done, ended = row["successes"], row["successes"] + row["failures"]
    low, high = row["interval"]
    median = row["median_success_s"]
    cells = [
        row["task"],
        name,
        f"{done}/{ended}" + (f", {row['errors']} errors" if row["errors"] else ""),
        f"{100 * low:.0f} to {100 * high:.0f}",
        "" if median is None else f"{median:.1f} s",
        "" if pair is None else f"{pair.only_a}, {pair.only_b}",
        "" if pair is None else f"{p_holm:.2g}",
        ", ".join(f"{arms} {count}" for arms, count in sorted(row["arms_moved"].items())),
    ]
    if row["mean_other_progress"] is not None:
        cells[1] += f" (did it: {row['others']})"
    return f"| {' | '.join(cells)} |"


def _result(values: dict[str, Any]) -> EpisodeResult:
    changed = {"motion": MotionRecord(**values["motion"]), "moved": tuple(values["moved"])}
    return EpisodeResult(**(values | changed))
