"""Joints, limits, splines and trajectories: what is known of the robot without ROS or torch."""
