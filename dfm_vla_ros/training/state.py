"""The state of a run on disk: all that the next step depends on, as safetensors and JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.training.config import TrainConfig
from dfm_vla_ros.training.run_folder import Log, RunFolder, replaced
from dfm_vla_ros.training.trainable import Evaluate, Trainable

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


class Records:
    """Kept by the first process; in the others it does nothing."""

    def __init__(
        self,
        config: TrainConfig,
        trainable: Trainable,
        folder: RunFolder,
        accelerator: Accelerator,
        evaluate: Evaluate | None,
        progress: Progress,
    ) -> None:
        """Go on after ``progress``, which the loop changes."""
        self._config, self._trainable, self._folder = config, trainable, folder
        self._evaluate, self._progress = evaluate, progress
        self._first = accelerator.is_main_process
        self._processes, self._device = accelerator.num_processes, accelerator.device.type
        self._figures: dict[str, float] = {}
        self._mark = (progress.step, time.monotonic(), 0.0)
        self._waited = 0.0

    def __enter__(self) -> Self:
        if self._first:
            self._log = Log(self._folder, self._progress.step)
            # Counted in samples, so that its rate is samples a second.
            self._bar = tqdm(
                total=self._config.steps * self._config.batch,
                initial=self._progress.step * self._config.batch,
                unit=" samples",
                unit_scale=True,
                mininterval=2,
                desc="training",
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType
    ) -> None:
        if self._first:
            self._bar.close()
            self._log.close()

    def step(self, figures: dict[str, float], waited_s: float) -> None:
        """Note a step's figures, and the time waited for batches since the start [s]."""
        self._figures, self._waited = figures, waited_s
        if not self._first:
            return
        shown = {"step": self._progress.step, "loss": f"{figures['loss']:.4f}"}
        limit = self._config.max_seconds
        if limit > 0:
            shown["left_s"] = f"{max(0.0, limit - self._progress.seconds):.0f}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(self._config.batch)
        if self._progress.step % self._config.log_every == 0 and not self.due(self._progress.step):
            self._row({})

    def due(self, step: int) -> bool:
        """Return whether ``step`` is to be saved."""
        return step % self._config.save_every == 0 or self._evaluation_due(step)

    def _evaluation_due(self, step: int) -> bool:
        every = self._config.evaluation.every
        return self._evaluate is not None and every > 0 and step % every == 0

    def save(self, figures: Mapping[str, float], weights: dict[str, Tensor], last: bool) -> None:
        """Write the checkpoint, evaluate it where that is due, keep it if it is the best."""
        if not self._first:
            return
        step, figures = self._progress.step, dict(figures)
        readme = self._readme(figures)
        with replaced(self._folder.checkpoint) as partial:
            self._trainable.save(partial, weights, readme)
        if self._evaluation_due(step) or (last and self._config.evaluation.every > 0):
            figures |= self._evaluate(self._folder.checkpoint, step) if self._evaluate else {}
        if self._is_best(figures):
            with replaced(self._folder.best) as partial:
                self._trainable.save(partial, weights, self._readme(figures))
        self._row(figures)
        self._log.save()

    def commit(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Write the state: from here on a killed run starts."""
        with replaced(self._folder.last) as partial:
            save_state(partial, self._progress, tensors)
        # Saving is no training.
        self._mark = (self._progress.step, time.monotonic(), self._waited)

    def _is_best(self, figures: Mapping[str, float]) -> bool:
        """Return whether this is the best so far, and remember it if so."""
        name, best = self._config.keep_best, self._progress.best
        if name not in figures:
            return False
        sign = 1 if name == "success" else -1
        better = best is None or sign * figures[name] > sign * best
        if better:
            self._progress.best = figures[name]
        return better

    def _row(self, figures: Mapping[str, float]) -> None:
        step, now = self._progress.step, time.monotonic()
        before, then, waited = self._mark
        if step > before:
            elapsed = max(now - then, 1e-9)
            self._figures["samples_per_s"] = (step - before) * self._config.batch / elapsed
            self._figures["data_share"] = (self._waited - waited) / elapsed
        self._mark = (step, now, self._waited)
        seconds = {"seconds": self._progress.seconds}
        loss = {"loss": self._progress.loss}
        self._log.row(step, {**seconds, **loss, **self._figures, **figures})

    def _readme(self, figures: Mapping[str, float]) -> str:
        config, progress = self._config, self._progress
        names = ", ".join(folder.rstrip("/").rpartition("/")[2] for folder in config.data)
        lines = [f"- {name}: {value:.4g}" for name, value in figures.items()]
        return (
            "# Checkpoint\n\n"
            f"Objective {config.objective}, {progress.step} of {config.steps} steps of "
            f"{config.batch} samples ({progress.seconds:.0f} s, {self._processes} processes, "
            f"{self._device}) on {names}.\n\n" + "\n".join(lines) + "\n"
        )
