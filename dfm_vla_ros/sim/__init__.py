"""The MuJoCo twin of the robot, its tasks and their scripted experts. No ROS, no torch."""

import os

# Read once, when mujoco is imported: render without a display unless told otherwise.
os.environ.setdefault("MUJOCO_GL", "egl")
