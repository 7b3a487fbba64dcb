"""The robot description that the package ships."""

from __future__ import annotations

from dfm_vla_ros.resources import resource_path


def robot_description() -> str:
    """Return the URDF of the two arms: ``urdf/dual_arm.urdf.xacro``, expanded."""
    import xacro  # only where no description is given from outside

    return xacro.process_file(str(resource_path("urdf/dual_arm.urdf.xacro"))).toxml()
