"""The trace and the monitor over real DDS, on the twin: one graph for all tests, in this order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dfm_vla_ros.msg import PolicyTrace
from probe import Graph
from robot import Conversation, identity
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from visualization_msgs.msg import Marker, MarkerArray

from dfm_vla_ros.nodes import qos
from dfm_vla_ros.nodes.monitor_drawing import PATHS
from dfm_vla_ros.observing.cameras import to_rgb

TRACE = "policy_node/trace"


@pytest.fixture(scope="module")
def graph(start_graph: Callable[..., Graph], checkpoint: Path) -> Graph:
    made = start_graph(
        "policy_node",
        "sim_node",
        "executor_node",
        "monitor_node",
        monitor_node__image_width=320,
        monitor_node__checkpoint=checkpoint,
    )
    made.client.wait_ready(120.0)
    made.wait_matched(policies=1)
    made.client.reset("place_block", 3)
    return made


@pytest.fixture(scope="module")
def talk(graph: Graph) -> Conversation:
    return Conversation(graph)


class Eye:
    """What the monitor shows: the markers that a viewer would hold now, and its images."""

    def __init__(self, graph: Graph) -> None:
        self.shown: dict[tuple[str, int], Marker] = {}
        self.every: list[Marker] = []
        self.images: list[Image] = []
        graph.node.create_subscription(
            MarkerArray, "monitor_node/markers", self._take, qos.SENSOR_SOURCE
        )
        graph.node.create_subscription(
            Image, "monitor_node/image", self.images.append, qos.SENSOR_SOURCE
        )

    def _take(self, message: MarkerArray) -> None:
        for marker in message.markers:
            self.every.append(marker)
            key = (marker.ns, marker.id)
            if marker.action == Marker.ADD:
                self.shown[key] = marker
            else:
                self.shown.pop(key, None)

    def has(self, *namespaces: str) -> bool:
        found = {namespace for namespace, _ in self.shown}
        return all(namespace in found for namespace in namespaces)

    def texts(self) -> str:
        return "\n".join(m.text for (space, _), m in sorted(self.shown.items()) if m.text)


@pytest.fixture(scope="module")
def eye(graph: Graph) -> Eye:
    return Eye(graph)


def test_that_nobody_asks_for_the_trace_while_nobody_looks_at_the_monitor(
    graph: Graph, talk: Conversation
) -> None:
    graph.until(lambda: graph.node.count_publishers("monitor_node/markers") == 1, "monitor")
    assert graph.node.count_publishers(TRACE) == 1
    handle = talk.send()
    talk.wait_chunks(2)
    talk.cancel(handle)
    assert graph.node.count_subscribers(TRACE) == 0


def test_that_a_trace_tells_of_every_evaluation_and_ends_with_its_chunk(
    graph: Graph, talk: Conversation
) -> None:
    traces: list[PolicyTrace] = []
    subscription = graph.node.create_subscription(
        PolicyTrace, TRACE, traces.append, qos.EVERY_COMMAND
    )
    graph.until(lambda: graph.node.count_subscribers(TRACE) == 1, "subscription")
    handle = talk.send()
    graph.until(lambda: len(traces) >= 4, "traces")
    talk.cancel(handle)
    graph.node.destroy_subscription(subscription)
    chunks = {(c.goal_id, c.chunk_id): c for c in talk.made()}
    for trace in traces:
        chunk = chunks[trace.goal_id, trace.chunk_id]
        assert trace.goal_id == identity(handle)
        assert list(trace.kinds) == ["refinement"] * 14 + ["validation"] * 2
        rows = np.array(trace.tokens).reshape(16, -1)
        assert (rows[-1] == np.array(chunk.tokens)).all()
        jumped = np.array(trace.jumped).reshape(rows.shape)
        assert (jumped[1:] == (rows[1:] != rows[:-1])).all()
        assert list(trace.reference_positions) == list(chunk.reference_positions)
        committed = np.array(trace.committed)
        assert committed[: 14 * chunk.committed_steps].all()
        assert not committed[14 * chunk.committed_steps :].any()
    assert any(chunks[t.goal_id, t.chunk_id].committed_steps for t in traces)


def test_that_a_chunk_says_what_it_was_made_from(graph: Graph, talk: Conversation) -> None:
    chunk = talk.made()[-1]
    assert list(chunk.cameras) == ["third", "left_wrist", "right_wrist"]
    assert chunk.image_stamps[0] == chunk.observation_stamp
    assert len(chunk.measured_positions) == 14
    assert '"refinement_steps": 14' in chunk.decoding
    seeds = [c.seed for c in talk.made() if c.goal_id == chunk.goal_id]
    assert seeds == sorted(set(seeds))
    assert not chunk.warm_start
    assert not len(chunk.guidance_tokens)


def test_that_the_monitor_shows_the_plan_of_both_grippers_while_a_goal_runs(
    graph: Graph, talk: Conversation, eye: Eye
) -> None:
    handle = talk.send()
    wanted = [f"{name}/{arm}" for name in (*PATHS, "executed") for arm in ("left", "right")]
    graph.until(lambda: eye.has(*wanted, "status", "commanded"), "every namespace")
    plan = eye.shown["plan/left", 0]
    assert len(plan.points) == 9
    graph.until(lambda: "policy running" in eye.texts(), "status of the policy")
    assert "place the block on the plate" in eye.texts()
    graph.until(lambda: bool(eye.images), "annotated view")
    talk.cancel(handle)


def test_that_the_executed_path_ends_where_the_gripper_is(graph: Graph, eye: Eye) -> None:
    from dfm_vla_ros.robot.joints import JOINT_NAMES
    from dfm_vla_ros.robot.model import RobotModel

    def is_there() -> bool:
        at = dict(zip(graph.measured[-1].name, graph.measured[-1].position, strict=True))
        tips = kinematics.points(np.array([at[name] for name in JOINT_NAMES]))
        end = eye.shown["executed/right", 0].points[-1]
        return np.linalg.norm(tips[1] - [end.x, end.y, end.z]) < 2e-3

    kinematics = RobotModel()
    graph.until(is_there, "path that ends at the gripper")


def test_that_plan_and_refinement_are_deleted_with_the_goal(graph: Graph, eye: Eye) -> None:
    gone = [(f"{name}/{arm}", 0) for name in PATHS for arm in ("left", "right")]
    graph.until(lambda: not any(key in eye.shown for key in gone), "end of the plan")
    assert eye.has("executed/left", "executed/right")


def test_that_all_markers_were_finite_and_in_the_robots_frame(eye: Eye) -> None:
    assert len({(m.ns, m.id) for m in eye.every}) < 80
    for marker in eye.every:
        assert marker.header.frame_id == "base_link"
        numbers = [v for point in marker.points for v in (point.x, point.y, point.z)]
        at = marker.pose.position
        assert np.isfinite([*numbers, at.x, at.y, at.z]).all()
        assert marker.lifetime.sec == 2


def test_that_a_stop_is_said_in_text_and_in_the_picture(graph: Graph, eye: Eye) -> None:
    def call(name: str) -> Any:
        client = graph.node.create_client(Trigger, f"executor_node/{name}")
        graph.until(client.service_is_ready, name)
        answer = client.call_async(Trigger.Request())
        graph.until(answer.done, name)

    def red(image: Image) -> int:
        below = to_rgb(image)[320:].astype(int)
        return int((below[..., 0] - below[..., 1] > 60).sum())

    before = len(eye.images)
    graph.until(lambda: len(eye.images) > before, "annotated view")
    calm = red(eye.images[-1])
    call("stop")
    graph.until(lambda: "executor stopped" in eye.texts(), "text of the stop")
    before = len(eye.images)
    graph.until(lambda: len(eye.images) > before + 1, "annotated view")
    assert eye.images[-1].width == 320
    assert red(eye.images[-1]) > calm + 50
    call("resume")


def test_that_the_monitor_publishes_nothing_that_a_robot_follows(graph: Graph) -> None:
    found = graph.node.get_publisher_names_and_types_by_node("monitor_node", "/")
    topics = {name for name, _ in found}
    assert topics <= {
        "/monitor_node/markers",
        "/monitor_node/image",
        "/rosout",
        "/parameter_events",
    }
