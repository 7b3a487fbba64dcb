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
from dfm_vla_ros.training.run import train

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
    began = time.monotonic()
    assert os.waitpid(begin(whole), 0)[1] == 0
    duration_s = time.monotonic() - began
    moments = random.Random(0)
    steps, killed = [], 0
    while killed < KILLS:
        child = begin(config)
        # Some die while the image tokenizer is trained, most while steps are taken and saved.
        time.sleep(moments.uniform(0.01, 0.13) * duration_s)
        os.kill(child, signal.SIGKILL)
        killed += os.waitpid(child, 0)[1] == signal.SIGKILL
        metrics = tmp_path / "run" / "metrics.csv"
        steps.append(rows(tmp_path / "run")[-1]["step"] if metrics.is_file() else "-")
        if steps[-1] == str(config.steps):
            break
    print(f"\n{killed} kills at steps {' '.join(steps)}, whole run {duration_s:.1f} s")
    assert os.waitpid(begin(config), 0)[1] == 0
    assert killed == KILLS
    ours, theirs = rows(tmp_path / "run"), rows(tmp_path / "whole")
    assert [{k: row[k] for k in MEASURED} for row in ours] == [
        {k: row[k] for k in MEASURED} for row in theirs
    ]
    for name in ("checkpoint", "best"):
        run, other = tmp_path / "run" / name, tmp_path / "whole" / name
        assert folder_hash(run) == folder_hash(other)
