"""The server of a policy: whatever comes, it answers in time and the next client is served."""

from __future__ import annotations

import socket
import struct
import threading
import time
from pathlib import Path

import msgpack
import numpy as np
import pytest
from served import (
    ABOUT,
    PATIENCE_S,
    SLOW_S,
    Counting,
    asked,
    frame,
    greeted,
    raw,
    seconds,
    serving,
)

from dfm_vla_ros.errors import (
    ConnectionFailed,
    DfmVlaError,
    PeerLost,
    PolicyFailed,
    ProtocolError,
    TimedOut,
    VersionMismatch,
)
from dfm_vla_ros.remote.client import PolicyClient
from dfm_vla_ros.remote.codec import HEADER, LARGEST, MAGIC, Connection, encode
from dfm_vla_ros.remote.messages import PROTOCOL, About, ActReply, ActRequest, Failure, Hello
from dfm_vla_ros.remote.server import PolicyServer

REQUEST = encode(asked())
IMAGE = np.zeros((4, 4, 3), dtype=np.uint8)


def failure(sock: socket.socket) -> Failure:
    """Return the server's last word, after which it has closed the connection."""
    connection = Connection(sock)
    found = connection.receive(PATIENCE_S, PATIENCE_S)
    assert isinstance(found, Failure)
    sock.shutdown(socket.SHUT_WR)
    sock.settimeout(PATIENCE_S)
    assert sock.recv(1) == b""
    sock.close()
    return found


def assert_serves(server: PolicyServer, act: Counting) -> None:
    """Assert that the policy was not asked yet, and that the next client is served."""
    assert act.calls == 0
    with PolicyClient(server.address, PATIENCE_S, wait_s=PATIENCE_S) as client:
        assert (client.act(asked(7)).actions == 7.0).all()
    assert act.calls == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "a message begins with b'GET ', expected b'DFM1'"),
        (frame(b"\xc1"), "1 bytes are no msgpack"),
        (frame(msgpack.packb({"kind": "ActRequest", "fields": {}})), "ActRequest.commanded is"),
        (frame(encode(ActReply(np.zeros((1, 1)), 0.0, 1))), "ActReply came, expected ActRequest"),
        (frame(encode(Hello(PROTOCOL, "again"))), "Hello came, expected ActRequest or Health"),
        (HEADER.pack(MAGIC, LARGEST + 1), f"{LARGEST + 1} bytes, allowed are {LARGEST}"),
        (HEADER.pack(MAGIC, 2**32 - 1), "a message has 4294967295 bytes, allowed are 67108864"),
    ],
)
def test_that_a_malformed_or_oversized_message_is_refused_and_the_next_client_served(
    tmp_path: Path, data: bytes, said: str
) -> None:
    act = Counting()
    with serving(act, tmp_path) as server:
        sock, _ = greeted(server.address)
        sock.sendall(data)
        found = failure(sock)
        assert found.code == "protocol"
        assert said in found.message
        assert_serves(server, act)


@pytest.mark.parametrize("sent", [1, 6, len(frame(REQUEST)) - 1])
def test_that_a_client_that_falls_silent_in_a_message_is_dropped_in_time(
    tmp_path: Path, sent: int
) -> None:
    act = Counting()
    with serving(act, tmp_path, SLOW_S) as server:
        sock, _ = greeted(server.address)
        sock.sendall(frame(REQUEST)[:sent])
        began_s = time.monotonic()
        found = failure(sock)
        assert SLOW_S * 0.9 < seconds(began_s) < 10.0
        assert found.code == "slow"
        assert "bytes came within 0." in found.message
        assert_serves(server, act)


def test_that_a_message_in_drops_is_bounded_as_a_whole(tmp_path: Path) -> None:
    act = Counting()
    with serving(act, tmp_path, SLOW_S) as server:
        sock, _ = greeted(server.address)
        began_s = time.monotonic()
        with pytest.raises(OSError, match=r"Broken pipe|reset"):
            for byte in frame(REQUEST):
                sock.sendall(bytes([byte]))
                time.sleep(SLOW_S / 10)
        assert seconds(began_s) < 20.0
        sock.close()
        assert_serves(server, act)


def test_that_a_client_that_says_nothing_at_all_does_not_keep_the_place(tmp_path: Path) -> None:
    act = Counting()
    with serving(act, tmp_path, SLOW_S) as server:
        with raw(server.address) as sock:
            assert failure(sock).code == "slow"
        assert_serves(server, act)


def test_that_a_client_that_dies_in_a_message_leaves_the_place(tmp_path: Path) -> None:
    act = Counting()
    with serving(act, tmp_path) as server:
        sock, _ = greeted(server.address)
        sock.sendall(frame(REQUEST)[:50])
        sock.close()
        assert_serves(server, act)


def test_that_tcp_resets_end_only_that_client() -> None:
    act = Counting()
    server = PolicyServer(act, About(1, "", (), {}, (), ("z",), 3, 2, 0.1, {}), "127.0.0.1:0")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    sock, _ = greeted(server.address)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    request = ActRequest({}, np.zeros(0), np.zeros(0), "go", 2)
    with PolicyClient(server.address, PATIENCE_S, wait_s=PATIENCE_S) as client:
        assert client.act(request).evaluations == 16
    server.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_that_another_version_is_refused_on_both_sides(tmp_path: Path) -> None:
    act = Counting()
    with serving(act, tmp_path) as server:
        sock = raw(server.address)
        sock.sendall(frame(encode(Hello(PROTOCOL + 1, "newer"))))
        found = failure(sock)
        assert found.code == "version"
        assert found.message == (
            "the server speaks version 1, the client newer 2: install the same release on both "
            "sides"
        )
        assert_serves(server, act)


def test_that_a_second_client_is_refused_at_once_even_during_a_call(tmp_path: Path) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def act(request: ActRequest) -> ActReply:
        inside.set()
        go_on.wait(PATIENCE_S)
        return Counting()(request)

    replies: list[ActReply] = []
    with serving(act, tmp_path) as server:
        first = PolicyClient(server.address, PATIENCE_S, name="the first")
        thread = threading.Thread(target=lambda: replies.append(first.act(asked(3))))
        thread.start()
        inside.wait(PATIENCE_S)
        began_s = time.monotonic()
        with pytest.raises(PolicyFailed, match="serves the first, and one client at") as caught:
            PolicyClient(server.address, PATIENCE_S)
        assert seconds(began_s) < 5.0
        assert caught.value.reason == "busy"
        go_on.set()
        thread.join(PATIENCE_S)
        assert (replies[0].actions == 3.0).all()
        first.close()
        PolicyClient(server.address, PATIENCE_S, wait_s=PATIENCE_S).close()


def test_that_what_the_policy_refuses_is_said_and_the_connection_stays(tmp_path: Path) -> None:
    def act(request: ActRequest) -> ActReply:
        if request.seed == 1:
            raise DfmVlaError("no word of 'go' is known: " + "x" * 10_000)
        return Counting()(request)

    with serving(act, tmp_path) as server, PolicyClient(server.address, PATIENCE_S) as client:
        with pytest.raises(PolicyFailed, match="no word of 'go' is known") as caught:
            client.act(asked(1))
        assert caught.value.reason == "policy"
        assert (client.act(asked(2)).actions == 2.0).all()
        assert client.alive().calls == 1


@pytest.mark.parametrize("name", ["images", "state", "commanded"])
def test_that_a_request_that_lacks_what_is_asked_for_is_not_acted_upon(
    tmp_path: Path, name: str
) -> None:
    act = Counting()
    short = {"images": {"b": IMAGE}, "state": np.zeros(3), "commanded": np.zeros(1)}
    fields = {"images": {"a": IMAGE}, "state": np.zeros(2), "commanded": np.zeros(2)}
    request = ActRequest(**{**fields, name: short[name]}, instruction="go", seed=0)
    with serving(act, tmp_path) as server:
        sock, connection = greeted(server.address)
        connection.send(request, PATIENCE_S)
        found = connection.receive(PATIENCE_S, PATIENCE_S)
        assert isinstance(found, Failure)
        assert (found.code, act.calls) == ("request", 0)
        assert f"ActRequest.{name} has" in found.message
        sock.close()
        with PolicyClient(server.address, PATIENCE_S, wait_s=PATIENCE_S) as client:
            with pytest.raises(ProtocolError, match=f"ActRequest.{name} has"):
                client.act(request)
            assert client.alive().calls == 0


def test_that_a_broken_policy_ends_the_server_and_the_client_hears_why(tmp_path: Path) -> None:
    def act(request: ActRequest) -> ActReply:
        raise ZeroDivisionError("in the network")

    server = PolicyServer(act, ABOUT, f"{tmp_path}/policy.sock")
    broken: list[BaseException] = []

    def run() -> None:
        try:
            server.serve_forever()
        except ZeroDivisionError as error:
            broken.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    client = PolicyClient(server.address, PATIENCE_S)
    with pytest.raises(PolicyFailed, match="the policy broke: ZeroDivisionError") as caught:
        client.act(asked())
    thread.join(PATIENCE_S)
    assert caught.value.reason == "crash"
    assert len(broken) == 1
    with pytest.raises((PeerLost, ConnectionFailed)):
        PolicyClient(server.address, PATIENCE_S)


def test_that_closing_ends_the_connection_and_removes_the_socket(tmp_path: Path) -> None:
    with serving(Counting(), tmp_path) as server:
        client = PolicyClient(server.address, PATIENCE_S)
        assert Path(server.address).stat().st_mode & 0o777 == 0o600
        server.close()
        with pytest.raises(PeerLost):
            client.act(asked())
        assert not Path(server.address).exists()


def test_that_errors_of_the_wire_have_distinct_codes() -> None:
    codes = {kind.code for kind in (ProtocolError, TimedOut, VersionMismatch)}
    assert codes == {"protocol", "slow", "version"}
