"""LIBERO and CALVIN: their simulators, each in an environment of its own, and their protocols."""
