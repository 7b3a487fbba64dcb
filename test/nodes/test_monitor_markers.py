"""Markers: finite, in one frame, under names that stay, gone when they mean nothing."""

from __future__ import annotations

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from visualization_msgs.msg import Marker

from dfm_vla_ros.nodes import monitor_drawing as m
from dfm_vla_ros.nodes.monitor_drawing import Ghost
from dfm_vla_ros.robot.joints import JOINT_NAMES
from dfm_vla_ros.robot.model import RobotModel

LOOK = m.Look("base_link", lifetime_s=1.25)
NOW = Time(sec=5)


def plan(steps: int = 8, evaluations: int = 16, committed: int = 3) -> m.ShownPlan:
    rng = np.random.default_rng(evaluations)
    return m.ShownPlan(
        rng.random((steps + 1, 2, 3)),
        rng.random((steps, 2)) * 0.4,
        committed,
        rng.random((evaluations, steps + 1, 2, 3)),
    )


def names(markers: list[Marker]) -> set[tuple[str, int]]:
    return {(marker.ns, marker.id) for marker in markers}


def by_name(markers: list[Marker]) -> dict[str, Marker]:
    return {marker.ns: marker for marker in markers}


def test_that_every_marker_is_finite_in_the_frame_stamped_and_ends_by_itself() -> None:
    trail = np.random.default_rng(1).random((30, 2, 3))
    for marker in (
        *m.plan_markers(plan(), LOOK, NOW),
        *m.executed_markers(trail, LOOK, NOW),
        *m.texts([("running", False)], LOOK, NOW),
    ):
        assert marker.header.frame_id == "base_link"
        assert marker.header.stamp == NOW
        assert (marker.lifetime.sec, marker.lifetime.nanosec) == (1, 250_000_000)
        assert marker.pose.orientation.w == 1.0
        points = [(point.x, point.y, point.z) for point in marker.points]
        assert np.isfinite(points).all()
        assert len(marker.colors) in (0, len(points))
        assert all(0 <= v <= 1 for c in marker.colors for v in (c.r, c.g, c.b, c.a))
        assert marker.scale.x > 0 or marker.type == Marker.TEXT_VIEW_FACING


def test_that_names_are_the_same_for_any_chunk_and_for_its_end() -> None:
    first = m.plan_markers(plan(), LOOK, NOW)
    other = m.plan_markers(plan(evaluations=1, committed=0), LOOK, NOW)
    ended = m.deleted(m.PATHS, LOOK, NOW)
    assert names(first) == names(other) == names(ended)
    assert len(names(first)) == len(first)
    assert {marker.action for marker in ended} == {Marker.DELETE}


def test_that_a_plan_is_red_where_the_policy_guesses_and_green_where_it_is_sure() -> None:
    made = plan()
    made.confidence[:] = 0.3
    made.confidence[4, 0] = 0.0
    colours = by_name(m.plan_markers(made, LOOK, NOW))["plan/left"].colors
    assert (colours[5].r, colours[5].g) == (1.0, 0.0)
    assert (colours[1].r, colours[1].g) == (0.0, 1.0)
    assert len(colours) == 9


def test_that_an_unknown_confidence_is_grey() -> None:
    made = plan()
    made.confidence[:] = np.nan
    first = by_name(m.plan_markers(made, LOOK, NOW))["plan/right"].colors[0]
    assert first.r == first.g == first.b


def test_that_the_committed_part_is_the_beginning_of_the_plan() -> None:
    markers = by_name(m.plan_markers(plan(committed=3), LOOK, NOW))
    assert markers["committed/left"].points == markers["plan/left"].points[:4]
    free = by_name(m.plan_markers(plan(committed=0), LOOK, NOW))
    assert free["committed/left"].action == Marker.DELETE


def test_that_the_fan_leaves_out_what_has_no_path_and_the_last_which_is_the_plan() -> None:
    made = plan(evaluations=6)
    made.fan[2] = np.nan
    fan = by_name(m.plan_markers(made, LOOK, NOW))["refinement/left"]
    assert len(fan.points) == 2 * 8 * 4
    densities = [colour.a for colour in fan.colors]
    assert densities == sorted(densities)


def test_that_a_path_that_is_not_finite_is_deleted_rather_than_drawn() -> None:
    made = plan()
    made.path[3] = np.inf
    markers = by_name(m.plan_markers(made, LOOK, NOW))
    assert markers["plan/left"].action == Marker.DELETE
    assert not markers["plan/left"].points


def test_that_a_text_that_is_gone_is_deleted_under_its_number() -> None:
    shown = m.texts([("running", False), ("stopped", True)], LOOK, NOW)
    gone = m.texts([("running", False), ("", True)], LOOK, NOW)
    assert names(shown) == names(gone)
    assert [marker.action for marker in gone] == [Marker.ADD, Marker.DELETE]
    assert shown[1].color.r > shown[1].color.g


@pytest.fixture(scope="module")
def kinematics() -> RobotModel:
    return RobotModel()


def test_that_the_ghost_is_the_moving_bodies_where_the_command_puts_them(
    kinematics: RobotModel,
) -> None:
    ghost = Ghost(kinematics)
    rest, turned = np.zeros(len(JOINT_NAMES)), np.zeros(len(JOINT_NAMES))
    turned[JOINT_NAMES.index("left_joint1")] = 1.0
    before, after = (ghost.markers(joints, LOOK, NOW) for joints in (rest, turned))
    assert names(before) == names(after)
    assert len(names(before)) == len(before) >= 20
    moved = [a.pose != b.pose for a, b in zip(before, after, strict=True)]
    assert 0 < sum(moved) == len(moved) / 2
    for marker in after:
        q = marker.pose.orientation
        assert np.linalg.norm([q.x, q.y, q.z, q.w]) == pytest.approx(1.0)
        assert min(marker.scale.x, marker.scale.y, marker.scale.z) > 0
        assert marker.type in (Marker.CUBE, Marker.CYLINDER, Marker.SPHERE)
