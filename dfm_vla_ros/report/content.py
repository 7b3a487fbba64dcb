"""What a report can show; every part may be left out, and the page leaves out its plots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.report.pictures import Film, Picture

Floats = NDArray[np.float64]


class ReportError(DfmVlaError):
    """Content whose parts do not fit together, or a page that cannot be written."""


@dataclass(frozen=True)
class Refinement:
    """How the N tokens of a chunk came about in S steps.

    Attributes:
        kinds: ``refinement`` or ``validation`` of each step.
        times: (S,) flow time at which the network was asked.
        tokens: (S, N) after each step.
        targets: (S, N) predicted x_1 of each step.
        jumped: (S, N) bool: the token changed in the step.
        confidence: (S, N) probability of the target, 0..1.
        committed: (N,) bool: held from the running chunk.
        paths: (S, H, D) what the tokens after each step mean [rad, m]; None: not shown.
    """

    kinds: tuple[str, ...]
    times: Floats
    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    jumped: NDArray[np.bool_]
    confidence: NDArray[np.floating]
    committed: NDArray[np.bool_]
    paths: NDArray[np.floating] | None = None

    def __post_init__(self) -> None:
        """Check shapes."""
        shape = np.shape(self.tokens)
        if len(shape) != 2 or not shape[0]:
            raise ReportError(f"tokens of a refinement are {shape}; give (S, N), S at least 1")
        for name in ("targets", "jumped", "confidence"):
            _check_shape(name, getattr(self, name), shape)
        _check_shape("committed", self.committed, shape[1:])
        _check_shape("times", self.times, shape[:1])
        _check_shape("kinds", self.kinds, shape[:1])


@dataclass(frozen=True)
class PredictedChunk:
    """What the policy said at one moment; H steps of D joints.

    Attributes:
        time_s: stamp of the observation in the run [s].
        targets: (H, D) positions that it asked for [rad, m].
        inference_s: time the call took [s].
        refinement: how the tokens came about; None: not recorded.
        pictures: camera -> what the policy saw.
        refused: why the executor refused it; empty: it did not, or is not known.
        due_s: (H,) times at which each step is due [s]; None: one period apart, the first one
            period after the observation.
        instruction: the sentence that was in force.
    """

    time_s: float
    targets: Floats
    inference_s: float = 0.0
    refinement: Refinement | None = None
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    refused: str = ""
    due_s: Floats | None = None
    instruction: str = ""


@dataclass(frozen=True)
class Gap:
    """A stretch in which a source was silent for too long, or which could not be read.

    Attributes:
        source: topic or camera.
        start_s, end_s: in the run [s].
        reason: what is known of it.
    """

    source: str
    start_s: float
    end_s: float
    reason: str = ""


@dataclass(frozen=True)
class Source:
    """One topic of a bag.

    Attributes:
        name: of the topic.
        messages: how many were read.
        rate_hz: their usual rate, 0: not known.
        longest_gap_s: between two of them [s].
        remark: what is wrong with it; empty: nothing.
    """

    name: str
    messages: int
    rate_hz: float = 0.0
    longest_gap_s: float = 0.0
    remark: str = ""


@dataclass(frozen=True)
class Reference:
    """A picture that a camera should resemble.

    Attributes:
        camera: its name.
        image: (H, W, 3) uint8 RGB.
        origin: where it comes from: a data set, a good run.
    """

    camera: str
    image: NDArray[np.uint8]
    origin: str = ""


@dataclass(frozen=True)
class ReplayRun:
    """One checkpoint on one recording: T moments, D joints.

    Attributes:
        name: label in plots.
        joint_names: D names.
        units: ``rad`` or ``m`` of each joint.
        times_s: (T,) of the recording, rising [s].
        measured: (T, D) joint positions [rad, m]; NaN where not known.
        commanded: (T, D) positions that were commanded: the recorded actions.
        chunks: in order of time.
        period_s: control period [s].
        lower, upper: (D,) joint limits; None: not known.
        gaps: silences.
        sources: topics of the bag.
        films: what the cameras saw.
        samples: camera -> (H, W, 3) uint8 RGB, the picture to hold against the references (say,
            the first one).
        references: what the cameras should see.
        facts: name -> value, shown in a table.
        problems: what was wrong with the recording, one sentence each.
    """

    name: str
    joint_names: tuple[str, ...]
    units: tuple[str, ...]
    times_s: Floats
    measured: Floats
    commanded: Floats
    chunks: tuple[PredictedChunk, ...]
    period_s: float
    lower: Floats | None = None
    upper: Floats | None = None
    gaps: tuple[Gap, ...] = ()
    sources: tuple[Source, ...] = ()
    films: tuple[Film, ...] = ()
    samples: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    references: tuple[Reference, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check shapes."""
        moments, joints = len(self.times_s), len(self.joint_names)
        _check_shape("units", self.units, (joints,))
        for name in ("measured", "commanded"):
            _check_shape(name, getattr(self, name), (moments, joints))
        for chunk in self.chunks:
            shape = np.shape(chunk.targets)
            if len(shape) != 2 or shape[1] != joints:
                raise ReportError(f"targets of a chunk are {shape}; give (H, {joints})")
            if chunk.due_s is not None:
                _check_shape("due_s of a chunk", chunk.due_s, shape[:1])


@dataclass(frozen=True)
class TaskRow:
    """Success at one task.

    Attributes:
        task: its name.
        successes, episodes: counts; an episode that ended in an error is neither.
        errors: how many those are.
        low, high: 95% interval of the rate.
        instruction: its sentence.
    """

    task: str
    successes: int
    episodes: int
    errors: int
    low: float
    high: float
    instruction: str = ""


@dataclass(frozen=True)
class EpisodeRow:
    """One episode of an evaluation.

    Attributes:
        task, seed: which one.
        outcome: ``success``, ``failure`` or ``error``.
        progress: largest that the task reported, 0..1.
        seconds: simulated time to success or timeout [s].
        chunks, refused: made; refused by the executor.
        inference_s: median time of a policy call [s].
        remark: the error, why chunks were refused.
        film: what the cameras saw; None: not kept in the page.
        link: where its film lies beside the page; empty: nowhere.
    """

    task: str
    seed: int
    outcome: str
    progress: float
    seconds: float
    chunks: int = 0
    refused: int = 0
    inference_s: float = 0.0
    remark: str = ""
    film: Film | None = None
    link: str = ""


@dataclass(frozen=True)
class EvaluationRun:
    """One checkpoint over many episodes.

    Attributes:
        name: label in plots.
        tasks: one row each.
        episodes: in any order.
        facts: name -> value, shown in a table.
    """

    name: str
    tasks: tuple[TaskRow, ...]
    episodes: tuple[EpisodeRow, ...]
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """A page.

    Attributes:
        title: its heading.
        facts: name -> value: commands, seeds, versions.
        replays: one, or several on the same recording to be seen side by side.
        evaluations: likewise.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    replays: tuple[ReplayRun, ...] = ()
    evaluations: tuple[EvaluationRun, ...] = ()


def _check_shape(name: str, value: ArrayLike | tuple[str, ...], expected: tuple[int, ...]) -> None:
    if np.shape(value) != tuple(expected):
        raise ReportError(f"{name} has shape {np.shape(value)}, expected {tuple(expected)}")
