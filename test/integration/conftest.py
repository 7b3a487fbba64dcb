"""Real nodes in processes of their own, over real DDS, and a probe that talks to them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small import small_checkpoint

sys.path.insert(0, str(Path(__file__).parent))

from probe import Graph

from dfm_vla_ros.nodes.qos import own_domain


@pytest.fixture(autouse=True, scope="module")
def quick_collections() -> Iterator[None]:
    """Leave what is there already out of garbage collections.

    Once the whole suite is imported a full one takes 0.2 s, in which no test plays a robot.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small random policy whose targets stay near the command."""
    folder = tmp_path_factory.mktemp("checkpoint") / "small"
    made = small_checkpoint()
    made.action = replace(made.action, widths=np.full_like(made.action.widths, 2e-4))
    made.save(folder, "random weights")
    return folder


@pytest.fixture(scope="session")
def wide_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with targets far enough apart that a chunk moves all the time."""
    folder = tmp_path_factory.mktemp("checkpoint") / "wide"
    made = small_checkpoint()
    made.action = replace(made.action, widths=np.full_like(made.action.widths, 1e-2))
    made.save(folder, "random weights")
    return folder


@pytest.fixture
def domain() -> Iterator[int]:
    """A ROS domain that nobody else uses meanwhile."""
    with own_domain() as found:
        yield found


@pytest.fixture(scope="module")
def start_graph(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Graph]]:
    """Start nodes by name; they end with the module."""
    graphs: list[Graph] = []

    def start(*nodes: str, folder: Path = checkpoint, **parameters: object) -> Graph:
        graphs.append(Graph(nodes, folder, tmp_path_factory.mktemp("log"), parameters))
        return graphs[-1]

    yield start
    for graph in graphs:
        graph.close()
