"""A server at SIGTERM: it ends, even in a call that does not."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from served import PATIENCE_S, asked

from dfm_vla_ros.errors import RemoteError
from dfm_vla_ros.remote.client import PolicyClient

SERVER = """
import atexit, signal, sys, time
from dfm_vla_ros.remote.addresses import end_at, leave
from dfm_vla_ros.remote.server import PolicyServer
from served import ABOUT, Counting

policy = Counting()

def act(request):
    if request.seed:
        print("called", flush=True)
        time.sleep(600)
    return policy(request)

server = PolicyServer(act, ABOUT, sys.argv[1])
end_at((signal.SIGTERM,), server.close, {within_s})
print("ready", flush=True)
atexit.register(time.sleep, 600)  # what libraries do as they are taken apart
server.serve_forever()
leave()
"""


@contextmanager
def _started(address: Path, within_s: float = PATIENCE_S) -> Iterator[subprocess.Popen[str]]:
    code = SERVER.format(within_s=within_s)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(address)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("connected", [False, True])
def test_that_an_idle_server_ends_well_at_sigterm(tmp_path: Path, connected: bool) -> None:
    address = tmp_path / "policy.sock"
    with _started(address) as process:
        client = PolicyClient(str(address), wait_s=PATIENCE_S) if connected else None
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert not address.exists()
        if client is not None:
            client.close()


def test_that_a_call_without_end_is_cut_off_at_sigterm(tmp_path: Path) -> None:
    address = tmp_path / "policy.sock"
    with _started(address, within_s=0.5) as process:

        def end_when_called() -> None:
            assert process.stdout.readline() == "called\n"
            process.send_signal(signal.SIGTERM)

        thread = threading.Thread(target=end_when_called)
        thread.start()
        with (
            PolicyClient(str(address), timeout_s=PATIENCE_S, wait_s=PATIENCE_S) as client,
            pytest.raises(RemoteError),
        ):
            client.act(asked(1))
        thread.join()
        assert process.wait(PATIENCE_S) == -signal.SIGALRM
