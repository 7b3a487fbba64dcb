"""The configurations of robots name parameters that the nodes have, with values they take."""

from __future__ import annotations

import pytest
import yaml

from dfm_vla_ros.nodes import executor_node, monitor_node, policy_node, sim_node
from dfm_vla_ros.nodes.outputs import OUTPUTS
from dfm_vla_ros.observing.sources import ArmNames
from dfm_vla_ros.resources import resource_path

NODES = {
    "policy_node": policy_node.PARAMETERS,
    "executor_node": executor_node.PARAMETERS,
    "monitor_node": monitor_node.PARAMETERS,
    "sim_node": sim_node.PARAMETERS,
}
FILES = ("piper", "cobot_magic")


def configuration(name: str) -> dict[str, dict]:
    text = resource_path(f"config/{name}.yaml").read_text(encoding="utf-8")
    return {
        key.removeprefix("/**/"): value["ros__parameters"]
        for key, value in yaml.safe_load(text).items()
    }


@pytest.mark.parametrize("name", FILES)
def test_that_every_key_is_a_parameter_and_every_value_one_it_takes(name: str) -> None:
    for node, values in configuration(name).items():
        known = {parameter.name: parameter for parameter in NODES[node]}
        for key, value in values.items():
            assert type(value) is type(known[key].default), key
            if known[key].bounds:
                low, high = known[key].bounds
                assert low <= value <= high, key


@pytest.mark.parametrize("name", FILES)
def test_that_all_nodes_read_the_same_driver(name: str) -> None:
    given = configuration(name)
    shared = ("arm_joint_states", "arm_joint_names", "gripper_scale")
    policy, *others = ({key: given[node][key] for key in shared} for node in given)
    assert len(others) == 2
    assert all(other == policy for other in others)
    assert policy["arm_joint_states"] is True
    arms = ArmNames(policy)
    # A finger opens to 0.035 m; the driver measures from finger to finger.
    assert 0.035 * arms.gripper_scale == pytest.approx(0.07)


@pytest.mark.parametrize("name", FILES)
def test_that_a_real_arm_starts_stopped_slow_and_streamed_to(name: str) -> None:
    executor = configuration(name)["executor_node"]
    assert executor["start_stopped"] is True
    assert executor["speed"] <= 0.25
    assert executor["output"] == "joint_states"
    assert executor["output"] in OUTPUTS
    assert executor["stream_rate"] >= 100.0
    # piper_ros takes velocity[6] for the speed of the whole arm in percent.
    assert executor["stream_velocities"] is False
