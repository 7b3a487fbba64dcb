"""What goes wrong after the policy has answered still ends the goal by name."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from dfm_vla_ros.nodes.policy_node import PolicyNode


@pytest.mark.parametrize("where", ["policy", "publisher"])
def test_that_an_error_on_the_way_to_a_published_chunk_is_the_goals_failure(where: str) -> None:
    woken: list[bool] = []
    done: Future = Future()
    if where == "policy":
        done.set_exception(ValueError("no tokens"))
    else:
        done.set_result("chunk")

    def publish(*_: object) -> None:
        raise ValueError("no tokens")

    wake = SimpleNamespace(trigger=lambda: woken.append(True))
    node = SimpleNamespace(_publish_chunk=publish, _wake=wake)
    goal = SimpleNamespace(failure="")
    PolicyNode._on_chunk(node, goal, 1.0, done)
    assert goal.failure == "ValueError: no tokens"
    assert woken
