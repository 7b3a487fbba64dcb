"""Recorded runs: reading, mending, writing rosbag2; from a bag to observations and episodes."""
