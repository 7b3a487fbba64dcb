"""The closed loop without ROS, and what its counts mean."""
