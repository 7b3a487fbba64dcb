"""The folder of an evaluation: page, table of episodes, films of successes and of failures."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.report.content import EpisodeRow, EvaluationRun, Film, Report, TaskRow
from dfm_vla_ros.report.page import write_report

PAGE, RESULT, TABLE, FILMS = "index.html", "result.json", "episodes.csv", "films"
SHOWN = {"failure": 4, "success": 2}
"""Films of each task in the page."""
LARGEST_FILMS = 5_000_000
"""Bytes of films in the page; the others lie beside it."""
COLUMNS = (
    "task", "seed", "outcome", "progress", "seconds", "chunks", "refused", "inference_s", "remark",
)  # fmt: skip

Films = Mapping[tuple[str, int], Film]
"""(task, seed) -> what the cameras saw."""


class ResultError(DfmVlaError):
    """A file that does not hold the result of an evaluation."""


def evaluation_run(name: str, content: Mapping[str, Any]) -> EvaluationRun:
    """Return a result, as ``dfm-vla eval --json`` writes it, as the page shows it."""
    tasks = tuple(
        TaskRow(
            row["task"],
            row["successes"],
            row["successes"] + row["failures"],
            row["errors"],
            *row["interval"],
            row.get("instruction", ""),
        )
        for row in content["tasks"]
    )
    episodes = tuple(episode for row in content["tasks"] for episode in _episodes(row))
    return EvaluationRun(name, tasks, episodes, _facts(content))


def read_result(path: Path) -> EvaluationRun:
    """Return the result in a file of ``dfm-vla eval --json``, named after the file.

    Raises:
        ResultError: it is not one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        name = path.parent.name if path.name == RESULT else path.stem
        return evaluation_run(name, content)
    except OSError as error:
        raise ResultError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultError(
            f"{path} does not hold the result of an evaluation ({error!r}): give what "
            "dfm-vla eval --json or --report wrote"
        ) from error


def write_folder(
    folder: Path,
    name: str,
    content: Mapping[str, Any],
    films: Films,
    others: Sequence[EvaluationRun] = (),
) -> Path:
    """Write page, result, table and films; return the page's path.

    Args:
        folder: made if need be.
        name: of the run in the plots.
        content: the result, as it is written for machines.
        films: of any episodes.
        others: shown beside it.

    Raises:
        ReportError: the page cannot be written.
    """
    (folder / FILMS).mkdir(parents=True, exist_ok=True)
    run = evaluation_run(name, content)
    run = replace(run, episodes=tuple(_with_film(folder, row, films) for row in run.episodes))
    text = json.dumps(content, indent=1) + "\n"
    (folder / RESULT).write_text(text, encoding="utf-8")
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        rows.writerows([getattr(row, column) for column in COLUMNS] for row in run.episodes)
    shown = replace(run, episodes=_chosen(run.episodes))
    write_report(Report(f"Evaluation of {name}", evaluations=(shown, *others)), folder / PAGE)
    return folder / PAGE


def _with_film(folder: Path, row: EpisodeRow, films: Films) -> EpisodeRow:
    film = films.get((row.task, row.seed))
    if film is None:
        return row
    link = f"{FILMS}/{row.task}_{row.seed}_{row.outcome}.mp4"
    (folder / link).write_bytes(film.data)
    return replace(row, film=film, link=link)


def _chosen(rows: Sequence[EpisodeRow]) -> tuple[EpisodeRow, ...]:
    """Return the rows, with the films that go into the page only: of each task and outcome."""
    left, size = {}, 0
    shown = []
    for row in rows:
        key = (row.task, row.outcome)
        left.setdefault(key, SHOWN.get(row.outcome, 0))
        film = row.film
        if film is not None and left[key] and size + len(film.data) <= LARGEST_FILMS:
            left[key] -= 1
            size += len(film.data)
        else:
            film = None
        shown.append(replace(row, film=film))
    return tuple(shown)


def _episodes(task: Mapping[str, Any]) -> list[EpisodeRow]:
    rows = [
        EpisodeRow(
            task["task"],
            result["seed"],
            "success" if result["success"] else "failure",
            result["progress"],
            result["seconds"],
            result["chunks"],
            result["refused"],
            result["inference_s"],
            ", ".join(f"{name} x {count}" for name, count in result["verdicts"].items()),
        )
        for result in task["results"]
    ]
    messages = task.get("messages", {}).items()
    return rows + [
        EpisodeRow(task["task"], int(seed), "error", 0.0, 0.0, remark=message)
        for seed, message in messages
    ]


def _facts(content: Mapping[str, Any]) -> dict[str, str]:
    facts = {"checkpoint": content["checkpoint"], "first seed": content["seed"]}
    for part in ("decoder", "loop", "versions"):
        facts |= content[part]
    facts |= content.get("setting", {})
    facts["black cameras"] = ", ".join(content["black_cameras"]) or "none"
    return {name: str(value) for name, value in facts.items()}
