"""What a policy takes: the kernel's figures, and a bound that can be missed."""

from __future__ import annotations

import json
from pathlib import Path

from small import small_checkpoint

from dfm_vla_ros.cli import main


def test_that_bench_memory_measures_this_process_and_says_when_the_bound_is_passed(
    tmp_path: Path,
) -> None:
    small_checkpoint().save(tmp_path / "checkpoint", "# test\n")
    result = tmp_path / "memory.json"
    arguments = ["bench", "memory", "--checkpoint", str(tmp_path / "checkpoint")]
    assert main([*arguments, "--below-gb", "20", "--json", str(result)]) == 0
    content = json.loads(result.read_text())
    assert 0.1 < content["own_gb"] <= content["peak_gb"] < 20
    assert content["chunk_s"] > 0
    assert main([*arguments, "--below-gb", str(content["peak_gb"] / 2)]) == 1
