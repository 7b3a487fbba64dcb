"""``dfm-vla bench study``: variants trained and run alike, as a table."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dfm_vla_ros.options import hardware, positive_count, versions

if TYPE_CHECKING:
    from dfm_vla_ros.evaluation.robustness import ConditionBook
    from dfm_vla_ros.studies.schema import Study
    from dfm_vla_ros.studies.table import RowResult
    from dfm_vla_ros.studies.timing import Timing
    from dfm_vla_ros.studies.variants import Variant

TABLE, RESULT = "table.md", "result.json"


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``study``."""
    parser = subparsers.add_parser(
        "study",
        help="train and run variants alike: decoders, steps, paths, data, horizons",
        description="Make the table of a file of config/studies: train what its rows need, run "
        "the episodes, compare with the first row on equal seeds. Given again, it goes on.",
    )
    parser.add_argument("study", type=Path, help="YAML file")
    parser.add_argument("--out", type=Path, required=True, help="folder; is continued")
    parser.add_argument(
        "--runs",
        type=Path,
        help="folder of training runs, which studies may share; default: OUT/runs",
    )
    parser.add_argument("--workers", type=positive_count, default=2, help="processes")
    parser.add_argument("--only", choices=("train", "run"), help="stop after, or without training")
    parser.add_argument("--rounds", type=int, default=40, help="chunks to time; 0: none")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do what is missing, write the table, print it."""
    from dfm_vla_ros.resources import resource_path
    from dfm_vla_ros.studies.running import open_book, run_missing, train_missing
    from dfm_vla_ros.studies.schema import load_study
    from dfm_vla_ros.studies.variants import variants

    study = load_study(options.study)
    found = variants(
        study, options.runs or options.out / "runs", resource_path("checkpoints/default")
    )
    if options.only != "run":
        for folder in train_missing(found, options.workers):
            print(f"trained: {folder}", flush=True)
    if options.only == "train":
        return 0
    books = [open_book(variant, options.out) for variant in found]
    for (index, task, seed), outcome in run_missing(study, found, books, options.workers):
        said = outcome if isinstance(outcome, str) else outcome.ended
        print(f"{found[index].row}, {found[index].seed}, {task} {seed}: {said}", flush=True)
    return _write(options, study, found, books)


def _write(
    options: argparse.Namespace,
    study: Study,
    variants: Sequence[Variant],
    books: Sequence[ConditionBook],
) -> int:
    """Write table and result; return 1 if an episode ended in an error."""
    from dfm_vla_ros.studies.running import write_json
    from dfm_vla_ros.studies.schema import content
    from dfm_vla_ros.studies.table import as_json, markdown

    rows = _rows(study, variants, books, _timings(options, study, variants))
    lines = markdown(rows)
    (options.out / TABLE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    about = {"study": content(study), "versions": versions(), "hardware": hardware()}
    write_json(options.out / RESULT, {**about, "rows": as_json(rows)})
    print("\n".join(lines))
    return 1 if any(row.errors for row in rows) else 0


def _timings(
    options: argparse.Namespace, study: Study, variants: Sequence[Variant]
) -> dict[str, Timing]:
    """Return row -> timing of its first network."""
    if options.rounds < 1:
        return {}
    from dfm_vla_ros.studies.timing import time_chunks

    first = {variant.row: variant for variant in reversed(variants)}
    chosen = list(first.values())
    found = time_chunks(chosen, study.tasks[0], study.seed, options.rounds)
    return dict(zip(first, found, strict=True))


def _rows(
    study: Study,
    variants: Sequence[Variant],
    books: Sequence[ConditionBook],
    timings: dict[str, Timing],
) -> list[RowResult]:
    from dfm_vla_ros.studies.table import RowResult

    wanted = range(study.seed, study.seed + study.episodes)
    rows = []
    for row in study.rows:
        outcomes = {
            (variant.seed, task, seed): outcome
            for variant, book in zip(variants, books, strict=True)
            if variant.row == row.name
            for (_, task, seed), outcome in book.outcomes.items()
            if seed in wanted and task in study.tasks
        }
        rows.append(RowResult(row.name, outcomes, timings.get(row.name)))
    return rows
