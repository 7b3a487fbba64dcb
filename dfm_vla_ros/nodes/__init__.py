"""ROS 2 nodes: parameters, topics, services and actions around the library; nothing else."""
