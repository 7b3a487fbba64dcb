"""The policy node with a tiny Emu3 as UniVLA saves it, imported, over real DDS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from probe import Graph
from robot import Conversation
from small import INSTRUCTION
from tiny_univla import action_tokenizer, save_univla, save_vision

from dfm_vla_ros.cli import main


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("univla")
    save_univla(folder / "model")
    save_vision(folder / "vision", "baai")
    action = action_tokenizer()
    replace(action, widths=np.full_like(action.widths, 2e-4)).save(folder / "actions")
    arguments = ["--out", str(folder / "checkpoint"), "--vision", str(folder / "vision")]
    arguments += ["--tokenizer", str(folder / "actions"), "--task", f"place_block={INSTRUCTION}"]
    assert main(["checkpoint", "import-univla", str(folder / "model"), *arguments]) == 0
    return folder / "checkpoint"


def test_that_an_imported_univla_checkpoint_drives_the_twin(
    start_graph: Callable[..., Graph], imported: Path
) -> None:
    graph = start_graph("policy_node", "sim_node", "executor_node", folder=imported)
    graph.client.wait_ready(120.0)
    graph.wait_matched(policies=1)
    graph.client.reset("place_block", 3)
    talk = Conversation(graph)
    handle = talk.send()
    talk.wait_chunks(2)
    talk.cancel(handle)
    for chunk in talk.made():
        assert chunk.tokenizer_hash == action_hash(imported)
        assert len(chunk.tokens) == 70


def action_hash(folder: Path) -> str:
    from dfm_vla_ros.tokens import load_action_tokenizer

    return load_action_tokenizer(folder).hash
