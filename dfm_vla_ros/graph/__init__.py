"""Starting, driving and recording a running ROS 2 graph."""
