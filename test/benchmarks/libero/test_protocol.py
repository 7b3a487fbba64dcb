"""LIBERO's presets, signs and states."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dfm_vla_ros.benchmarks import GripperRule, rebuilt
from dfm_vla_ros.benchmarks.calvin import CalvinProtocol
from dfm_vla_ros.benchmarks.evaluation import find_preset, presets
from dfm_vla_ros.benchmarks.libero import (
    JOINT_NAMES,
    STATE_NAMES,
    LiberoProtocol,
    axis_angle,
    state_vector,
    turned,
)
from dfm_vla_ros.errors import BenchmarkError
from dfm_vla_ros.schema import parse

OPENPI = find_preset(LiberoProtocol, "openpi")
SUITE_STEPS = {
    "libero_spatial": 220,
    "libero_object": 280,
    "libero_goal": 300,
    "libero_10": 520,
    "libero_90": 400,
}


def test_that_the_presets_hold_the_published_numbers() -> None:
    found = presets(LiberoProtocol)
    assert {name: (p.replan, p.environment_seed) for name, p in found.items()} == {
        "openpi": (5, 7),
        "openvla_oft": (8, 0),
        "univla": (10, 0),
    }
    for preset in found.values():
        assert {suite: preset.steps_of(suite) for suite in SUITE_STEPS} == SUITE_STEPS
        assert (preset.episodes, preset.settle_steps, preset.render_px) == (50, 10, 256)
        assert preset.settle_action == (0, 0, 0, 0, 0, 0, -1)
        assert preset.rotate and preset.rendering == "always" and preset.source


def test_that_grippers_close_and_open_in_every_preset_as_they_say() -> None:
    said = {"openpi": [-1, 1], "openvla_oft": [0.9, 0.1], "univla": [-0.01, 0.01]}
    for name, values in said.items():
        rule = find_preset(LiberoProtocol, name).gripper
        assert rule.command(np.array(values)).tolist() == [-1, 1], name
    assert OPENPI.gripper.command(np.array([0.25])).tolist() == [0.25]


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 1))
def test_that_a_gripper_without_a_threshold_scales(
    opens: float, closes: float, share: float
) -> None:
    if abs(opens - closes) < 1e-3:
        return
    rule = GripperRule(opens, closes)
    values = np.array([opens, closes, opens + share * (closes - opens)])
    assert rule.command(values) == pytest.approx([-1, 1, 2 * share - 1], abs=1e-9)
    assert rule.value(np.array([-1.0, 1.0])).tolist() == [opens, closes]


@given(st.integers(0, 2**32 - 1))
def test_that_axis_and_angle_are_those_of_another_library(seed: int) -> None:
    quaternion = Rotation.random(random_state=seed).as_quat()
    found = axis_angle(quaternion)
    assert np.allclose(
        Rotation.from_rotvec(found).as_matrix(), Rotation.from_quat(quaternion).as_matrix()
    )
    assert np.linalg.norm(found) == pytest.approx(2 * np.arccos(quaternion[3]))


@pytest.mark.parametrize("w", [1.0, -1.0])
def test_that_no_rotation_is_zero(w: float) -> None:
    assert axis_angle(np.array([0.0, 0.0, 0.0, w])).tolist() == [0, 0, 0]


def test_that_the_state_has_the_form_that_the_policy_names() -> None:
    hand = np.array([1.0, 2, 3]), np.array([0.0, 0, 1, 0]), np.array([0.03, -0.02])
    eight, seven = state_vector(*hand, STATE_NAMES), state_vector(*hand, JOINT_NAMES)
    assert np.allclose(eight, [1, 2, 3, 0, 0, np.pi, 0.03, -0.02])
    assert np.allclose(seven, [1, 2, 3, 0, 0, np.pi, 0.05])
    with pytest.raises(BenchmarkError, match="has 14 state numbers"):
        state_vector(*hand, ("joint",) * 14)


def test_that_turning_is_half_a_turn_and_no_mirror() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert np.array_equal(turned(image), np.rot90(image, 2))


def test_that_a_changed_preset_says_so() -> None:
    assert find_preset(LiberoProtocol, "openpi", replan=5, episodes=None) == OPENPI
    changed = find_preset(LiberoProtocol, "openpi", replan=3)
    assert changed.name == "openpi (replan 3)" and changed.replan == 3
    with pytest.raises(BenchmarkError, match="there are openpi, openvla_oft, univla"):
        find_preset(LiberoProtocol, "openvla")


def test_that_a_protocol_is_read_back_as_it_was_recorded() -> None:
    for kind in (LiberoProtocol, CalvinProtocol):
        for protocol in presets(kind).values():
            assert rebuilt(kind, asdict(protocol), gripper=kind.GRIPPER) == protocol


@pytest.mark.parametrize(
    "change, words",
    [
        ({"replan": 0}, "replan is 0"),
        ({"rendering": "never"}, "always.*on_demand"),
        ({"reseed": "once"}, "task.*episode"),
        ({"settle_action": (0.0,)}, "has 1 numbers"),
        ({"speed": 2}, "unknown key speed"),
    ],
)
def test_that_an_odd_setting_is_refused(change: dict, words: str) -> None:
    with pytest.raises(BenchmarkError, match=words):
        parse(LiberoProtocol, asdict(OPENPI) | change, "", BenchmarkError)


def test_that_an_unknown_suite_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="says nothing of libero_100"):
        OPENPI.steps_of("libero_100")
