"""The executor's and the twin's processes start fast and small: without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "node", ["executor_node", "sim_node", "recorder", "monitor_node", "play_node"]
)
def test_that_a_node_does_not_load_torch(node: str) -> None:
    code = f"import sys, dfm_vla_ros.nodes.{node}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
