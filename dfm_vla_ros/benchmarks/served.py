"""Policies in processes of their own, one for each simulator: a server has one client."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from dfm_vla_ros.errors import BenchmarkError
from dfm_vla_ros.remote.client import PolicyClient
from dfm_vla_ros.remote.protocol import About
from dfm_vla_ros.resources import resource_path

Protocol = TypeVar("Protocol", bound=Any)


def read_presets(name: str, error: type[BenchmarkError]) -> dict[str, dict[str, Any]]:
    """Return name -> settings of a file of the package; raises ``error`` if it is damaged."""
    path = resource_path(name)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise error(f"{path} is damaged: it maps no names to settings; restore it")
    return content


def changed_preset(
    found: Mapping[str, Protocol],
    name: str,
    changes: Mapping[str, Any],
    error: type[BenchmarkError],
) -> Protocol:
    """Return a preset of ``found`` with ``changes``; those that are None change nothing.

    A changed preset says so in its name, so that its results are not taken for the preset's.
    Raises ``error`` if there is no such preset.
    """
    if name not in found:
        raise error(f"there is no preset {name!r}; there are {', '.join(found)}")
    preset = found[name]
    given = {key: value for key, value in changes.items() if value is not None}
    changed = {key: value for key, value in given.items() if value != getattr(preset, key)}
    if not changed:
        return preset
    words = ", ".join(f"{key} {value}" for key, value in changed.items())
    return replace(preset, name=f"{name} ({words})", **changed)


START_LIMIT_S = 600.0
"""Some checkpoints are large."""
END_LIMIT_S = 10.0


@contextmanager
def policies(
    checkpoint: Path | None, addresses: Sequence[str], workers: int, arguments: Sequence[str] = ()
) -> Iterator[list[str]]:
    """Give addresses of policies: ``addresses``, or of ``workers`` servers of ``checkpoint``.

    Raises:
        BenchmarkError: neither or both are given, or a server does not start.
    """
    if (checkpoint is None) == (not addresses):
        raise BenchmarkError("give either --checkpoint, or --policy with the address of a server")
    if checkpoint is None:
        yield list(addresses)
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="policy_")))
        sockets = [str(folder / f"policy{number}.sock") for number in range(workers)]
        # All are started before any is waited for: they load at the same time.
        servers = [stack.enter_context(_server(checkpoint, one, arguments)) for one in sockets]
        for server in servers:
            _wait(server, checkpoint)
        yield sockets


def about(addresses: Sequence[str]) -> About:
    """Return what the policy at all of ``addresses`` is.

    Raises:
        RemoteError: nobody listens at one, or another client is served there.
        BenchmarkError: they serve different policies, whose results would be mixed.
    """
    found = [_about(address) for address in addresses]
    for address, other in zip(addresses, found, strict=True):
        if other != found[0]:
            raise BenchmarkError(
                f"{address} serves {other.checkpoint_hash[:12]} and {addresses[0]} "
                f"{found[0].checkpoint_hash[:12]}, or with other steps: serve one checkpoint "
                "with the same options at all addresses"
            )
    return found[0]


def _about(address: str) -> About:
    with PolicyClient(address, wait_s=5.0) as client:
        return client.about


@contextmanager
def _server(
    checkpoint: Path, socket: str, arguments: Sequence[str]
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "dfm_vla_ros.cli", "serve", "--checkpoint", str(checkpoint)]
    process = subprocess.Popen(
        [*command, "--address", socket, *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[str], checkpoint: Path) -> None:
    """Wait until a server is ready.

    Raises:
        BenchmarkError: it is not within ``START_LIMIT_S``, or it ended.
    """
    assert process.stdout is not None, "made with a pipe"
    timer = threading.Timer(START_LIMIT_S, process.kill)
    timer.start()
    line = process.stdout.readline()
    timer.cancel()
    if "served" not in line:
        raise BenchmarkError(
            f"dfm-vla serve --checkpoint {checkpoint} ended with {process.wait()} before it "
            "was ready; what it said is above"
        )
    # Its log would fill the pipe.
    threading.Thread(target=process.stdout.read, daemon=True).start()
