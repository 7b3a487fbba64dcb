"""The folder of a run: its settings, state, checkpoints and metrics."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Self

from accelerate import Accelerator
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tensorboardX import SummaryWriter
from torch import Tensor
from tqdm import tqdm

from dfm_vla_ros.errors import DfmVlaError
from dfm_vla_ros.files import sync, write_text
from dfm_vla_ros.schema import ConfigError, parse, read_json
from dfm_vla_ros.training.config import TrainConfig, as_yaml, changes, load_config
from dfm_vla_ros.training.trainable import Trainable

Evaluate = Callable[[Path, int], Mapping[str, float]]
"""(checkpoint folder, step) -> figures by name, ``success`` among them; see commands/train.py."""


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Yield a path to write a folder at, which takes the place of ``folder`` when all went well.

    The previous one is kept until then; `recover` brings it back if the process died in between.
    """
    recover(folder)
    partial = _beside(folder, "partial")
    yield partial
    for path in [*partial.rglob("*"), partial]:
        sync(path)
    previous = _beside(folder, "previous")
    if folder.exists():
        folder.rename(previous)
    partial.rename(folder)
    sync(folder.parent)
    shutil.rmtree(previous, ignore_errors=True)


def recover(folder: Path) -> None:
    """Leave ``folder`` as it was last whole, and nothing else of it."""
    previous = _beside(folder, "previous")
    if previous.exists() and not folder.exists():
        previous.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)
    shutil.rmtree(_beside(folder, "partial"), ignore_errors=True)


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f"{folder.name}.{what}")


CONFIG = "config.yaml"


class RunFolder:
    """Paths in ``out``.

    Attributes:
        path: the folder.
        last: state of the last saved step.
        checkpoint: of the last saved step, for ``Policy.load``.
        best: the best checkpoint so far.
        image_tokenizer: trained by this run.
        metrics: a row for every few steps.
        board: for TensorBoard.
    """

    def __init__(self, out: Path | str) -> None:
        """Name the paths; nothing is read or written."""
        self.path = Path(out)
        self.last, self.checkpoint = self.path / "last", self.path / "checkpoint"
        self.best, self.image_tokenizer = self.path / "best", self.path / "image_tokenizer"
        self.metrics, self.board = self.path / "metrics.csv", self.path / "tensorboard"

    def begin(self, config: TrainConfig, overwrite: bool = False) -> None:
        """Make the folder, or go on with the run in it.

        Raises:
            ConfigError: the folder holds something else, a run with other settings, or one that
                another process is at.
        """
        known = self.path / CONFIG
        if self.path.exists() and any(self.path.iterdir()) and not known.is_file():
            raise ConfigError(f"{self.path} is not empty and no training run: give another out")
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock()
        if overwrite:
            self._clear()
        elif known.is_file():
            self._check(known, config)
        for folder in (self.last, self.checkpoint, self.best, self.image_tokenizer):
            recover(folder)
        write_text(known, as_yaml(config))

    def failed(self, step: int) -> Path:
        """Return where a step that failed is kept."""
        return self.path / f"failed-step-{step:08d}"

    def _check(self, known: Path, config: TrainConfig) -> None:
        if not config.resume:
            raise ConfigError(
                f"{self.path} holds a run and resume is false: give another out, or --overwrite"
            )
        different = changes(load_config(known), config)
        if different:
            raise ConfigError(
                f"{self.path} holds a run with other settings ({'; '.join(different)}): give the "
                "old values, another out, or --overwrite to begin anew"
            )

    def _lock(self) -> None:
        self._held = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another process trains in {self.path}: wait for it, or give another out"
            ) from error

    def release(self) -> None:
        """Let others have the folder."""
        self._held.close()

    def _clear(self) -> None:
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()


FORMAT = 1
STATE = "state.json"


class StateError(DfmVlaError):
    """A saved state that cannot be read or is of another run."""


@dataclass
class Progress:
    """How far a run is; in ``state.json``.

    Attributes:
        step: steps done. Order, noise and augmentation follow from it and the seed.
        seconds: of training, over all starts.
        loss: running mean.
        best: figure of the best checkpoint, None before the first.
        fingerprint: of the data; see `Trainable`.
    """

    step: int = 0
    seconds: float = 0.0
    loss: Annotated[float, Field(allow_inf_nan=True)] = float("nan")
    best: float | None = None
    fingerprint: str = ""
    format: int = FORMAT


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
    """Return how far the run is; raises StateError."""
    path = folder / STATE
    try:
        progress = parse(Progress, read_json(path), str(path))
    except ConfigError as error:
        raise StateError(f"{error}; begin anew with --overwrite") from error
    if progress.format != FORMAT:
        raise StateError(
            f"{folder} has format {progress.format}, this version reads {FORMAT}: "
            "begin anew with --overwrite"
        )
    return progress


def load_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """Return one file of the state; raises StateError if it is missing or damaged."""
    path = folder / f"{name}.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise StateError(f"{path}: {error}; begin anew with --overwrite") from error


COLUMNS = ("step", "seconds", "loss", "lr_factor", "gradient_norm", "samples_per_s", "data_share")


class Metrics:
    """``metrics.csv`` and TensorBoard: rows by step."""

    def __init__(self, folder: RunFolder, step: int) -> None:
        """Go on after ``step``: later rows are dropped, for they come again."""
        self._folder = folder
        self._columns = list(COLUMNS)
        self._rows = [row for row in self._read() if _step(row) <= step]
        self._board = SummaryWriter(str(folder.board), purge_step=step + 1, flush_secs=10)
        self.save()

    def row(self, step: int, figures: Mapping[str, float]) -> None:
        """Add a row; figures of a name not seen before get a column."""
        new = [name for name in figures if name not in self._columns]
        self._columns += new
        values = {name: f"{value:.9g}" for name, value in figures.items()}
        values["loss"] = repr(float(figures["loss"]))
        self._rows.append({"step": str(step), **values})
        if new:
            self.save()
        else:
            with self._folder.metrics.open("a", newline="", encoding="utf-8") as file:
                self._writer(file).writerow(self._rows[-1])
        for name, value in figures.items():
            self._board.add_scalar(name, value, step)

    def save(self) -> None:
        """Have all rows on the disk."""
        text = io.StringIO(newline="")
        writer = self._writer(text)
        writer.writeheader()
        writer.writerows(self._rows)
        write_text(self._folder.metrics, text.getvalue())
        self._board.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        self._board.close()

    def _read(self) -> list[dict[str, str]]:
        if not self._folder.metrics.is_file():
            return []
        with self._folder.metrics.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            rows = list(reader)
        self._columns += [n for n in reader.fieldnames or () if n not in self._columns]
        return rows

    def _writer(self, file: io.TextIOBase) -> csv.DictWriter:
        return csv.DictWriter(file, self._columns, extrasaction="ignore", lineterminator="\n")


def _step(row: Mapping[str, str]) -> float:
    # A row that was cut short belongs to no step.
    return int(row["step"]) if row["step"].isdigit() and row.get("loss") else float("inf")


class Records:
    """What the first process writes of a run; in the others it does nothing."""

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
            self._log = Metrics(self._folder, self._progress.step)
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

    def __exit__(self, *error: object) -> None:
        if self._first:
            self._bar.close()
            self._log.close()

    def step(self, figures: dict[str, float], waited_s: float) -> None:
        """Note a step's figures, and the time waited for batches since the start [s]."""
        self._figures, self._waited = figures, waited_s
        if not self._first:
            return
        self._bar.set_postfix(step=self._progress.step, loss=figures["loss"], refresh=False)
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
        always = {"seconds": self._progress.seconds, "loss": self._progress.loss}
        self._log.row(step, {**always, **self._figures, **figures})

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
