"""``dfm-vla bench latency`` measures a running graph."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small import small_checkpoint


@pytest.mark.slow
def test_that_latency_is_measured_on_a_running_graph(tmp_path: Path) -> None:
    made = small_checkpoint()
    made.action = replace(made.action, widths=np.full_like(made.action.widths, 2e-4))
    made.save(tmp_path / "small", "random weights")
    result = tmp_path / "latency.json"
    command = [sys.executable, "-m", "dfm_vla_ros.cli", "bench", "latency", "--seconds", "5"]
    where = ["--checkpoint", str(tmp_path / "small"), "--json", str(result)]
    done = subprocess.run([*command, *where], capture_output=True, text=True, check=False)
    assert "overhead median" in done.stdout, done.stderr
    content = json.loads(result.read_text())
    assert content["chunks"] >= 5
    assert 0 < content["median_ms"] <= content["p99_ms"]
    assert done.returncode == int(content["median_ms"] > 10 or content["p99_ms"] > 30)
