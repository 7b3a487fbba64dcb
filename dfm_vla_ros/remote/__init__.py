"""A policy in another process: typed messages over a local socket, msgpack and numpy, no pickle."""
