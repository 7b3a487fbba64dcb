"""Messages as bytes: what goes in comes out, and nothing else comes in."""

from __future__ import annotations

import pickle
from dataclasses import fields
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfm_vla_ros.errors import ProtocolError
from dfm_vla_ros.remote.codec import decode, encode
from dfm_vla_ros.remote.messages import (
    About,
    ActReply,
    ActRequest,
    Alive,
    Failure,
    Health,
    Hello,
    Message,
)

ABOUT = About(1, "c0ffee", ("a",), {"a": (2, 3)}, ("x", "y"), ("z",), 8, 4, 0.1, {"t": "go"})
REQUEST = ActRequest(
    {"a": np.arange(18, dtype=np.uint8).reshape(2, 3, 3)},
    np.array([0.5, -1e300]),
    np.array([2.0, 3.0]),
    "push the button, größer",
    2**62,
)
MESSAGES = [
    Hello(1, "test"),
    ABOUT,
    REQUEST,
    ActReply(np.ones((8, 1)), 0.25, 16),
    Health(),
    Alive(3, 1.5),
    Failure("busy", "wait"),
]


def image_field(**changes: Any) -> bytes:
    """Return a request on the wire with its image's ``dtype``, ``shape`` or ``bytes`` changed."""
    content = msgpack.unpackb(encode(REQUEST))
    content["fields"]["images"]["a"].update(changes)
    return msgpack.packb(content)


def changed(**changes: Any) -> bytes:
    """Return a request on the wire with other fields."""
    content = msgpack.unpackb(encode(REQUEST))
    content["fields"].update(changes)
    return msgpack.packb(content)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_that_a_message_comes_out_as_it_went_in(message: Message) -> None:
    found = decode(encode(message))
    assert type(found) is type(message)
    for part in fields(message):
        expected, value = getattr(message, part.name), getattr(found, part.name)
        np.testing.assert_equal(value, expected)
        assert type(value) is type(expected)


def test_that_arrays_keep_their_type_and_can_be_written_to() -> None:
    found = decode(encode(REQUEST))
    assert isinstance(found, ActRequest)
    assert found.images["a"].dtype == np.uint8
    assert found.state.dtype == np.float64
    found.images["a"][0] = 0
    found.state[0] = 0


def test_that_a_view_with_strides_is_sent_as_it_reads() -> None:
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)[::-1, ::-1]
    sent = ActRequest({"a": picture}, REQUEST.state, REQUEST.commanded, "go", 0)
    found = decode(encode(sent))
    assert isinstance(found, ActRequest)
    np.testing.assert_array_equal(found.images["a"], picture)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 bytes are no msgpack"),
        (encode(REQUEST)[:-1], "bytes are no msgpack"),
        (encode(REQUEST) + b"\0", "bytes are no msgpack"),
        (msgpack.packb(7), "the message is 7, expected a mapping of kind and fields"),
        (msgpack.packb({"kind": "Reboot", "fields": {}}), "kind is 'Reboot', expected one of"),
        (msgpack.packb({"kind": "Hello", "fields": []}), "Hello.fields is [], expected a mapping"),
        (msgpack.packb({"kind": "Hello", "fields": {"protocol": 1}}), "Hello.client is missing"),
        (changed(extra=1), "ActRequest.extra is missing or none of"),
        (changed(seed=-1), "ActRequest.seed is -1, expected 0 to 4611686018427387904"),
        (changed(seed=True), "ActRequest.seed is True, expected a whole number"),
        (changed(seed=2**63), "ActRequest.seed is 9223372036854775808, expected 0 to"),
        (changed(instruction=b"go"), "ActRequest.instruction is b'go', expected a string"),
        (changed(instruction="a" * 5000), "at most 4096 characters, not 5000"),
        (changed(images=3), "ActRequest.images is 3, expected a mapping"),
        (changed(images={"a": [[1]]}), "ActRequest.images['a'] is [[1]], expected uint8"),
        (changed(state=[[[[[1]]]]]), "lies deeper than 4 mappings and lists"),
        (changed(state=msgpack.ExtType(5, b"x")), "extension type 5 of 1 bytes is not used here"),
        (image_field(dtype="object"), "images['a'].dtype is 'object', expected one of uint8"),
        (image_field(dtype="float32"), "images['a'].bytes is 18 bytes, expected 72 bytes"),
        (image_field(shape=[2, 3, 4]), "images['a'].bytes is 18 bytes, expected 24 bytes"),
        (image_field(shape=[2, 9]), "images['a'] is uint8 (2, 9), expected uint8 (H, W, 3)"),
        (image_field(shape=[-2, -3, 3]), "images['a'].shape is [-2, -3, 3], expected at most 4"),
        (image_field(shape=[2**31] * 4), "images['a'].bytes is 18 bytes, expected"),
        (image_field(shape=[1] * 32), "expected at most 4 sides"),
        (image_field(bytes="text"), "images['a'].bytes is 'text', expected 18 bytes of uint8"),
    ],
)
def test_that_a_malformed_message_is_refused_by_field_value_and_bound(
    data: bytes, said: str
) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(data)
    assert said in str(caught.value)


class Trap:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("code from the wire was run",))


def test_that_pickled_code_is_not_run() -> None:
    objects = pickle.dumps(np.array([Trap()], dtype=object))
    for data in (objects, image_field(bytes=objects), changed(state=objects)):
        with pytest.raises(ProtocolError):
            decode(data)


@given(st.binary(max_size=200))
def test_that_random_bytes_are_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
names = st.sampled_from([part.name for message in MESSAGES for part in fields(message)])


@given(st.sampled_from(MESSAGES), names, values)
def test_that_a_random_field_is_a_protocol_error_or_a_message(
    message: Message, name: str, value: Any
) -> None:
    content = msgpack.unpackb(encode(message))
    content["fields"][name] = value
    try:
        assert isinstance(decode(msgpack.packb(content)), Message)
    except ProtocolError as error:
        assert str(error)


def test_that_a_message_is_checked_when_it_is_made() -> None:
    with pytest.raises(ProtocolError, match=r"ActRequest.state is float32 \(2,\), expected float"):
        ActRequest({}, np.zeros(2, dtype=np.float32), np.zeros(2), "go", 0)
    with pytest.raises(ProtocolError, match=r"ActReply.actions\[1, 0\] is nan, expected a finite"):
        ActReply(np.array([[0.0], [np.nan]]), 0.0, 1)
    with pytest.raises(ProtocolError, match=r"ActReply.seconds is -1\.0, expected finite"):
        ActReply(np.zeros((1, 1)), -1.0, 1)
    with pytest.raises(ProtocolError, match=r"image_sizes\['a'\] is \[1\], expected 2 entries"):
        About(1, "", ("a",), {"a": [1]}, (), (), 1, 1, 0.1, {})


def test_that_an_array_of_another_type_is_not_sent() -> None:
    message = ActReply(np.zeros((1, 1)), 0.0, 1)
    object.__setattr__(message, "actions", np.zeros((1, 1), dtype=bool))
    with pytest.raises(ProtocolError, match=r"a value to send is bool \(1, 1\)"):
        encode(message)
