"""The client of a policy: an answer that is whole and of the right shape, or an error in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from served import ABOUT, PATIENCE_S, Counting, answering, asked, frame, seconds, serving

from dfm_vla_ros.errors import (
    ConnectionFailed,
    PeerLost,
    ProtocolError,
    RemoteError,
    TimedOut,
    VersionMismatch,
)
from dfm_vla_ros.remote.addresses import DEFAULT_ADDRESS, parse_address
from dfm_vla_ros.remote.client import PolicyClient
from dfm_vla_ros.remote.codec import HEADER, MAGIC, encode
from dfm_vla_ros.remote.messages import About, ActReply, Alive, Failure
from dfm_vla_ros.remote.server import PolicyServer

REPLY = ActReply(np.zeros((3, 1)), 0.0, 16)
SERVER = """
import os, sys, time
sys.path[:0] = sys.argv[2:]
from served import ABOUT
from dfm_vla_ros.remote.server import PolicyServer
server = PolicyServer(lambda request: time.sleep(600), ABOUT, sys.argv[1])
print("ready", flush=True)
server.serve_forever()
"""
LOADED = """
import sys
import dfm_vla_ros.remote.client, dfm_vla_ros.remote.server
heavy = {"cv2", "dacite", "mujoco", "rclpy", "scipy", "torch", "yaml"}
print(*(heavy & set(sys.modules)), "numpy" in sys.modules)
"""


def test_that_the_answer_is_the_policys(tmp_path: Path) -> None:
    act = Counting()
    with serving(act, tmp_path) as server, PolicyClient(server.address, PATIENCE_S) as client:
        assert client.about == ABOUT
        for number in (3, 2**62):
            reply = client.act(asked(number))
            np.testing.assert_array_equal(reply.actions, np.full((3, 1), float(number)))
            assert reply.evaluations == 16
        alive = client.alive()
        assert alive.calls == act.calls == 2
        assert alive.seconds > 0


def test_that_clients_follow_one_another(tmp_path: Path) -> None:
    with serving(Counting(), tmp_path) as server:
        for number in range(20):
            with PolicyClient(server.address, PATIENCE_S, wait_s=PATIENCE_S) as client:
                assert (client.act(asked(number)).actions == number).all()


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (Failure("version", "speaks 2"), VersionMismatch, "the server says: speaks 2"),
        (About(2, "", (), {}, (), (), 1, 1, 0.1, {}), VersionMismatch, "speaks version 2, this"),
        (Alive(0, 0.0), ProtocolError, "Hello was answered by Alive, expected About"),
        (b"SSH-2.0-OpenSSH\r\n", ProtocolError, "begins with b'SSH-', expected b'DFM1'"),
        (frame(b"\xc1"), ProtocolError, "1 bytes are no msgpack"),
        (HEADER.pack(MAGIC, 2**30), ProtocolError, "1073741824 bytes, allowed are 67108864"),
        (b"", PeerLost, "closed the connection before a message was whole"),
        (b"DFM1\x00\x00", PeerLost, "closed the connection before a message's header was whole"),
    ],
)
def test_that_who_does_not_greet_as_a_server_is_an_error(
    tmp_path: Path, answer: bytes, error: type[RemoteError], said: str
) -> None:
    with answering(tmp_path, answer) as address, pytest.raises(error) as caught:
        PolicyClient(address, PATIENCE_S)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (ActReply(np.zeros((3, 2)), 0.0, 1), ProtocolError, "is (3, 2), expected (3, 1)"),
        (ActReply(np.zeros((4, 1)), 0.0, 1), ProtocolError, "is (4, 1), expected (3, 1)"),
        (Alive(0, 0.0), ProtocolError, "answered by Alive, expected ActReply"),
        (frame(encode(REPLY))[:-3], PeerLost, "before a message of"),
        (b"", PeerLost, "closed the connection"),
    ],
)
def test_that_a_wrong_or_cut_answer_gives_no_actions_and_ends_the_connection(
    tmp_path: Path, answer: bytes, error: type[RemoteError], said: str
) -> None:
    with answering(tmp_path, ABOUT, answer) as address:
        client = PolicyClient(address, PATIENCE_S)
        with pytest.raises(error) as caught:
            client.act(asked())
        assert said in str(caught.value)
        with pytest.raises(PeerLost, match="is closed because"):
            client.act(asked())


def test_that_a_reply_with_nan_gives_no_actions(tmp_path: Path) -> None:
    bad = ActReply(np.zeros((3, 1)), 0.0, 1)
    bad.actions[1] = np.nan
    with answering(tmp_path, ABOUT, bad) as address:
        client = PolicyClient(address, PATIENCE_S)
        with pytest.raises(ProtocolError, match=r"ActReply.actions\[1, 0\] is nan"):
            client.act(asked())


@pytest.mark.parametrize("greets", [False, True])
def test_that_a_server_that_hangs_is_given_up_in_time(tmp_path: Path, greets: bool) -> None:
    answers = (ABOUT, None) if greets else (None,)
    with answering(tmp_path, *answers) as address:
        began_s = time.monotonic()
        with pytest.raises(TimedOut, match="0 of 1 bytes came within 0"):
            PolicyClient(address, timeout_s=0.5).act(asked())
        assert seconds(began_s) < 10.0


def test_that_an_answer_that_comes_too_late_is_not_that_of_the_next_call(tmp_path: Path) -> None:
    def act(request: object) -> ActReply:
        time.sleep(0.8)
        return REPLY

    with serving(act, tmp_path) as server:
        client = PolicyClient(server.address, timeout_s=0.5)
        with pytest.raises(TimedOut):
            client.act(asked())
        time.sleep(0.6)
        with pytest.raises(PeerLost, match="is closed because"):
            client.act(asked())


@pytest.mark.parametrize("address", ["{}/killed.sock", "127.0.0.1:0"])
def test_that_a_server_that_is_killed_during_a_call_is_noticed(
    tmp_path: Path, address: str
) -> None:
    address = address.format(tmp_path) if "/" in address else _free_port()
    command = [sys.executable, "-c", SERVER, address, str(Path(__file__).parents[1])]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            client = PolicyClient(address, PATIENCE_S)
            threading.Timer(0.3, os.kill, (process.pid, signal.SIGKILL)).start()
            began_s = time.monotonic()
            with pytest.raises(PeerLost):
                client.act(asked())
            assert seconds(began_s) < 10.0
        finally:
            process.kill()
    with pytest.raises(ConnectionFailed, match="no policy at"):
        PolicyClient(address, PATIENCE_S)


def _free_port() -> str:
    listener = parse_address("127.0.0.1:0").listen()
    with listener:
        return "{}:{}".format(*listener.getsockname())


def test_that_too_large_a_request_is_not_sent(tmp_path: Path) -> None:
    act = Counting()
    with serving(act, tmp_path) as server:
        client = PolicyClient(server.address, PATIENCE_S, largest=1000)
        large = replace(asked(), images={"a": np.zeros((40, 40, 3), dtype=np.uint8)})
        with pytest.raises(ProtocolError, match=r"ActRequest has \d+ bytes, allowed are 1000:"):
            client.act(large)
        assert act.calls == 0


def test_that_a_client_waits_for_a_server_that_is_not_there_yet(tmp_path: Path) -> None:
    address = f"{tmp_path}/policy.sock"
    with pytest.raises(ConnectionFailed, match="start dfm-vla serve --address"):
        PolicyClient(address, PATIENCE_S)
    found: list[About] = []
    thread = threading.Thread(
        target=lambda: found.append(PolicyClient(address, PATIENCE_S, wait_s=PATIENCE_S).about)
    )
    thread.start()
    time.sleep(0.3)
    with serving(Counting(), tmp_path):
        thread.join(PATIENCE_S)
    assert found == [ABOUT]


def test_that_a_simulator_needs_numpy_and_msgpack_alone() -> None:
    run = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True)
    assert run.stdout == "True\n", run


@pytest.mark.parametrize("text", ["", "localhost", ":5560", "host:", "host:66000", "host:-1"])
def test_that_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConnectionFailed, match="is neither HOST:PORT with a port of 0 to 65535"):
        parse_address(text)


@pytest.mark.parametrize("text", [DEFAULT_ADDRESS, "[::1]:0", "localhost:1", "./policy.sock"])
def test_that_an_address_of_this_machine_is_read_and_written(text: str) -> None:
    assert str(parse_address(text)) == text
    assert parse_address(text).is_local


@pytest.mark.parametrize("text", ["0.0.0.0:0", "192.168.1.10:0", "[::]:0", "robot.example:0"])
def test_that_other_machines_are_kept_out_unless_allowed(text: str) -> None:
    with pytest.raises(ConnectionFailed, match=r"can be reached from other machines.*--allow-rem"):
        PolicyServer(Counting(), ABOUT, text)


def test_that_everybody_can_be_let_in() -> None:
    PolicyServer(Counting(), ABOUT, "0.0.0.0:0", allow_remote=True).close()


def test_that_a_taken_address_is_refused_and_one_of_a_dead_server_is_not(tmp_path: Path) -> None:
    path = f"{tmp_path}/policy.sock"
    parse_address(path).listen().close()  # as a killed server leaves it
    assert Path(path).is_socket()
    with serving(Counting(), tmp_path) as server:
        assert server.address == path
        with pytest.raises(ConnectionFailed, match=r"cannot listen at .*; choose another"):
            PolicyServer(Counting(), ABOUT, path)
        PolicyClient(path, PATIENCE_S, wait_s=PATIENCE_S).close()
    (tmp_path / "file").write_text("no socket")
    with pytest.raises(ConnectionFailed, match="cannot listen at"):
        PolicyServer(Counting(), ABOUT, f"{tmp_path}/file")
    assert (tmp_path / "file").read_text() == "no socket"


@pytest.mark.parametrize("text", ["a" * 70 + ":1", "/tmp/" + "a" * 200, "/nowhere/policy.sock"])
def test_that_an_address_that_cannot_be_is_an_error(text: str) -> None:
    with pytest.raises(ConnectionFailed, match="no policy at"):
        PolicyClient(text, PATIENCE_S)
    with pytest.raises(ConnectionFailed, match=r"cannot listen at|can be reached from other"):
        PolicyServer(Counting(), ABOUT, text)
