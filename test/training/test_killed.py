"""A run killed at any moment goes on to the same end."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from demonstrations import rows, small_run, write

from dfm_vla_ros.model.folder import folder_hash
from dfm_vla_ros.training.config import AugmentationConfig, TrainConfig
from dfm_vla_ros.training.loop import train

KILLS = 20
MEASURED = ("step", "loss", "lr_factor", "gradient_norm", "held_loss", "held_error_bins")


def begin(config: TrainConfig) -> int:
    """Train in a child of its own, which has all imports already; return its id."""
    child = os.fork()
    if child:
        return child
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    status = 1
    try:
        train(config)
        status = 0
    finally:
        os._exit(status)  # nothing of pytest runs in the child


def reached(tmp_path: Path) -> int:
    """Return the last step in the metrics."""
    metrics = tmp_path / "run" / "metrics.csv"
    found = rows(tmp_path / "run") if metrics.is_file() else []
    return int(found[-1]["step"]) if found else 0


def wait_for(step: int, tmp_path: Path) -> None:
    """Wait until ``step`` is in the metrics."""
    until = time.monotonic() + 60
    while reached(tmp_path) < step:
        assert time.monotonic() < until, f"step {step} does not come"
        time.sleep(0.005)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_that_a_run_killed_twenty_times_loses_nothing(tmp_path: Path) -> None:
    write(tmp_path / "demos", count=8)
    config = small_run(
        tmp_path,
        steps=300,
        save_every=7,
        log_every=3,
        batch=4,
        augmentation=AugmentationConfig(code_dropout=0.1, variants=2),
    )
    whole = replace(config, out=str(tmp_path / "whole"), token_cache=str(tmp_path / "other"))
    assert os.waitpid(begin(whole), 0)[1] == 0
    moments = random.Random(0)
    steps = []
    for _ in range(KILLS):
        child = begin(config)
        # A third die at once, while tokenizers are fitted or the state is read; the others while
        # steps are taken, measured and saved.
        wait_for(reached(tmp_path) + moments.choice((0, 3, 6)), tmp_path)
        time.sleep(moments.uniform(0.0, 0.2))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        steps.append(reached(tmp_path))
    print("\nkilled at steps", *steps)
    assert os.waitpid(begin(config), 0)[1] == 0
    ours, theirs = rows(tmp_path / "run"), rows(tmp_path / "whole")
    assert [{k: row[k] for k in MEASURED} for row in ours] == [
        {k: row[k] for k in MEASURED} for row in theirs
    ]
    for name in ("checkpoint", "best"):
        run, other = tmp_path / "run" / name, tmp_path / "whole" / name
        assert folder_hash(run) == folder_hash(other)
