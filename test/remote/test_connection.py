"""Server and client: an answer that is whole, or an error in time; the server lives on."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import msgpack
import numpy as np
import pytest
from served import ABOUT, PATIENCE_S, asked, echo, serving
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from dfm_vla_ros.errors import (
    ConnectionFailed,
    DfmVlaError,
    PeerLost,
    PolicyFailed,
    ProtocolError,
    RemoteError,
    TimedOut,
)
from dfm_vla_ros.remote.client import PolicyClient
from dfm_vla_ros.remote.protocol import ActReply, ActRequest, encode, parse_address

LIGHT = """
import sys
import dfm_vla_ros.remote.client, dfm_vla_ros.remote.server
print(not {"torch", "scipy", "mujoco", "rclpy", "pydantic"} & set(sys.modules))
"""
SERVER = """
import atexit, sys, time
from dfm_vla_ros.remote.server import PolicyServer, serve_until_signal
from served import ABOUT, echo

def act(request):
    if request.seed:
        print("called", flush=True)
        time.sleep(600)
    return echo(request)

server = PolicyServer(act, ABOUT, sys.argv[1])
print("ready", flush=True)
atexit.register(time.sleep, 600)  # what libraries do as they are taken apart
serve_until_signal(server, {within_s})
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return f"{tmp_path}/policy.sock"


@pytest.mark.parametrize("address", ["127.0.0.1:0", ""])
def test_that_the_answer_is_the_policys_over_both_kinds_of_socket(path: str, address: str) -> None:
    with serving(echo, address or path) as server, PolicyClient(server.address) as client:
        assert client.about == ABOUT
        for seed in (1, 2):
            assert (client.act(asked(seed)).actions == seed).all()


def test_that_clients_at_the_same_time_each_get_their_own_answer(path: str) -> None:
    busy, most = [], []

    def act(request: ActRequest) -> ActReply:
        busy.append(1)
        most.append(len(busy))
        time.sleep(0.002)
        busy.pop()
        return echo(request)

    def ask(seed: int) -> bool:
        with PolicyClient(path) as client:
            return all((client.act(asked(seed)).actions == seed).all() for _ in range(5))

    with serving(act, path), ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(8)))
    assert max(most) == 1, "calls of the policy overlapped"


def test_that_errors_of_policy_and_request_are_said_and_the_connection_stays(path: str) -> None:
    def act(request: ActRequest) -> ActReply:
        if request.seed == 1:
            raise DfmVlaError("the sentence has no known word")
        if request.seed == 2:
            raise ValueError("a fault")
        return echo(request)

    with serving(act, path), PolicyClient(path) as client:
        for seed, why in ((1, "no known word"), (2, r"the policy broke: ValueError\('a fault'\)")):
            with pytest.raises(PolicyFailed, match=why):
                client.act(asked(seed))
        missing = ActRequest({}, np.zeros(2), np.zeros(2), "go")
        with pytest.raises(PolicyFailed, match="images has no 'a'"):
            client.act(missing)
        assert (client.act(asked(3)).actions == 3).all()


@pytest.mark.parametrize("frame", [b"", b"nonsense", "text", msgpack.packb([1]), bytes(100_000)])
def test_that_a_malformed_frame_is_answered_by_text_and_the_server_lives(
    path: str, frame: bytes | str
) -> None:
    with serving(echo, path):
        sock = parse_address(path).connect(PATIENCE_S)
        with connect("ws://policy", sock=sock, compression=None, proxy=None) as stranger:
            stranger.recv(PATIENCE_S)
            stranger.send(frame)
            assert isinstance(stranger.recv(PATIENCE_S), str)
            stranger.send(encode(asked()))
            assert isinstance(stranger.recv(PATIENCE_S), bytes)
        with PolicyClient(path) as client:
            client.act(asked())


def test_that_what_is_no_websocket_does_not_keep_others_out(path: str) -> None:
    with serving(echo, path):
        strangers = [parse_address(path).connect(PATIENCE_S) for _ in range(3)]
        strangers[0].sendall(bytes(1000))
        strangers[1].close()
        with PolicyClient(path) as client:
            client.act(asked())
        for stranger in strangers:
            stranger.close()


def test_that_the_health_of_a_server_can_be_asked_by_http() -> None:
    with serving(echo, "127.0.0.1:0") as server:
        url = f"http://{server.address}/healthz"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            assert (answer.status, answer.read()) == (200, b"OK\n")


@contextmanager
def other_server(path: str, answer: Callable[[ServerConnection], None]) -> Iterator[None]:
    """Serve something that is no policy."""
    with serve(answer, sock=parse_address(path).listen(), compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield
        server.shutdown()
        thread.join(PATIENCE_S)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"nonsense", ProtocolError),
        (encode({"reset_pose": [0.0]}), ProtocolError),
        ("an error", PolicyFailed),
    ],
)
def test_that_who_does_not_greet_as_a_server_is_an_error(
    path: str, answer: bytes | str, error: type[RemoteError]
) -> None:
    with other_server(path, lambda stranger: stranger.send(answer)), pytest.raises(error):
        PolicyClient(path)


def test_that_a_wrong_answer_gives_no_actions_and_ends_the_connection(path: str) -> None:
    def wrong(stranger: ServerConnection) -> None:
        stranger.send(encode(ABOUT))
        stranger.recv()
        stranger.send(encode({"actions": np.zeros((2, 2))}))

    with other_server(path, wrong), PolicyClient(path) as client:
        with pytest.raises(ProtocolError, match="expected numbers"):
            client.act(asked())
        with pytest.raises(PeerLost, match="connect again"):
            client.act(asked())


def test_that_a_server_that_hangs_is_given_up_in_time(path: str) -> None:
    released = threading.Event()

    def act(request: ActRequest) -> ActReply:
        released.wait(PATIENCE_S)
        return echo(request)

    with serving(act, path), PolicyClient(path, timeout_s=0.2) as client:
        with pytest.raises(TimedOut, match=r"no answer in 0\.2 s"):
            client.act(asked())
        released.set()
        with pytest.raises(PeerLost):
            client.act(asked())


def test_that_a_listener_that_says_nothing_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(TimedOut, match="no handshake"):
            PolicyClient(address, timeout_s=0.2)


def test_that_a_client_waits_for_a_server_that_is_not_there_yet(path: str) -> None:
    with pytest.raises(ConnectionFailed, match=r"no policy at .*: start dfm-vla serve"):
        PolicyClient(path)
    found = []
    thread = threading.Thread(
        target=lambda: found.append(PolicyClient(path, wait_s=PATIENCE_S).about)
    )
    thread.start()
    time.sleep(0.2)
    with serving(echo, path):
        thread.join(PATIENCE_S)
    assert found == [ABOUT]


def test_that_a_taken_address_is_refused_and_one_of_a_dead_server_is_not(path: str) -> None:
    with serving(echo, path), pytest.raises(ConnectionFailed, match="cannot listen at"):
        parse_address(path).listen()
    assert not Path(path).exists()
    with parse_address(path).listen():
        pass  # the socket stays, as after a kill
    with parse_address(path).listen():
        assert Path(path).stat().st_mode & 0o777 == 0o600


def test_that_neither_side_loads_torch_or_another_heavy_library() -> None:
    run = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert run.stdout == "True\n", run


@contextmanager
def started(path: str, within_s: float = PATIENCE_S) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER.format(within_s=within_s), path],
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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_that_a_server_ends_well_at_a_signal_with_a_client_connected(
    path: str, number: signal.Signals
) -> None:
    with started(path) as process, PolicyClient(path, wait_s=PATIENCE_S) as client:
        client.act(asked())
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
        assert not Path(path).exists()
        with pytest.raises(PeerLost):
            client.act(asked())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_that_a_server_ended_in_a_call_is_noticed(path: str, number: signal.Signals) -> None:
    with started(path, within_s=0.3) as process:

        def end_when_called() -> None:
            assert process.stdout.readline() == "called\n"
            process.send_signal(number)

        thread = threading.Thread(target=end_when_called)
        thread.start()
        with PolicyClient(path, wait_s=PATIENCE_S) as client, pytest.raises(PeerLost):
            client.act(asked(1))
        thread.join()
        assert process.wait(PATIENCE_S) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
