"""From ROS messages, without ROS, to what a policy sees: live, in bags and in replays."""
