"""Bags of every kind are read alike, and of torn ones what is there, with the reason."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, Writer
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionMode, StoragePlugin

from dfm_vla_ros.bags.reading import Bag, Message
from dfm_vla_ros.bags.storage import make, typestore
from dfm_vla_ros.bags.synthetic import Recorded, Run, write_messages
from dfm_vla_ros.bags.writing import BagWriter
from dfm_vla_ros.errors import BagError

RUN = Run(seconds=3.0, episode_s=3.0, side_px=48)
MCAP, SQLITE = StoragePlugin.MCAP, StoragePlugin.SQLITE3
NONE, STORAGE = CompressionMode.NONE, CompressionMode.STORAGE
FILE, EACH = CompressionMode.FILE, CompressionMode.MESSAGE


@pytest.fixture(scope="module")
def recorded() -> list[Recorded]:
    return list(RUN.messages())


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory, recorded: list[Recorded]) -> Path:
    return write_messages(tmp_path_factory.mktemp("recorded") / "run", recorded)


@pytest.fixture
def copy(tmp_path: Path, bag: Path) -> Path:
    """A bag that may be spoilt."""
    folder = tmp_path / "run"
    folder.mkdir()
    for file in bag.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def said(bag: Bag) -> str:
    return "\n".join(fault.text(bag.start_ns) for fault in bag.faults)


def read(path: Path, topics: Iterable[str] | None = None) -> tuple[list[Message], str]:
    with Bag(path) as bag:
        return list(bag.messages(topics)), said(bag)


def content(message: object) -> object:
    """Return a message's fields, to be compared."""
    if isinstance(message, np.ndarray):
        return message.tolist()
    if isinstance(message, list):
        return [content(item) for item in message]
    if hasattr(message, "__dataclass_fields__"):
        fields = [name for name in message.__dataclass_fields__ if not name.startswith("__")]
        return {name: content(getattr(message, name)) for name in fields}
    return message


@pytest.mark.parametrize(
    ("storage", "compression"),
    [
        (MCAP, NONE),
        (MCAP, STORAGE),
        (MCAP, FILE),
        (MCAP, EACH),
        (SQLITE, NONE),
        (SQLITE, FILE),
        (SQLITE, EACH),
    ],
)
def test_that_every_kind_of_bag_gives_what_rosbags_itself_reads(
    tmp_path: Path, recorded: list[Recorded], storage: StoragePlugin, compression: CompressionMode
) -> None:
    folder = write_messages(tmp_path / "run", recorded, storage, compression)
    found, faults = read(folder)
    assert faults == ""
    with AnyReader([folder], default_typestore=typestore()) as reader:
        expected = [
            (connection.topic, at, content(reader.deserialize(raw, connection.msgtype)))
            for connection, at, raw in reader.messages()
        ]
    assert len(found) == len(expected) == len(recorded)
    key = lambda item: (item[1], item[0])  # noqa: E731 - topics of one moment in any order
    mine = [(message.topic, message.received_ns, content(message.value)) for message in found]
    assert sorted(mine, key=key) == sorted(expected, key=key)
    received = [message.received_ns for message in found]
    assert received == sorted(received)


def test_that_a_single_file_is_a_bag(bag: Path) -> None:
    found, faults = read(bag / "run.mcap", ["/joint_states"])
    assert len(found) == 300
    assert faults == ""


def test_that_only_the_topics_that_are_wanted_are_read(bag: Path) -> None:
    found, _ = read(bag, ["/task_status"])
    assert {message.topic for message in found} == {"/task_status"}
    assert len(found) == 30


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95, 0.999])
def test_that_of_a_file_cut_short_what_is_before_the_cut_is_read(
    copy: Path, bag: Path, share: float
) -> None:
    path = copy / "run.mcap"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    whole, _ = read(bag)
    found, faults = read(copy)
    assert [message.received_ns for message in found] == [
        message.received_ns for message in whole[: len(found)]
    ]
    assert "run.mcap: cut off" in faults
    assert "at byte" in faults


@pytest.mark.parametrize("compression", list(CompressionType))
def test_that_chunks_before_a_cut_are_read_whatever_their_compression(
    tmp_path: Path, compression: CompressionType
) -> None:
    path, store, kind = tmp_path / "cut.mcap", typestore(), "std_msgs/msg/String"
    data = bytes(store.serialize_cdr(store.types[kind](data="x" * 100), kind))
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=2000, compression=compression)
        writer.start("ros2")
        schema = writer.register_schema(kind, "ros2msg", b"string data")
        channel = writer.register_channel("/text", "cdr", schema)
        for at_ns in range(1, 201):
            writer.add_message(channel, at_ns, data, at_ns)
        writer.finish()
    assert len(read(path)[0]) == 200
    path.write_bytes(path.read_bytes()[: round(0.4 * path.stat().st_size)])
    found, faults = read(path)
    assert [message.received_ns for message in found] == list(range(1, len(found) + 1))
    assert len(found) >= 20
    assert "cut.mcap: cut off" in faults


def test_that_a_recorder_that_was_killed_leaves_a_bag(tmp_path: Path) -> None:
    store = typestore()
    writer = BagWriter(tmp_path / "run")
    written = 0
    for topic, kind, received_ns, message in Run(seconds=2.0, side_px=32).messages():
        writer.write(topic[1:], bytes(store.serialize_cdr(message, kind)), received_ns)
        written += 1
        if written == 500:
            writer.flush()
    # It is killed here: no index, no metadata.yaml, and the last chunk never left its memory.
    found, faults = read(tmp_path / "run")
    assert len(found) == 500
    assert "metadata.yaml: is missing: was the recorder killed?" in faults
    assert "run.mcap: cut off at byte" in faults
    writer.close()
    found, faults = read(tmp_path / "run")
    assert len(found) == written
    assert faults == ""


def test_that_a_corrupt_chunk_is_named_and_the_others_are_read(
    tmp_path: Path, recorded: list[Recorded]
) -> None:
    store, folder = typestore(), tmp_path / "run"
    writer = BagWriter(folder)
    for topic, kind, received_ns, message in recorded:
        writer.write(topic[1:], bytes(store.serialize_cdr(message, kind)), received_ns)
    writer.close()
    path = folder / "run.mcap"
    data = bytearray(path.read_bytes())
    chunks = chunk_starts(data)
    assert len(chunks) >= 3
    middle = chunks[1] + 200
    data[middle : middle + 400] = bytes(400)
    path.write_bytes(data)
    found, faults = read(folder)
    assert f"chunk at byte {chunks[1]} is corrupt" in faults
    assert 0 < len(found) < len(recorded)
    assert found[-1].received_ns == recorded[-1][2]
    assert "messages are there, its metadata counts" in faults


def chunk_starts(data: bytearray) -> list[int]:
    """Return where chunk records begin."""
    return [
        found.start() - 28 - 9
        for found in re.finditer(rb"\x04\0\0\0zstd", data)
        if data[found.start() - 28 - 9] == 6
    ]


def test_that_garbage_between_chunks_is_skipped_by_the_index(copy: Path, bag: Path) -> None:
    path = copy / "run.mcap"
    data = bytearray(path.read_bytes())
    chunks = chunk_starts(data)
    data[chunks[0] : chunks[0] + 9] = b"\0" * 9
    path.write_bytes(data)
    found, faults = read(copy)
    assert f"no chunk at byte {chunks[0]}: its messages are lost" in faults
    assert 0 < len(found) < len(read(bag)[0])


@pytest.mark.parametrize("text", ["", "a: [", "{}", "rosbag2_bagfile_information: 3", "\0\1"])
def test_that_a_corrupt_metadata_file_is_reported_and_the_messages_read(
    copy: Path, text: str
) -> None:
    (copy / "metadata.yaml").write_text(text)
    found, faults = read(copy, ["/joint_states"])
    assert len(found) == 300
    assert "metadata.yaml: cannot be read, files are taken by name" in faults


def test_that_a_file_that_is_listed_and_missing_is_named(copy: Path) -> None:
    (copy / "run.mcap").rename(copy / "other.mcap")
    found, faults = read(copy, ["/joint_states"])
    assert len(found) == 300
    assert "run.mcap: is listed in metadata.yaml and missing" in faults


def test_that_an_empty_file_is_named(copy: Path) -> None:
    (copy / "run.mcap").write_bytes(b"")
    found, faults = read(copy)
    assert found == []
    assert "run.mcap: is empty: 0 bytes" in faults


@pytest.mark.parametrize("kind", ["nowhere", "folder", "file", "noise"])
def test_that_what_is_no_bag_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    if kind == "file":
        path.write_text("thesis")
    if kind == "noise":
        path = tmp_path / "noise.mcap"
        path.write_bytes(b"thesis")
        found, faults = read(path)
        assert found == []
        assert "noise.mcap: begins with b'thesis': no MCAP file" in faults
        return
    with pytest.raises(BagError, match=rf"{kind} (is no bag|does not exist)"):
        Bag(path)


def test_that_a_topic_that_is_not_there_is_refused_with_those_that_are(bag: Path) -> None:
    with (
        Bag(bag) as opened,
        pytest.raises(BagError, match=r"has no /camera; it holds .*/joint_states"),
    ):
        opened.check(["/camera"])


def test_that_torn_messages_are_counted_and_left_out(
    tmp_path: Path, recorded: list[Recorded]
) -> None:
    torn = []
    for number, (topic, kind, received_ns, message) in enumerate(recorded):
        spoilt = topic == "/task_status" and number % 2
        data = b"\0\1\0\0\xff\xff\xff\xff" if spoilt else message
        torn.append((topic, kind, received_ns, data))
    folder = write_messages(tmp_path / "run", torn)
    found, faults = read(folder, ["/task_status"])
    count = sum(isinstance(message, bytes) for *_, message in torn)
    assert len(found) == 30 - count
    assert "/task_status at " in faults
    assert "torn message of 8 bytes: Could not deserialize" in faults
    assert f"(and {count - 1} more)" in faults


def test_that_an_unknown_type_without_a_definition_is_refused_by_name(tmp_path: Path) -> None:
    folder = write_messages(tmp_path / "run", Run(seconds=0.2).messages(), SQLITE, NONE)
    with closing(sqlite3.connect(folder / "run.db3")) as database, database:
        database.execute("UPDATE topics SET type = 'maker_msgs/msg/State' WHERE id = 1")
        (topic,) = database.execute("SELECT name FROM topics WHERE id = 1").fetchone()
    (folder / "metadata.yaml").unlink()
    with Bag(folder) as opened:
        assert opened.topics[topic] == "maker_msgs/msg/State"
        assert all(message.topic != topic for message in opened.messages())
        with pytest.raises(BagError, match=rf"{topic} cannot be read: no definition of maker"):
            opened.check([topic])


def test_that_a_foreign_type_is_read_by_the_definition_in_the_bag(tmp_path: Path) -> None:
    from rosbags.rosbag2 import Writer
    from rosbags.typesys import get_types_from_msg

    store = typestore()
    store.register(get_types_from_msg("float64 force\nstring unit", "maker_msgs/msg/Grip"))
    message = store.types["maker_msgs/msg/Grip"](force=3.5, unit="N")
    with Writer(tmp_path / "run", version=9, storage_plugin=MCAP) as writer:
        connection = writer.add_connection("/grip", "maker_msgs/msg/Grip", typestore=store)
        writer.write(connection, 5, store.serialize_cdr(message, "maker_msgs/msg/Grip"))
    found, faults = read(tmp_path / "run")
    assert (found[0].value.force, found[0].value.unit) == (3.5, "N")
    assert faults == ""


def test_that_a_message_of_an_older_version_lacks_nothing_but_says_so(tmp_path: Path) -> None:
    from rosbags.rosbag2 import Writer
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    kind, store = "dfm_vla_ros/msg/ActionChunk", get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg("std_msgs/Header header\nstring goal_id", kind))
    message = make(store, kind, 5)
    message.goal_id = "abc"
    with Writer(tmp_path / "run", version=9, storage_plugin=MCAP) as writer:
        connection = writer.add_connection("/action_chunk", kind, typestore=store)
        writer.write(connection, 5, store.serialize_cdr(message, kind))
    found, faults = read(tmp_path / "run")
    assert found[0].value.goal_id == "abc"
    assert found[0].value.hold is False
    assert len(found[0].value.tokens) == 0
    assert f"{kind}: is of another version, without observation_stamp, " in faults


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_that_of_a_database_cut_short_the_first_rows_are_read(
    tmp_path: Path, recorded: list[Recorded], share: float
) -> None:
    folder = write_messages(tmp_path / "run", recorded, SQLITE, NONE)
    path = folder / "run.db3"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    found, faults = read(folder)
    assert 0 < len(found) < len(recorded)
    assert "run.db3: cannot be read after row" in faults


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of two small bags, by suffix."""
    messages = list(Run(seconds=1.0, side_px=16).messages())
    found = {}
    for storage, compression in ((MCAP, STORAGE), (SQLITE, NONE)):
        folder = tmp_path_factory.mktemp("small") / "run"
        write_messages(folder, messages, storage, compression)
        for file in folder.glob("run.*"):
            found[file.suffix] = file.read_bytes()
    return found


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("suffix", [".mcap", ".db3"])
def test_that_whatever_the_bytes_are_reading_comes_to_an_end_with_faults(
    tmp_path: Path, small: dict[str, bytes], suffix: str, data: st.DataObject
) -> None:
    spoilt = bytearray(small[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(spoilt) - 1))
        length = data.draw(st.integers(1, 300))
        spoilt[at : at + length] = data.draw(st.binary(max_size=300))
    path = tmp_path / f"spoilt{suffix}"
    path.write_bytes(spoilt[: data.draw(st.integers(0, len(spoilt)))])
    with Bag(path) as bag:
        found = list(bag.messages())
        said(bag)
    assert all(isinstance(message.received_ns, int) for message in found)


def test_that_messages_come_by_time_though_files_hold_them_out_of_order(tmp_path: Path) -> None:
    messages = list(Run(seconds=2.0, side_px=16).messages())
    generator = np.random.default_rng(0)
    jittered = sorted(messages, key=lambda item: item[2] + generator.integers(0, 3 * 10**8))
    folder = write_messages(tmp_path / "run", jittered)
    found, _ = read(folder)
    received = [message.received_ns for message in found]
    assert received == sorted(received)
    assert len(received) == len(messages)
