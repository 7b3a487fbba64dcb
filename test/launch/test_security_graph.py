"""The SROS2 policy against the graph: the nodes run, and use what it allows and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import rclpy
from lifecycle_msgs.srv import GetState
from policy_file import allowed, profiles
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from small import small_checkpoint

from dfm_vla_ros.graph.processes import Children
from dfm_vla_ros.nodes.qos import own_domain

PATIENCE_S = 90.0
TRAINED = {"policy_node", "executor_node"}
OF_AN_ARM = {"arm_joint_states": "true"}


@dataclass(frozen=True)
class Variant:
    """A node with parameters that change what it uses."""

    node: str
    namespace: str
    parameters: Mapping[str, str]


VARIANTS = (
    Variant("sim_node", "plain", {"publish_clock": "true"}),
    Variant("executor_node", "plain", {"heartbeat_timeout": "1.0", "use_sim_time": "true"}),
    Variant("executor_node", "joined", {"output": "joined_trajectory"}),
    Variant("executor_node", "stream", {"output": "joint_states", **OF_AN_ARM}),
    Variant("policy_node", "plain", {"use_sim_time": "true"}),
    Variant("policy_node", "packed", {"image_transport": "compressed", **OF_AN_ARM}),
)
"""Together they use everything that a policy for any robot must allow."""


def endpoints(node: Node, name: str, namespace: str) -> dict[str, set[str]]:
    """Return what a running node uses, by kind of rule, without its namespace."""
    ask = {
        "publish": node.get_publisher_names_and_types_by_node,
        "subscribe": node.get_subscriber_names_and_types_by_node,
        "reply": node.get_service_names_and_types_by_node,
        "request": node.get_client_names_and_types_by_node,
    }
    return {
        kind: {found.removeprefix(f"/{namespace}") for found, _ in query(name, f"/{namespace}")}
        for kind, query in ask.items()
    }


@pytest.fixture(scope="module")
def observer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node beside all variants, each in a namespace of its own."""
    folder = tmp_path_factory.mktemp("checkpoint") / "small"
    small_checkpoint().save(folder, "random weights")
    logs = tmp_path_factory.mktemp("log")
    context = rclpy.Context()
    with own_domain() as domain, Children(domain, logs) as children:
        for number, variant in enumerate(VARIANTS):
            start(children, f"{variant.node}_{number}", variant, folder)
        rclpy.init(
            context=context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO
        )
        node = rclpy.create_node("observer", context=context, start_parameter_services=False)
        wait_active(node, children)
        yield node
        node.destroy_node()
        rclpy.shutdown(context=context)


def start(children: Children, name: str, variant: Variant, checkpoint: Path) -> None:
    """Start a variant as its own process."""
    words = ["--ros-args", "-r", f"__ns:=/{variant.namespace}"]
    given = dict(variant.parameters)
    if variant.node in TRAINED:
        given["checkpoint"] = str(checkpoint)
    for key, value in given.items():
        words += ["-p", f"{key}:={value}"]
    children.start(name, f"dfm_vla_ros.nodes.{variant.node}", *words)


def wait_active(node: Node, children: Children) -> None:
    """Wait until every managed node is active, and all of the graph is known."""
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    for variant in VARIANTS:
        if variant.node in TRAINED:
            ask(node, executor, children, f"/{variant.namespace}/{variant.node}/get_state")


def ask(node: Node, executor: SingleThreadedExecutor, children: Children, service: str) -> None:
    """Ask for a lifecycle state until it is active."""
    client = node.create_client(GetState, service)
    end_s = time.monotonic() + PATIENCE_S
    label = ""
    while label != "active":
        children.check()
        assert time.monotonic() < end_s, f"{service}: {label or 'no answer'}"
        if not client.wait_for_service(0.2):
            continue
        future = client.call_async(GetState.Request())
        executor.spin_until_future_complete(future, 1.0)
        if future.done():
            label = future.result().current_state.label
    node.destroy_client(client)


@pytest.mark.parametrize("name", ["sim_node", "executor_node", "policy_node"])
def test_that_a_node_uses_what_the_policy_allows_and_nothing_else(
    observer: Node, name: str
) -> None:
    used: dict[str, set[str]] = {}
    for variant in VARIANTS:
        if variant.node == name:
            for kind, names in endpoints(observer, name, variant.namespace).items():
                used.setdefault(kind, set()).update(names)
    profile = profiles()[name]
    hidden = {"publish": "execute", "reply": "execute"}
    for kind, names in used.items():
        actions = {found for found in names if "/_action/" in found}
        served = {found.partition("/_action/")[0] for found in actions}
        if kind in hidden:
            assert served == allowed(profile, "execute"), kind
        assert names - actions == allowed(profile, kind), kind
