"""A report as one HTML file that asks nothing of the network."""

from __future__ import annotations

import html
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from dfm_vla_ros.report.cameras import compare
from dfm_vla_ros.report.content import ReplayRun, Report, ReportError
from dfm_vla_ros.report.figures import figures_of
from dfm_vla_ros.report.following import following
from dfm_vla_ros.report.packing import Packer, script_json
from dfm_vla_ros.report.pictures import Picture
from dfm_vla_ros.report.remarks import remarks

SCRIPTS = (
    "dom.js",
    "data.js",
    "scale.js",
    "tooltip.js",
    "lines.js",
    "bars.js",
    "matrix.js",
    "cursor.js",
    "joints.js",
    "refinement.js",
    "cameras.js",
    "replay.js",
    "evaluation.js",
    "main.js",
)
"""Of the page, in the order in which they stand in it."""


def write_report(report: Report, path: Path | str) -> int:
    """Write a page and return its size [bytes].

    Raises:
        ReportError: the folder cannot be written to, or the content cannot be packed.
    """
    path = Path(path)
    content = page(report).encode("utf-8")
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise ReportError(f"{path} cannot be written: {error.strerror}; choose another") from error
    return len(content)


def page(report: Report) -> str:
    """Return a report as HTML."""
    packer = Packer()
    data = {
        "title": report.title,
        "facts": packer.pack(report.facts),
        "replays": [_replay(packer, run) for run in report.replays],
        "evaluations": packer.pack(report.evaluations),
    }
    parts = {
        "title": html.escape(report.title),
        "style": _source("style.css"),
        "script": "\n".join(_source(name) for name in SCRIPTS),
        "data": script_json(data),
        "arrays": packer.arrays(),
        "files": packer.files(),
    }
    pieces = _source("page.html").split("@@")
    # Every other piece of the template is the name of a part.
    return "".join(parts[piece] if odd % 2 else piece for odd, piece in enumerate(pieces))


def _replay(packer: Packer, run: ReplayRun) -> dict[str, Any]:
    figures, comparison = figures_of(run), compare(run.samples, run.references)
    packed = packer.pack(run)
    packed["samples"] = {
        camera: packer.pack(Picture.of(image)) for camera, image in run.samples.items()
    }
    for target, reference in zip(packed["references"], run.references, strict=True):
        target["image"] = packer.pack(Picture.of(reference.image))
    packed["figures"] = packer.pack(figures)
    packed["comparison"] = packer.pack(comparison)
    moving = following(run)
    packed["following"] = packer.pack(moving)
    packed["remarks"] = list(remarks(run, figures, comparison, moving))
    return packed


def _source(name: str) -> str:
    return (files("dfm_vla_ros.report") / "page" / name).read_text(encoding="utf-8")
