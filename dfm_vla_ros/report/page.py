"""Writes a report as one HTML file that asks nothing of the network.

What does not move is markup made by a Jinja template (page/report.html); uPlot (page/vendor/)
draws the plots, and page/report.js moves them.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import ArrayLike, NDArray

from dfm_vla_ros.files import write_bytes
from dfm_vla_ros.report.content import (
    EpisodeRow,
    Film,
    Floats,
    Picture,
    PredictedChunk,
    ReplayRun,
    Report,
    ReportError,
)
from dfm_vla_ros.report.figures import SMALLEST_SPAN, Figures, figures_of, remarks

DIGITS = 5
"""Decimals of the values in plots: hundredths of a millimetre, of a milliradian."""
LEAST_RANGE = {"rad": 0.05, "m": 0.005}
"""A plot of a joint shows at least so much, so that a joint at rest is drawn at rest."""
NOTHING = "\N{EN DASH}"


def write_report(report: Report, path: Path | str) -> int:
    """Write a page and return its size [bytes].

    Raises:
        ReportError: the folder cannot be written to.
    """
    content = page(report).encode("utf-8")
    try:
        write_bytes(Path(path), content)
    except OSError as error:
        raise ReportError(f"{path} cannot be written: {error.strerror}; choose another") from error
    return len(content)


def page(report: Report) -> str:
    """Return a report as HTML."""
    environment = Environment(
        loader=PackageLoader("dfm_vla_ros.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "percent": percent, "percentiles": percentiles}
    assets = Assets()
    return environment.get_template("report.html").render(
        report=report,
        replay=_replay(report.replays, assets) if report.replays else None,
        assets=assets,
        source=_source,
        picture=Picture.of,
        spread=spread,
        kind=_kind,
        place=_place,
    )


def _source(name: str) -> Markup:
    """Return a file of the page's folder as it is."""
    return Markup((files("dfm_vla_ros.report") / "page" / name).read_text(encoding="utf-8"))


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with ``digits`` digits that count."""
    if value is None or not np.isfinite(value):
        return NOTHING
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def percent(share: float) -> str:
    """Return a share as percent."""
    return f"{share:.0%}" if np.isfinite(share) else NOTHING


def _place(share: float) -> float:
    """Return where a share lies on a bar [%]."""
    return round(100 * min(max(share, 0.0), 1.0), 2) if np.isfinite(share) else 0.0


def percentiles(values: Sequence[float], *shares: float) -> list[float | None]:
    """Return percentiles, of nothing None."""
    return np.percentile(values, shares).tolist() if len(values) else [None] * len(shares)


class Assets:
    """Pictures and films, equal ones once, and what the page's script draws."""

    def __init__(self) -> None:
        """Hold nothing."""
        self._files: dict[bytes, tuple[int, str]] = {}
        self._charts: list[dict[str, Any]] = []
        self.runs: list[dict[str, Any]] = []

    def file(self, shown: Picture | Film) -> int:
        """Return the number of a picture or film in the page."""
        return self._files.setdefault(shown.data, (len(self._files), shown.kind))[0]

    def chart(self, title: str, unit: str, x_label: str, x: ArrayLike, **more: Any) -> int:
        """Return the number of a plot; ``more``: see ``drawChart`` in report.js."""
        chart = {"title": f"{title} [{unit}]", "unit": unit, "x_label": x_label}
        self._charts.append(chart | {"x": np.asarray(x)} | more)
        return len(self._charts) - 1

    def title(self, chart: int) -> str:
        """Return the title of a plot."""
        return self._charts[chart]["title"]

    def data(self) -> str:
        """Return plots and runs: JSON, deflated, as base64."""
        content = {"charts": self._charts, "runs": self.runs}
        text = json.dumps(content, default=_plain, separators=(",", ":"), allow_nan=False)
        return base64.b64encode(zlib.compress(text.encode(), 9)).decode()

    def files(self) -> Markup:
        """Return the files as JSON, which holds nothing but base64 and media types."""
        listed = [
            {"kind": kind, "data": base64.b64encode(data).decode()}
            for data, (_, kind) in self._files.items()
        ]
        return Markup(json.dumps(listed))


def _plain(value: Any) -> Any:
    """Return an array as lists; what is not finite becomes null."""
    array = np.asarray(value)
    if array.dtype.kind == "O":
        raise ReportError(f"a {type(value).__name__} cannot be shown; give numbers or text")
    if array.dtype.kind != "f":
        return array.astype(int).tolist()
    rounded = np.round(array.astype(np.float64), DIGITS)
    return np.where(np.isfinite(rounded), rounded, None).tolist()


class RunView(NamedTuple):
    """A run with the name of its colour, its figures, and what stands out."""

    run: ReplayRun
    kind: str
    figures: Figures
    remarks: tuple[str, ...]

    @property
    def mean_errors(self) -> list[float]:
        """Errors of arm joints [rad] and grippers [m], the mean over steps."""
        means = self.figures.by_step[..., 0]
        return [
            row[np.isfinite(row)].mean() if np.isfinite(row).any() else np.nan for row in means
        ]

    @property
    def nearest_commands(self) -> NDArray[np.int64]:
        """Which joint's command each measured joint (D,) is nearest to."""
        return np.argmin(np.nan_to_num(self.figures.distance, nan=np.inf), axis=1)

    def worst_joint(self, row: int) -> str:
        """Return by how much the joint is off whose error is largest for what it moves."""
        errors = np.nan_to_num(self.figures.errors[row])
        shares = errors / np.fmax(self.figures.by_joint[:, 2], SMALLEST_SPAN)
        step, joint = np.unravel_index(np.argmax(shares), shares.shape)
        unit = self.run.units[joint]
        return f"{self.run.joint_names[joint]} off by {number(errors[step, joint])} {unit}"


def _replay(runs: Sequence[ReplayRun], assets: Assets) -> dict[str, Any]:
    """Return what the template needs to show replays."""
    views = []
    for index, run in enumerate(runs):
        figures = figures_of(run)
        views.append(RunView(run, _kind(index), figures, remarks(run, figures)))
    moving = [view for view in views if view.run.chunks]
    assets.runs = [_moving_run(view, assets) for view in moving]
    return {
        "views": views,
        "moving": moving,
        "one_recording": len(_distinct(views, lambda view: view.run.times_s)) == 1,
        "joints": _joint_charts(moving, assets),
        "errors": _error_charts(moving, assets),
        "latency": _latency_chart(moving, assets),
        "changes": _changes_chart(moving, assets),
        "cameras": _distinct(views, lambda view: view.figures.comparison),
        "tracking": _distinct(views, lambda view: view.figures.distance),
        "recordings": _distinct(views, lambda view: view.run.gaps),
    }


def _kind(index: int) -> str:
    return f"run{index % 4}"


def _distinct(views: list[RunView], part: Callable[[RunView], Any]) -> list[RunView]:
    """Return one view of each value: runs on one recording share what was measured."""
    return list({repr(part(view)): view for view in reversed(views)}.values())[::-1]


def _moving_run(view: RunView, assets: Assets) -> dict[str, Any]:
    chunks = zip(view.run.chunks, view.figures.due_s, strict=True)
    return {
        "name": view.run.name,
        "kind": view.kind,
        "joints": view.run.joint_names,
        "chunks": [_moving_chunk(chunk, due_s, assets) for chunk, due_s in chunks],
    }


def _moving_chunk(chunk: PredictedChunk, due_s: Floats, assets: Assets) -> dict[str, Any]:
    said = [f"“{chunk.instruction}”"] if chunk.instruction else []
    said += [f"refused: {chunk.refused}"] if chunk.refused else []
    said += [f"inference {number(1e3 * chunk.inference_s)} ms"]
    trace = chunk.refinement
    return {
        "time_s": float(chunk.time_s),
        "due_s": due_s[: len(chunk.targets)],
        "targets": chunk.targets,
        "text": "; ".join(said),
        "pictures": {camera: assets.file(shown) for camera, shown in chunk.pictures.items()},
        "trace": trace and vars(trace) | {"confidence": np.round(trace.confidence, 3)},
    }


def _joint_charts(views: list[RunView], assets: Assets) -> list[int]:
    charts = []
    for joint, name in enumerate(views[0].run.joint_names if views else ()):
        run, unit = views[0].run, views[0].run.units[joint]
        series = [
            {"name": "commanded", "kind": "recorded", "y": run.commanded[:, joint]},
            {"name": "measured", "kind": "measured", "y": run.measured[:, joint]},
        ]
        predicted = [view.figures.targets[..., joint] for view in views]
        shown = _axis([*(one["y"] for one in series), *predicted], LEAST_RANGE[unit])
        more = {"series": series, "range": shown, "joint": joint, "marks": "time"}
        charts.append(assets.chart(name, unit, "time [s]", run.times_s, **more))
    return charts


def _axis(values: Iterable[Floats], least: float) -> list[float] | None:
    """Return an axis with some room for all that is finite, at least ``least`` long."""
    known = np.concatenate([np.ravel(each) for each in values])
    known = known[np.isfinite(known)]
    if not known.size:
        return None
    low, high = float(known.min()), float(known.max())
    room = max(0.05 * (high - low), (least - (high - low)) / 2)
    return [low - room, high + room]


def _error_charts(views: list[RunView], assets: Assets) -> list[int]:
    charts = []
    for row, (title, unit) in enumerate((("arm joints", "rad"), ("grippers", "m"))):
        series: list[dict[str, Any]] = []
        for view in views:
            mean, low, high = view.figures.by_step[row].T
            if np.isfinite(mean).any():
                part = {"name": view.run.name, "kind": view.kind, "dots": True}
                series.append(part | {"y": mean, "low": low, "high": high})
        if series:
            x = np.arange(1, 1 + max(len(one["y"]) for one in series))
            title = f"Error by step, {title}"
            charts.append(assets.chart(title, unit, "step of the chunk", x, series=series))
    return charts


def _latency_chart(views: list[RunView], assets: Assets) -> int | None:
    chunks = [chunk for view in views for chunk in view.run.chunks]
    if not any(chunk.inference_s > 0 for chunk in chunks):
        return None
    x = np.unique([chunk.time_s for chunk in chunks])
    series: list[dict[str, Any]] = []
    for view in views:
        taken, refused = np.full((2, len(x)), np.nan)
        for chunk in view.run.chunks:
            at = np.searchsorted(x, chunk.time_s)
            taken[at] = 1e3 * chunk.inference_s
            refused[at] = taken[at] if chunk.refused else np.nan
        series.append({"name": view.run.name, "kind": view.kind, "y": taken, "dots": True})
        if np.isfinite(refused).any():
            name = f"{view.run.name}, refused"
            series.append({"name": name, "kind": "alert", "y": refused, "rings": True})
    more = {"series": series, "marks": "time"}
    return assets.chart("Time of a policy call", "ms", "time [s]", x, **more)


def _changes_chart(views: list[RunView], assets: Assets) -> int | None:
    """Plot the token changes by step, mean of all chunks; the script adds the present chunk's."""
    series: list[dict[str, Any]] = []
    for view in views:
        traces = [chunk.refinement for chunk in view.run.chunks if chunk.refinement is not None]
        counts = [trace.jumped.sum(axis=1) for trace in traces]
        steps = range(max((len(count) for count in counts), default=0))
        means = [np.mean([count[step] for count in counts if step < len(count)]) for step in steps]
        if means:
            name = f"{view.run.name}, mean of all chunks"
            series.append({"name": name, "kind": view.kind, "y": np.array(means), "dashed": True})
    if not series:
        return None
    x = np.arange(1, 1 + max(len(one["y"]) for one in series))
    more = {"series": series, "marks": "step"}
    return assets.chart("Token changes per step", "tokens", "refinement step", x, **more)


def spread(rows: Iterable[EpisodeRow], what: str) -> str:
    """Return median and 10th to 90th percentile of one of a task's figures, over its episodes."""
    values = {
        "Time to success [s]": [row.seconds for row in rows if row.outcome == "success"],
        "Time of a policy call [ms]": [1e3 * r.inference_s for r in rows if r.outcome != "error"],
        "Chunks refused [%]": [
            100 * row.refused / max(1, row.chunks) for row in rows if row.outcome != "error"
        ],
        "Progress of failures": [row.progress for row in rows if row.outcome == "failure"],
    }[what]
    low, middle, high = percentiles(values, 10, 50, 90)
    return f"{number(middle)} ({number(low)} to {number(high)})" if values else NOTHING
