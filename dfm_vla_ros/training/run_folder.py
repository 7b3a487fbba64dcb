"""The folder of a run: its settings, state, checkpoints and metrics."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

from dfm_vla_ros.training.config import TrainConfig, as_yaml, changes
from dfm_vla_ros.training.durable import recover, write_text
from dfm_vla_ros.training.schema import ConfigError, read

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
        old = read(TrainConfig, known.read_text(encoding="utf-8"), (), str(known))
        different = changes(old, config)
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
