"""Parameters have one truth: the nodes' tables, which config/dual_arm.yaml repeats."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import rclpy
import yaml
from rclpy.node import Node
from rclpy.parameter import Parameter as Override

from dfm_vla_ros.nodes import executor_node, monitor_node, policy_node, sim_node
from dfm_vla_ros.nodes.lifecycle import Parameter, ParameterError, declare
from dfm_vla_ros.resources import resource_path

RATE = Parameter("rate", 10.0, "[Hz]", (1.0, 100.0))
COUNT = Parameter("count", 3, "how many", (0, 5))


@pytest.fixture
def make_node(ros_domain: int) -> Iterator[object]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=ros_domain)
    made: list[Node] = []

    def make(**overrides: object) -> Node:
        given = [Override(name, value=value) for name, value in overrides.items()]
        made.append(Node("n", context=context, parameter_overrides=given))
        return made[-1]

    yield make
    for node in made:
        node.destroy_node()
    rclpy.shutdown(context=context)


def test_that_defaults_and_given_values_are_returned(make_node: object) -> None:
    assert declare(make_node(count=5), (RATE, COUNT)) == {"rate": 10.0, "count": 5}


def test_that_a_typo_is_an_error_that_says_what_was_meant(make_node: object) -> None:
    with pytest.raises(ParameterError, match=r"n has no parameter 'rat'; did you mean rate\?"):
        declare(make_node(rat=5.0), (RATE, COUNT))


def test_that_a_value_out_of_range_is_refused_with_the_range(make_node: object) -> None:
    with pytest.raises(ParameterError, match=r"parameter rate: .*allowed is \(1.0, 100.0\)"):
        declare(make_node(rate=1000.0), (RATE,))


def test_that_a_value_of_another_type_is_refused_with_the_type(make_node: object) -> None:
    with pytest.raises(ParameterError, match=r"parameter count: .*its type is int"):
        declare(make_node(count="many"), (COUNT,))


@pytest.mark.parametrize("module", [executor_node, monitor_node, policy_node, sim_node])
def test_that_the_shipped_yaml_holds_every_parameter_at_its_default(module: object) -> None:
    name = module.__name__.rpartition(".")[2]
    text = resource_path("config/dual_arm.yaml").read_text(encoding="utf-8")
    written = yaml.safe_load(text)[f"/**/{name}"]["ros__parameters"]
    assert written == {parameter.name: parameter.default for parameter in module.PARAMETERS}


@pytest.mark.parametrize("device", ["gpu", "", "cuda:", "cuda:-1", "mps"])
def test_that_a_device_that_is_none_is_refused_by_name(device: str) -> None:
    with pytest.raises(ParameterError, match=f"device: '{device}' is none; give cpu"):
        policy_node.check_device(device)


def test_that_a_device_that_this_machine_lacks_is_refused_by_name() -> None:
    policy_node.check_device("cpu")
    with pytest.raises(ParameterError, match="device: 'cuda:99' is not there"):
        policy_node.check_device("cuda:99")
