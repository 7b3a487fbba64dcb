"""Presets, signs and the order of an episode."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dfm_vla_ros.benchmarks.libero.evaluation import find_protocol, protocols
from dfm_vla_ros.benchmarks.libero.protocol import (
    ALWAYS,
    JOINT_NAMES,
    ON_DEMAND,
    STATE_NAMES,
    GripperRule,
    Protocol,
    View,
    axis_angle,
    commands,
    state_vector,
    turned,
)
from dfm_vla_ros.benchmarks.libero.simulator import run_episode
from dfm_vla_ros.errors import LiberoError


class Counter:
    """A simulator whose state is the number of steps, and whose task is done at one of them."""

    def __init__(self, done_at: int) -> None:
        self.done_at = done_at
        self.actions: list[np.ndarray] = []
        self.looks: list[bool] = []

    def step(self, action: np.ndarray, look: bool) -> bool:
        self.actions.append(action)
        self.looks.append(look)
        return len(self.actions) == self.done_at

    def view(self) -> View:
        assert not self.looks or self.looks[-1], "looked at what was not rendered"
        image = np.zeros((2, 2, 3), dtype=np.uint8)
        steps = np.array([len(self.actions), 0.0, 0.0])
        images = {"agentview": image, "eye_in_hand": image}
        return View(images, steps, np.eye(4)[3], np.zeros(2))


def acting(chunk: int = 8) -> tuple[list[int], object]:
    """Return the steps at which a policy was asked, and the policy; the gripper says +0.3."""
    asked: list[int] = []

    def act(view: View, call: int) -> np.ndarray:
        assert call == len(asked)
        asked.append(int(view.position[0]))
        return np.full((chunk, 7), 0.3)

    return asked, act


def test_that_the_presets_hold_the_published_numbers() -> None:
    found = protocols()
    assert {name: p.replan for name, p in found.items()} == {
        "openpi": 5,
        "openvla_oft": 8,
        "univla": 10,
    }
    assert {name: p.environment_seed for name, p in found.items()} == {
        "openpi": 7,
        "openvla_oft": 0,
        "univla": 0,
    }
    for preset in found.values():
        assert [
            preset.steps_of(f"libero_{s}") for s in ("spatial", "object", "goal", "10", "90")
        ] == [
            220,
            280,
            300,
            520,
            400,
        ]
        assert (preset.episodes, preset.settle_steps, preset.render_px) == (50, 10, 256)
        assert preset.settle_action == (0, 0, 0, 0, 0, 0, -1)
        assert preset.rotate and preset.rendering == ALWAYS and preset.source


def test_that_grippers_close_and_open_in_every_preset_as_they_say() -> None:
    said = {"openpi": [-1, 1], "openvla_oft": [0.9, 0.1], "univla": [-0.01, 0.01]}
    for name, values in said.items():
        rule = find_protocol(name).gripper
        assert rule.command(np.array(values)).tolist() == [-1, 1], name
    assert find_protocol("openpi").gripper.command(np.array([0.25])).tolist() == [0.25]


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-1, 1))
def test_that_a_gripper_value_and_its_command_are_each_others_inverse(
    opens: float, closes: float, command: float
) -> None:
    if abs(opens - closes) < 1e-3:
        return
    rule = GripperRule(opens, closes)
    values = rule.value(np.array([command]))
    assert rule.command(values) == pytest.approx([command], abs=1e-9)
    assert rule.command(np.array([opens, closes])) == pytest.approx([-1, 1])


def test_that_a_gripper_whose_ends_are_equal_is_refused() -> None:
    with pytest.raises(LiberoError, match="both 1"):
        GripperRule(1.0, 1.0)


def test_that_actions_of_another_robot_are_refused() -> None:
    with pytest.raises(LiberoError, match=r"\(8, 14\), expected \(T, 7\)"):
        commands(np.zeros((8, 14)), GripperRule(-1, 1))


@given(st.integers(0, 2**32 - 1))
def test_that_axis_and_angle_are_those_of_another_library(seed: int) -> None:
    quaternion = Rotation.random(random_state=seed).as_quat()
    found = axis_angle(quaternion)
    assert np.allclose(
        Rotation.from_rotvec(found).as_matrix(), Rotation.from_quat(quaternion).as_matrix()
    )
    assert np.linalg.norm(found) == pytest.approx(2 * np.arccos(quaternion[3]))


def test_that_no_rotation_is_zero() -> None:
    assert axis_angle(np.array([0.0, 0.0, 0.0, 1.0])).tolist() == [0, 0, 0]
    assert axis_angle(np.array([0.0, 0.0, 0.0, -1.0])).tolist() == [0, 0, 0]


def test_that_the_state_has_the_form_that_the_policy_names() -> None:
    view = View({}, np.array([1.0, 2, 3]), np.array([0.0, 0, 1, 0]), np.array([0.03, -0.02]))
    eight, seven = state_vector(view, STATE_NAMES), state_vector(view, JOINT_NAMES)
    assert np.allclose(eight, [1, 2, 3, 0, 0, np.pi, 0.03, -0.02])
    assert np.allclose(seven, [1, 2, 3, 0, 0, np.pi, 0.05])
    with pytest.raises(LiberoError, match="has 14 state numbers"):
        state_vector(view, ("joint",) * 14)


def test_that_turning_is_half_a_turn_and_no_mirror() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert np.array_equal(turned(image), np.rot90(image, 2))
    assert np.array_equal(turned(turned(image)), image)


def test_that_an_episode_settles_then_asks_every_replan_steps() -> None:
    simulator, (asked, act) = Counter(done_at=10_000), acting()
    outcome = run_episode(simulator, act, find_protocol("openpi"), "libero_goal")
    assert not outcome.success and outcome.steps == 300
    assert [a.tolist() for a in simulator.actions[:10]] == [[0, 0, 0, 0, 0, 0, -1]] * 10
    assert asked == list(range(10, 310, 5)) and outcome.calls == 60
    assert np.allclose(outcome.actions, 0.3) and len(simulator.actions) == 310


def test_that_success_ends_an_episode_at_its_step() -> None:
    simulator, (_, act) = Counter(done_at=10 + 17), acting()
    outcome = run_episode(simulator, act, find_protocol("openpi"), "libero_goal")
    assert outcome.success and outcome.steps == 17 == len(outcome.actions)


def test_that_what_is_done_while_settling_is_no_success() -> None:
    simulator, (_, act) = Counter(done_at=10), acting()
    assert not run_episode(simulator, act, find_protocol("openpi"), "libero_goal").success


@pytest.mark.parametrize("settle", [0, 10])
def test_that_rendering_on_demand_looks_only_before_a_call_and_acts_the_same(settle: int) -> None:
    ran = {}
    for rendering in (ALWAYS, ON_DEMAND):
        simulator, (asked, act) = Counter(done_at=40), acting()
        protocol = find_protocol("openvla_oft", rendering=rendering, settle_steps=settle)
        run_episode(simulator, act, protocol, "libero_10")
        ran[rendering] = (asked, [a.tolist() for a in simulator.actions])
        looked = sum(simulator.looks)
        assert looked == 40 if rendering == ALWAYS else looked <= len(asked)
    assert ran[ALWAYS] == ran[ON_DEMAND]


def test_that_a_chunk_shorter_than_the_replan_interval_is_an_error() -> None:
    _, act = acting(chunk=4)
    with pytest.raises(LiberoError, match="gives 4 steps, openpi executes 5"):
        run_episode(Counter(1000), act, find_protocol("openpi"), "libero_goal")


def test_that_a_changed_preset_says_so() -> None:
    assert find_protocol("openpi", replan=5, episodes=None) == find_protocol("openpi")
    changed = find_protocol("openpi", replan=3)
    assert changed.name == "openpi (replan 3)" and changed.replan == 3
    with pytest.raises(LiberoError, match="there are openpi, openvla_oft, univla"):
        find_protocol("openvla")


def test_that_a_protocol_is_read_back_as_it_was_recorded() -> None:
    for protocol in protocols().values():
        assert Protocol.read(protocol.record()) == protocol


@pytest.mark.parametrize(
    "change, words",
    [
        ({"replan": 0}, "replan is 0"),
        ({"rendering": "never"}, "always or on_demand"),
        ({"reseed": "once"}, "task or episode"),
        ({"settle_action": (0.0,)}, "has 1 numbers"),
        ({"speed": 2}, "no setting 'speed'"),
    ],
)
def test_that_an_odd_setting_is_refused(change: dict, words: str) -> None:
    content = find_protocol("openpi").record() | change
    with pytest.raises(LiberoError, match=words):
        Protocol.read(content)


def test_that_an_unknown_suite_is_refused() -> None:
    with pytest.raises(LiberoError, match="says nothing of libero_100"):
        find_protocol("univla").steps_of("libero_100")
