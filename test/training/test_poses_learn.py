"""From nothing to a policy on object poses in minutes, by the commands alone.

It sees where the pot is, so a failure here is one of flow, action tokens, training or execution;
if this passes and a policy from images fails, look at its eyes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

CONFIG = Path(__file__).parents[2] / "config" / "train" / "poses.yaml"
DEMONSTRATIONS, EPISODES, UNSEEN = 50, 60, 1_500_000


def command(*words: str) -> None:
    """Run ``dfm-vla``, and say how long it took."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "dfm_vla_ros.cli", *words], check=True)
    print(f"{time.monotonic() - began:.0f} s: dfm-vla {' '.join(words)}")


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_that_fifty_demonstrations_and_ten_minutes_make_a_policy_on_poses(tmp_path: Path) -> None:
    demos, run, result = tmp_path / "demos", tmp_path / "run", tmp_path / "result.json"
    collect = ["--episodes", str(DEMONSTRATIONS), "--no-images", "--out", str(demos)]
    command("collect", "--task", "pot_lift", *collect)
    command("train", "--config", str(CONFIG), f"data=[{demos}]", f"out={run}", "device=cpu")
    unseen = ["--episodes", str(EPISODES), "--seed", str(UNSEEN), "--json", str(result)]
    command("eval", "--checkpoint", str(run / "checkpoint"), "--task", "pot_lift", *unseen)
    (task,) = json.loads(result.read_text())["tasks"]
    print(f"{task['successes']} of {task['episodes']} unseen layouts")
    assert task["errors"] == 0
    assert task["successes"] >= 0.9 * EPISODES
