"""What a report page shows: replays, evaluations, pictures, films; each may be left out."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import av
import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfm_vla_ros.errors import DfmVlaError

Floats = NDArray[np.float64]
Rgb = NDArray[np.uint8]

PICTURE_PX = 160
"""Longest side of a picture."""
VIEW_PX = 128
"""Side of one camera's square in a film."""
JPEG_QUALITY = 85
KEY_FRAMES = 20
"""Frames between those that a player can jump to."""


class ReportError(DfmVlaError):
    """Content whose parts do not fit together, or a page that cannot be written."""


class PictureError(DfmVlaError):
    """An image that cannot be shown."""


@dataclass(frozen=True)
class Picture:
    """An image file of the media type ``kind``; sizes in pixels."""

    data: bytes
    kind: str
    width: int
    height: int

    @classmethod
    def of(cls, image: Rgb, longest_px: int = PICTURE_PX) -> Picture:
        """Return a JPEG of an RGB image (H, W, 3), made smaller if its longest side is longer.

        Raises:
            PictureError: ``image`` is not (H, W, 3) uint8.
        """
        checked = _checked(image)
        scale = longest_px / max(checked.shape[:2])
        if scale < 1:
            size = (round(checked.shape[1] * scale), round(checked.shape[0] * scale))
            checked = cv2.resize(checked, size, interpolation=cv2.INTER_AREA)
        bgr = cv2.cvtColor(checked, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        return cls(data.tobytes(), "image/jpeg", checked.shape[1], checked.shape[0])


@dataclass(frozen=True)
class Film:
    """A video file of the media type ``kind``; ``start_s``: time of its first frame in the run."""

    data: bytes
    kind: str
    caption: str
    start_s: float
    duration_s: float
    width: int
    height: int


class FilmEncoder:
    """Encodes frames as they come: all cameras side by side, H.264."""

    def __init__(
        self,
        rate_hz: float,
        caption: str = "",
        start_s: float = 0.0,
        view_px: int = VIEW_PX,
        quality: int = 24,
    ) -> None:
        """Begin a film whose first frame is at ``start_s``; a smaller ``quality`` is better."""
        self._rate, self._caption, self._start_s = rate_hz, caption, start_s
        self._view_px, self._quality = view_px, quality
        self._file = io.BytesIO()
        self._container = av.open(self._file, "w", format="mp4")
        self._stream: av.VideoStream | None = None
        self._frames = 0

    def add(self, images: Mapping[str, Rgb], below: Rgb | None = None) -> None:
        """Add a frame: camera -> RGB image (H, W, 3), the same cameras each time.

        ``below`` is a strip (H, W, 3) as wide as all squares.

        Raises:
            PictureError: an image is malformed, or there is none.
        """
        if not images:
            raise PictureError("a frame without images: give at least one camera")
        row = np.hstack([square(_checked(image), self._view_px) for image in images.values()])
        row = row if below is None else np.vstack([row, below])
        stream = self._stream or self._begin(row)
        if row.shape[:2] != (stream.height, stream.width):
            raise PictureError(
                f"a frame of {len(images)} cameras in a film that began with another number: "
                "give the same cameras each time"
            )
        self._container.mux(stream.encode(av.VideoFrame.from_ndarray(row, format="rgb24")))
        self._frames += 1

    def finish(self) -> Film | None:
        """Return the film, None if it has no frame; nothing can be added afterwards."""
        if self._stream is None:
            self._container.close()
            return None
        self._container.mux(self._stream.encode())
        self._container.close()
        size = (self._stream.width, self._stream.height)
        length_s = self._frames / self._rate
        data = self._file.getvalue()
        return Film(data, "video/mp4", self._caption, self._start_s, length_s, *size)

    def _begin(self, row: Rgb) -> av.VideoStream:
        rate = Fraction(self._rate).limit_denominator(1000)
        stream = self._container.add_stream("libx264", rate=rate)
        stream.height, stream.width = row.shape[:2]
        stream.pix_fmt, stream.gop_size = "yuv420p", KEY_FRAMES
        stream.options = {"crf": str(self._quality), "preset": "veryfast", "threads": "1"}
        self._stream = stream
        return stream


def square(image: Rgb, side: int) -> Rgb:
    """Return the image scaled to fit a black square of ``side`` pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    filled = np.zeros((side, side, 3), dtype=np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    filled[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=how)
    return filled


def _checked(image: Rgb) -> Rgb:
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8 or not array.size:
        raise PictureError(
            f"an image of shape {array.shape}, {array.dtype}: give RGB (H, W, 3) uint8"
        )
    return np.ascontiguousarray(array)


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
    """A stretch of the run [s] in which a source was silent too long, or could not be read."""

    source: str
    start_s: float
    end_s: float
    reason: str = ""


@dataclass(frozen=True)
class Source:
    """One topic of a bag; ``rate_hz`` 0: not known, ``remark``: what is wrong with it."""

    name: str
    messages: int
    rate_hz: float = 0.0
    longest_gap_s: float = 0.0
    remark: str = ""


@dataclass(frozen=True)
class Reference:
    """A picture (H, W, 3) uint8 RGB that a camera should resemble, and where it comes from."""

    camera: str
    image: Rgb
    origin: str = ""


@dataclass(frozen=True)
class ReplayRun:
    """One checkpoint on one recording: T moments, D joints.

    Attributes:
        units: ``rad`` or ``m`` of each joint.
        times_s: (T,) of the recording, rising [s].
        measured: (T, D) joint positions [rad, m]; NaN where not known.
        commanded: (T, D) positions that were commanded: the recorded actions.
        chunks: in order of time.
        period_s: control period [s].
        lower, upper: (D,) joint limits; None: not known.
        samples: camera -> (H, W, 3) uint8 RGB, the picture to compare with the references.
        references: what the cameras should see.
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
    samples: Mapping[str, Rgb] = field(default_factory=dict)
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
    """Success at one task, with the 95% interval ``low`` to ``high`` of its rate.

    An episode that ended in an error is counted in ``errors`` alone.
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
    """One checkpoint over many episodes."""

    name: str
    tasks: tuple[TaskRow, ...]
    episodes: tuple[EpisodeRow, ...]
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """A page; several replays (on one recording) or evaluations are shown side by side."""

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    replays: tuple[ReplayRun, ...] = ()
    evaluations: tuple[EvaluationRun, ...] = ()


def _check_shape(name: str, value: ArrayLike | tuple[str, ...], expected: tuple[int, ...]) -> None:
    if np.shape(value) != tuple(expected):
        raise ReportError(f"{name} has shape {np.shape(value)}, expected {tuple(expected)}")
