"""Servers that a benchmark starts, and those that it is given."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from served import ABOUT, echo
from small import small_checkpoint

from dfm_vla_ros.benchmarks.served import about, policies
from dfm_vla_ros.errors import BenchmarkError
from dfm_vla_ros.remote.server import PolicyServer


@contextmanager
def _server(path: Path, checkpoint_hash: str) -> Iterator[str]:
    server = PolicyServer(echo, replace(ABOUT, checkpoint_hash=checkpoint_hash), str(path))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield str(path)
    finally:
        server.close()
        thread.join()


@pytest.mark.parametrize("other, same", [("c0ffee", True), ("decade", False)])
def test_that_addresses_of_different_checkpoints_are_refused(
    tmp_path: Path, other: str, same: bool
) -> None:
    with ExitStack() as stack:
        names = ("c0ffee", other)
        paths = [tmp_path / f"{number}.sock" for number in range(2)]
        found = [stack.enter_context(_server(*pair)) for pair in zip(paths, names, strict=True)]
        if same:
            assert about(found).checkpoint_hash == "c0ffee"
        else:
            with pytest.raises(BenchmarkError, match=r"1\.sock serves decade and .*0\.sock c0f"):
                about(found)


def test_that_a_checkpoint_is_served_to_every_worker_and_all_is_gone_afterwards(
    tmp_path: Path,
) -> None:
    small_checkpoint().save(tmp_path / "small", "# test\n")
    with policies(tmp_path / "small", [], 2) as addresses:
        assert len(set(addresses)) == 2
        assert about(addresses).horizon == 8
    assert not any(Path(address).parent.exists() for address in addresses)


def test_that_a_folder_that_cannot_be_served_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(BenchmarkError, match="before it was ready"),
        policies(tmp_path / "nothing", [], 1),
    ):
        pass
