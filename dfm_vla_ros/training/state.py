"""The state of a run on disk: all that the next step depends on, as safetensors and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dfm_vla_ros.errors import DfmVlaError

FORMAT = 1
STATE = "state.json"


class StateError(DfmVlaError):
    """A saved state that cannot be read or is of another run."""


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: steps done. Order, noise and augmentation follow from it and the seed.
        seconds: of training, over all starts.
        loss: running mean.
        best: figure of the best checkpoint, None before the first.
        fingerprint: of the data; see `Trainable`.
    """

    step: int = 0
    seconds: float = 0.0
    loss: float = float("nan")
    best: float | None = None
    fingerprint: str = ""
    format: int = field(default=FORMAT)


def save_state(
    folder: Path, progress: Progress, tensors: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Write ``folder``: a file for each of ``tensors`` (weights, average, optimiser)."""
    folder.mkdir(parents=True)
    for name, content in tensors.items():
        save_file(dict(content), folder / f"{name}.safetensors")
    text = json.dumps(asdict(progress), indent=1)
    (folder / STATE).write_text(text + "\n", encoding="utf-8")


def load_progress(folder: Path) -> Progress:
    """Return how far the run is.

    Raises:
        StateError: it is damaged or of another version.
    """
    try:
        content = json.loads((folder / STATE).read_text(encoding="utf-8"))
        progress = Progress(**content)
    except (OSError, ValueError, TypeError) as error:
        raise StateError(f"{folder / STATE}: {error}; begin anew with --overwrite") from error
    if progress.format != FORMAT:
        raise StateError(
            f"{folder} has format {progress.format}, this version reads {FORMAT}: "
            "begin anew with --overwrite"
        )
    return progress


def load_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """Return one file of the state.

    Raises:
        StateError: it is missing or damaged.
    """
    path = folder / f"{name}.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise StateError(f"{path}: {error}; begin anew with --overwrite") from error
