"""Figures of a run as a CSV and for TensorBoard; a resumed run has each step once."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from tensorboardX import SummaryWriter

from dfm_vla_ros.training.durable import write_text
from dfm_vla_ros.training.run_folder import RunFolder

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
