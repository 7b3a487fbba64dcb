"""The table of the adaptive cache: a row a variant, exact where everything is computed."""

from __future__ import annotations

import json
from pathlib import Path

from small import small_checkpoint

from dfm_vla_ros.cli import main


def test_that_bench_cache_compares_every_variant_with_the_exact_one(tmp_path: Path) -> None:
    small_checkpoint().save(tmp_path / "checkpoint", "# test\n")
    arguments = ["--checkpoint", str(tmp_path / "checkpoint"), "--json", str(tmp_path / "c.json")]
    arguments += ["--ratios", "1", "0.2", "--timeout", "2", "--success", "1"]
    assert main(["bench", "cache", *arguments]) == 0
    rows = {row["name"]: row for row in json.loads((tmp_path / "c.json").read_text())["rows"]}
    assert list(rows) == [
        "prefix",
        "two seeds",
        "adaptive 1",
        "adaptive 0.2",
        "adaptive below 0.95",
        "early stop within 1",
        "early stop within 2",
    ]
    assert rows["adaptive 1"]["equal"] == rows["adaptive 1"]["computed"] == 1
    assert rows["adaptive 0.2"]["computed"] < 1
    assert rows["two seeds"]["equal"] < 1
    assert rows["early stop within 1"]["evaluations"] <= 16
    assert rows["prefix"]["episodes"] == 1
    assert rows["two seeds"]["episodes"] is None
