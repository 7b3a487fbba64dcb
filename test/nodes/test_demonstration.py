"""What a demo tells its nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dfm_vla_ros.graph.demonstration import Demonstration, Settings


class Started:
    """Stands in for the processes: keeps what each node was given."""

    def __init__(self) -> None:
        self.given: dict[str, dict[str, Any]] = {}

    def start_node(self, name: str, parameters: dict[str, Any], *_: object) -> None:
        self.given[name] = parameters


@pytest.mark.parametrize("black", [(), ("third",)])
def test_that_a_camera_that_is_black_on_purpose_is_not_taken_for_frozen(
    black: tuple[str, ...], tmp_path: Path
) -> None:
    settings = Settings("place_block", tmp_path, tmp_path, black_cameras=black)
    demonstration = Demonstration(settings)
    demonstration.children = Started()
    demonstration._start(settings)
    given = demonstration.children.given["policy_node"]
    assert given.get("frozen_timeout", 1.0) == (0.0 if black else 1.0)
    assert demonstration.children.given["sim_node"]["black_cameras"] == (list(black) or [""])
