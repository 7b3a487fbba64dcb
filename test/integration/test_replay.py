"""A recording over real DDS, replayed offline and through the node: the same tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from dfm_vla_ros.msg import ActionChunk
from probe import Graph
from robot import Conversation

from dfm_vla_ros.bags.reading import Bag
from dfm_vla_ros.bags.records import WANTED, Recording, read_recording, relative_topics, take_chunk
from dfm_vla_ros.bags.replay import ReplayJob, answers
from dfm_vla_ros.cli import main
from dfm_vla_ros.graph.client import GraphClient
from dfm_vla_ros.graph.processes import Children
from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.qos import own_domain

WARM = 0.5


@pytest.fixture(scope="module")
def bag(start_graph: Callable[..., Graph], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A goal with committed steps and warm starts, recorded as it came over the wire."""
    folder = tmp_path_factory.mktemp("recorded") / "bag"
    graph = start_graph(
        "policy_node",
        "sim_node",
        "executor_node",
        policy_node__warm_start=WARM,
        policy_node__seed=7,
        policy_node__refinement_steps=6,
    )
    graph.client.wait_ready(120.0)
    graph.wait_matched(policies=1)
    graph.children.start_node("recorder", {"folder": folder})
    graph.client.wait_listener("recorder", ("action_chunk", "third_camera/image_raw"), 60.0)
    graph.client.linger(1.0)  # until the policy knows of the recorder, too
    graph.client.reset("place_block", 3)
    talk = Conversation(graph)
    handle = talk.send()
    talk.wait_chunks(10)
    talk.cancel(handle)
    graph.children.stop("recorder")
    return folder


@pytest.fixture(scope="module")
def recording(bag: Path) -> Recording:
    with Bag(bag) as opened:
        return read_recording(opened, relative_topics(opened, WANTED))


def replayed(bag: Path, checkpoint: Path, out: Path, *more: str) -> tuple[int, dict]:
    """Return exit status and figures of ``dfm-vla replay``."""
    arguments = ["replay", str(bag), "--checkpoint", str(checkpoint), "--out", str(out)]
    status = main([*arguments, "--json", str(out / "figures.json"), *more])
    return status, json.loads((out / "figures.json").read_text(encoding="utf-8"))


def test_that_the_offline_replay_makes_the_tokens_of_the_live_node(
    bag: Path, checkpoint: Path, tmp_path: Path, recording: Recording
) -> None:
    assert any(chunk.committed_steps and chunk.warm_start for chunk in recording.chunks)
    status, figures = replayed(bag, checkpoint, tmp_path)
    run = figures["runs"][0]
    assert run["same"] == run["compared"] == len(recording.chunks) >= 4
    assert status == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "place the block on the plate" in page


@pytest.mark.slow
def test_that_the_same_holds_with_the_chunks_dealt_out_among_processes(
    bag: Path, checkpoint: Path, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dfm_vla_ros.bags import replay as module
    from dfm_vla_ros.bags.replay import replay

    monkeypatch.setattr(module, "START_CHUNKS", 0)
    chunks = tuple(recording.chunks)
    job = ReplayJob(bag, recording.topics, checkpoint, chunks[0].decoding, chunks)
    found = list(replay(job, processes=2))
    assert sorted(answer.number for answer in found) == [chunk.number for chunk in chunks]
    assert all(answer.same for answer in found)


def test_that_another_checkpoint_is_shown_beside_it_and_not_compared(
    bag: Path, checkpoint: Path, wide_checkpoint: Path, tmp_path: Path
) -> None:
    more = ("--checkpoint", str(wide_checkpoint), "--no-film")
    status, figures = replayed(bag, checkpoint, tmp_path, *more)
    first, second = figures["runs"]
    assert first["same"] == first["compared"] > 0 == second["compared"]
    assert second["replayed"] == first["replayed"]
    assert status == 0


def test_that_a_fault_that_is_put_in_changes_what_the_policy_says(
    bag: Path, checkpoint: Path, tmp_path: Path
) -> None:
    more = ("--break", "joint_order", "--no-film", "--processes", "1")
    status, figures = replayed(bag, checkpoint, tmp_path, *more)
    run = figures["runs"][0]
    assert run["compared"] > run["same"]
    assert status == 0
    assert "joint_order" in (tmp_path / "report.html").read_text(encoding="utf-8")


def spoilt(bag: Path, folder: Path, keep: float) -> Path:
    """Return a copy whose recorder was killed after a share of the file."""
    folder.mkdir()
    (file,) = bag.glob("*.mcap")
    data = file.read_bytes()
    (folder / file.name).write_bytes(data[: round(len(data) * keep)])
    return folder


def test_that_of_a_truncated_bag_what_is_there_is_replayed_and_the_rest_is_said(
    bag: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    torn = spoilt(bag, tmp_path / "torn", 0.7)
    status, figures = replayed(torn, checkpoint, tmp_path, "--no-film")
    run = figures["runs"][0]
    assert status == 1
    assert 0 < run["same"] == run["compared"]
    said = capsys.readouterr().err
    assert "metadata.yaml" in said
    assert ".mcap" in said
    assert "metadata.yaml" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_that_a_bag_without_anything_to_replay_is_refused_by_name(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    empty, foreign = tmp_path / "empty", tmp_path / "foreign.mcap"
    empty.mkdir()
    foreign.write_bytes(b"not a recording")
    for path, message in (
        (tmp_path / "nowhere", "does not exist"),
        (empty, "is no bag"),
        (foreign, "foreign.mcap"),
    ):
        assert main(["replay", str(path), "--out", str(tmp_path / "out")]) == 1
        assert message in capsys.readouterr().err


class Playback:
    """A policy node that a recording is played to, and what it says."""

    def __init__(self, bag: Path, checkpoint: Path, logs: Path) -> None:
        self.chunks: list[ActionChunk] = []
        self._domain = own_domain()
        domain = self._domain.__enter__()
        self.children = Children(domain, logs)
        self.client = GraphClient(domain, use_sim_time=False, check=lambda: None)
        self.client.node.create_subscription(
            ActionChunk, "replay/action_chunk", self.chunks.append, qos.EVERY_COMMAND
        )
        given = ["--ros-args", "-r", "action_chunk:=replay/action_chunk"]
        for text in ("use_sim_time:=true", f"checkpoint:='{checkpoint}'", "seed:=3"):
            given += ["-p", text]
        self.children.start("policy_node", "dfm_vla_ros.nodes.policy_node", *given)
        # Busy cores: at half speed messages are not too old when they are looked at.
        self.player = self.children.start_node("play_node", {"bag": bag, "rate": 0.5})

    def ended(self) -> bool:
        return self.player.process.poll() is not None

    def close(self) -> None:
        self.client.__exit__(None, None, None)
        self.children.stop()
        self._domain.__exit__(None, None, None)


@pytest.fixture(scope="module")
def playback(
    bag: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Playback]:
    made = Playback(bag, checkpoint, tmp_path_factory.mktemp("play"))
    made.client.until(made.ended, 120.0, "end of the recording")
    yield made
    made.close()


@pytest.mark.slow
def test_that_the_node_says_of_a_played_bag_what_the_offline_replay_says(
    bag: Path, checkpoint: Path, playback: Playback, recording: Recording
) -> None:
    assert playback.player.process.returncode == 0, playback.player.last_words()
    said = Recording()
    for chunk in playback.chunks:
        take_chunk(said, chunk)
    assert len(said.chunks) >= 2
    job = ReplayJob(bag, recording.topics, checkpoint, said.chunks[0].decoding, tuple(said.chunks))
    found = list(answers(job))
    assert len(found) == len(said.chunks)
    assert all(answer.same for answer in found)


@pytest.mark.slow
def test_that_no_command_of_the_recording_was_played(playback: Playback) -> None:
    node = playback.client.node
    topics = {name for name, _ in node.get_topic_names_and_types()}
    assert "/left_arm_controller/joint_trajectory" not in topics
    assert np.all([chunk.checkpoint_hash for chunk in playback.chunks])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("who", "message"),
    [("executor_node", "listens to /action_chunk"), ("sim_node", "joint_trajectory")],
)
def test_that_nothing_is_played_where_something_could_move(
    bag: Path, checkpoint: Path, tmp_path: Path, who: str, message: str
) -> None:
    with own_domain() as domain, Children(domain, tmp_path) as children:
        given = {"checkpoint": checkpoint} if who == "executor_node" else {}
        children.start_node(who, given)
        with GraphClient(domain, use_sim_time=False, check=lambda: None) as client:
            node, topic = client.node, "joint_states"
            client.until(
                lambda: node.count_publishers(topic) + node.count_subscribers(topic) > 0, 60.0, who
            )
            player = children.start_node("play_node", {"bag": bag, "wait_for_policy": False})
            client.until(lambda: player.process.poll() is not None, 60.0, "end of the player")
            assert player.process.returncode == 1
            assert message in player.last_words()
            assert node.count_publishers("/clock") == 0
