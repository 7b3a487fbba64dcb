"""The folder of a run: its settings, state, checkpoints and metrics."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tensorboardX import SummaryWriter

from dfm_vla_ros.schema import ConfigError
from dfm_vla_ros.training.config import TrainConfig, as_yaml, changes, load_config


def write_text(path: Path, text: str) -> None:
    """Put ``text`` in the place of ``path``."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync(path.parent)


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


def sync(path: Path) -> None:
    """Wait until ``path`` is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
        metrics: a row for every few steps.
        board: for TensorBoard.
        image_tokenizer: trained by this run.
    """

    def __init__(self, out: Path | str) -> None:
        """Name the paths; nothing is read or written."""
        self.path = Path(out)
        self.last, self.checkpoint, self.best, self.image_tokenizer = (
            self.path / name for name in ("last", "checkpoint", "best", "image_tokenizer")
        )
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
        """Keep a second process away until this one ends."""
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


COLUMNS = ("step", "seconds", "loss", "lr_factor", "gradient_norm", "samples_per_s", "data_share")


class Log:
    """Rows by step."""

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
        """Write what is left."""
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
    """Return the row's step; a row that was cut short belongs to no step."""
    return int(row["step"]) if row["step"].isdigit() and row.get("loss") else float("inf")
