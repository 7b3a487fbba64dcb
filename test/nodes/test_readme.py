"""What the README says of the nodes is what they have."""

from __future__ import annotations

import re

import pytest

from dfm_vla_ros.nodes import executor_node, policy_node, sim_node
from dfm_vla_ros.nodes.lifecycle import Parameter
from dfm_vla_ros.resources import resource_path

NODES = {
    "policy_node": policy_node.PARAMETERS,
    "executor_node": executor_node.PARAMETERS,
    "sim_node": sim_node.PARAMETERS,
}


@pytest.mark.parametrize("node", NODES)
def test_that_the_readme_lists_every_parameter_with_its_default(node: str) -> None:
    text = resource_path("README.md").read_text(encoding="utf-8")
    rows = re.findall(rf"^\| {node} \| `([\w.]+)` \| (\S+) \|", text, re.MULTILINE)
    assert rows == [(parameter.name, shown(parameter)) for parameter in NODES[node]]


def shown(parameter: Parameter) -> str:
    if parameter.default in ("", [""]):
        return "empty"
    return str(parameter.default).lower()
