"""Limits come from the URDF, by joint name."""

from __future__ import annotations

import numpy as np
import pytest

from dfm_vla_ros.robot.limits import JointLimits, UrdfError

URDF = """<robot name="r">
  <joint name="j1" type="revolute"><limit lower="-1" upper="2" velocity="5" effort="1"/></joint>
  <joint name="grip" type="prismatic"><limit lower="0" upper="0.035" velocity="1"/></joint>
  <joint name="free" type="continuous"/>
  <joint name="odd" type="revolute"><limit lower="1" upper="-1" velocity="5"/></joint>
  <ros2_control name="c" type="system"><joint name="j1"/></ros2_control>
</robot>"""


def test_that_limits_are_read_by_name_in_the_order_asked() -> None:
    limits = JointLimits.from_urdf(URDF, ("grip", "j1"), arm_acceleration=7.0)
    assert limits.names == ("grip", "j1")
    np.testing.assert_array_equal(limits.lower, [0, -1])
    np.testing.assert_array_equal(limits.upper, [0.035, 2])
    np.testing.assert_array_equal(limits.velocity, [1, 5])
    assert limits.acceleration[1] == 7.0
    assert limits.prismatic.tolist() == [True, False]


def test_that_a_margin_leaves_the_grippers_their_travel() -> None:
    shrunk = JointLimits.from_urdf(URDF, ("grip", "j1")).shrunk(0.1)
    np.testing.assert_allclose(shrunk.lower, [0, -0.9])
    np.testing.assert_allclose(shrunk.upper, [0.035, 1.9])


@pytest.mark.parametrize(
    ("urdf", "joint", "message"),
    [
        (URDF, "j9", "the URDF has no joint 'j9'; it has ['free', 'grip', 'j1', 'odd']"),
        (URDF, "free", "joint 'free' has no <limit> in the URDF"),
        (URDF, "odd", "lower must not exceed upper"),
        ("<robot", "j1", "the robot description is no XML"),
        ('<robot><joint name="j"><limit lower="0"/></joint></robot>', "j", "unusable <limit>"),
    ],
)
def test_that_a_urdf_without_usable_limits_is_refused(urdf: str, joint: str, message: str) -> None:
    with pytest.raises(UrdfError) as caught:
        JointLimits.from_urdf(urdf, (joint,))
    assert message in str(caught.value)


def test_that_the_shipped_urdf_has_limits_for_all_fourteen_joints() -> None:
    xacro = pytest.importorskip("xacro")
    from dfm_vla_ros.resources import resource_path

    text = xacro.process_file(str(resource_path("urdf/dual_arm.urdf.xacro"))).toxml()
    limits = JointLimits.from_urdf(text)
    assert len(limits.names) == 14
    assert limits.upper[6] == limits.upper[13] == 0.035
