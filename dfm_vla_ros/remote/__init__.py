"""A policy in another process: typed messages over a local socket; msgpack, no pickle."""
