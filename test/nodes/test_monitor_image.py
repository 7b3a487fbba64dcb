"""The annotated view: pixels where points are, text below."""

from __future__ import annotations

import numpy as np
import pytest

from dfm_vla_ros.nodes.messages import camera_info
from dfm_vla_ros.nodes.monitor_drawing import Look, Pinhole, ShownPlan, annotate, drawings
from dfm_vla_ros.robot.model import RobotModel
from dfm_vla_ros.sim.model import FIELD_OF_VIEW_DEG
from dfm_vla_ros.sim.twin import Twin


@pytest.fixture(scope="module")
def camera() -> Pinhole:
    info = camera_info("third_camera_optical_frame", 96, 96, FIELD_OF_VIEW_DEG["third"])
    poses = RobotModel().poses(np.zeros(14))
    return Pinhole(np.reshape(info.k, (3, 3)), (96, 96), poses["third_camera_optical_frame"])


def test_that_a_point_ahead_of_the_camera_is_in_the_middle_of_the_picture(camera: Pinhole) -> None:
    ahead = camera.pose[:3, 3] + 0.5 * camera.pose[:3, 2]
    for size in ((96, 96), (480, 480)):
        middle = (np.array(size) - 1) / 2
        np.testing.assert_allclose(camera.project(ahead[None], size)[0], middle, atol=1e-9)


def test_that_a_point_behind_the_camera_has_no_pixel(camera: Pinhole) -> None:
    behind = camera.pose[:3, 3] - 0.5 * camera.pose[:3, 2]
    assert np.isnan(camera.project(behind[None], (96, 96))).all()


def test_that_the_grippers_are_where_the_renderer_draws_them(camera: Pinhole) -> None:
    """Moving one arm changes the picture around the pixels that its tip moves between."""
    twin = Twin((96, 96))
    twin.reset("place_block", 0)
    kinematics = RobotModel()
    before, at = twin.render()["third"].astype(int), twin.positions.copy()
    target = at.copy()
    target[0] += 0.3
    for _ in range(1000):
        twin.command(target)
        twin.step()
    changed = np.abs(twin.render()["third"].astype(int) - before).sum(axis=-1) > 30
    twin_tips = kinematics.points(np.stack([at, twin.positions]))[:, 0]
    twin.close()
    rows, columns = np.nonzero(changed)
    for x, y in camera.project(twin_tips, (96, 96)):
        assert np.hypot(columns - x, rows - y).min() < 4


def test_that_the_picture_is_as_wide_as_asked_with_every_line_below() -> None:
    view = np.zeros((48, 96, 3), np.uint8)
    lines = [("place the block", False), ("stopped by the operator", True)]
    picture = annotate(view, 384, lines, 0.25)
    assert picture.shape[1] == 384
    below = picture[192:].astype(int)
    assert (below[..., 0] - below[..., 1] > 60).any()
    bar = picture[192]
    assert (bar[:96] == (90, 200, 110)).all()
    assert (bar[97:] != (90, 200, 110)).all()


def test_that_text_beyond_ascii_and_a_progress_that_is_no_number_do_no_harm() -> None:
    view = np.zeros((10, 10, 3), np.uint8)
    annotate(view, 64, [("räume ¿auf? 块", False)], float("nan"))


def test_that_the_plan_is_drawn_where_the_camera_sees_it(camera: Pinhole) -> None:
    start = np.array([0.3, 0.0, 0.1])
    path = start + np.linspace(0, 0.1, 9)[:, None, None] * np.array([0, 1, 0])
    path = np.repeat(path, 2, axis=1)
    plan = ShownPlan(path, np.full((8, 2), 0.3), 2, path[None])
    trail = np.repeat(start[None, None], 5, axis=0).repeat(2, axis=1)
    size = (384, 384)
    made = drawings(camera, size, plan, trail, Look("base_link"))
    picture = annotate(np.zeros((96, 96, 3), np.uint8), 384, [], 0.0, made)
    ((x, y),) = camera.project(path[-2, :1], size)
    assert picture[round(y), round(x)].max() > 100
