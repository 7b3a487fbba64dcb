"""Addresses and messages: what goes in comes out, and nothing else comes in."""

from __future__ import annotations

import pickle
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import ABOUT, asked, echo

from dfm_vla_ros.errors import ConnectionFailed, ProtocolError
from dfm_vla_ros.remote import protocol
from dfm_vla_ros.remote.protocol import (
    About,
    ActReply,
    ActRequest,
    decode,
    encode,
    parse_address,
)

REQUEST = {"images": {"a": asked().images["a"]}, "state": [1.0, 2.0], "prompt": "go"}


def test_that_metadata_request_and_reply_come_out_as_they_went_in() -> None:
    assert About.read(decode(encode(ABOUT))) == ABOUT
    request = ActRequest.read(decode(encode(asked(7))), ABOUT)
    reply = ActReply.read(decode(encode(echo(request).content())), ABOUT)
    assert (request.prompt, request.seed, reply.seconds, reply.evaluations) == ("go", 7, 0.25, 16)
    np.testing.assert_array_equal(request.images["a"], asked(7).images["a"])
    np.testing.assert_array_equal(request.state, [1.0, 2.0])
    np.testing.assert_array_equal(reply.actions, np.full((3, 1), 7.0))


def test_that_an_array_is_coded_as_openpi_does() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    raw = msgpack.unpackb(encode({"a": array}), strict_map_key=False)
    data = np.ascontiguousarray(array).tobytes()
    expected = {b"__ndarray__": True, b"data": data, b"dtype": "<f4", b"shape": [3, 2]}
    assert raw == {"a": expected}
    np.testing.assert_array_equal(decode(encode({"a": array}))["a"], array)


def test_that_what_openpis_clients_leave_out_has_a_default() -> None:
    image = np.moveaxis(asked(3).images["a"], 2, 0)
    content = {**REQUEST, "images": {"a": image, "other": image}, "unknown": 1}
    request = ActRequest.read(decode(encode(content)), ABOUT)
    np.testing.assert_array_equal(request.images["a"], asked(3).images["a"])
    np.testing.assert_array_equal(request.commanded, request.state)
    assert list(request.images) == ["a"] and request.seed == 0


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"images": None}, "images is None"),
        ({"images": {}}, "images has no 'a'; the policy needs"),
        ({"images": {"a": np.zeros((4, 4), np.uint8)}}, r"uint8 \(4, 4\), expected uint8"),
        ({"images": {"a": np.zeros((0, 4, 3), np.uint8)}}, "at least one pixel"),
        ({"images": {"a": np.zeros((4, 4, 3))}}, "float64"),
        ({"state": [1.0]}, r"state is .*, expected 2 numbers: x, y"),
        ({"state": ["a", "b"]}, "state is .*, expected 2 numbers"),
        ({"state": [1.0, float("nan")]}, r"state\[1\] is nan, expected a finite number"),
        ({"commanded": np.zeros(3)}, "commanded is float64"),
        ({"prompt": ""}, "prompt is '', expected a sentence of 1 to 4096"),
        ({"prompt": b"go"}, "prompt is b'go'"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": True}, "seed is True"),
    ],
)
def test_that_an_unusable_request_is_refused_by_field_value_and_bound(
    change: dict[str, Any], error: str
) -> None:
    with pytest.raises(ProtocolError, match=error):
        ActRequest.read(decode(encode({**REQUEST, **change})), ABOUT)


@pytest.mark.parametrize(
    "array",
    [
        {b"dtype": "|O", b"shape": [1], b"data": bytes(8)},
        {b"dtype": "<f8", b"shape": [2], b"data": bytes(8)},
        {b"dtype": "<f8", b"shape": [-1], b"data": bytes(8)},
        {b"dtype": "nonsense", b"shape": [1], b"data": bytes(8)},
        {b"shape": [1], b"data": bytes(8)},
    ],
)
def test_that_a_damaged_array_is_a_protocol_error(array: dict[bytes, Any]) -> None:
    with pytest.raises(ProtocolError, match="no usable msgpack"):
        decode(msgpack.packb({"a": {b"__ndarray__": True, **array}}))


def test_that_pickled_code_is_not_run() -> None:
    with pytest.raises(ProtocolError):
        decode(pickle.dumps({"a": 1}))
    with pytest.raises(ProtocolError, match="cannot be sent"):
        encode({"a": np.array([object()])})


@given(st.binary(max_size=200))
def test_that_random_bytes_are_a_protocol_error_or_a_mapping(data: bytes) -> None:
    with suppress(ProtocolError):
        assert isinstance(decode(data), dict)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(
    st.dictionaries(st.sampled_from(["images", "state", "commanded", "prompt", "seed"]), values)
)
def test_that_a_random_request_is_refused_or_usable(change: dict[str, Any]) -> None:
    try:
        request = ActRequest.read({**REQUEST, **change}, ABOUT)
    except ProtocolError:
        return
    assert request.state.shape == (2,) and request.images["a"].size


def test_that_another_version_and_another_servers_metadata_are_refused() -> None:
    with pytest.raises(ProtocolError, match="speaks version 1, this client 2"):
        About.read(decode(encode(replace(ABOUT, protocol=1))))
    with pytest.raises(ProtocolError, match="speaks version None"):
        About.read({"reset_pose": [0.0]})


def test_that_actions_of_another_shape_are_refused() -> None:
    with pytest.raises(ProtocolError, match=r"float64 \(2, 1\), expected numbers \(3, 1\)"):
        ActReply.read({"actions": np.zeros((2, 1))}, ABOUT)


def test_that_too_large_a_message_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LARGEST", 100)
    with pytest.raises(ProtocolError, match="allowed are 100: send smaller images"):
        encode(asked())


@pytest.mark.parametrize("text", ["", "localhost", ":5560", "host:", "host:66000", "host:-1"])
def test_that_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConnectionFailed, match="is neither HOST:PORT with a port of 0 to 65535"):
        parse_address(text)


@pytest.mark.parametrize("text", ["127.0.0.1:5560", "localhost:1", "[::1]:80", "./a.sock"])
def test_that_an_address_of_this_machine_is_read_and_written(text: str) -> None:
    assert str(parse_address(text)) == text and parse_address(text).is_local
    assert parse_address("ws://127.0.0.1:5560") == parse_address("127.0.0.1:5560")


@pytest.mark.parametrize("text", ["0.0.0.0:0", "example.org:80", "[::]:0"])
def test_that_other_machines_are_kept_out_unless_allowed(text: str) -> None:
    with pytest.raises(ConnectionFailed, match="can be reached from other machines"):
        parse_address(text).listen()
    parse_address("0.0.0.0:0").listen(allow_remote=True).close()
