"""One twin for all tests of the simulation: building it takes longer than an episode."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dfm_vla_ros.sim.twin import Twin


@pytest.fixture(scope="session")
def twin() -> Iterator[Twin]:
    twin = Twin()
    yield twin
    twin.close()
