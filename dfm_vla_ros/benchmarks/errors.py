"""What goes wrong around a benchmark."""

from __future__ import annotations

from dfm_vla_ros.errors import DfmVlaError


class BenchmarkError(DfmVlaError):
    """A simulator, a policy or a setting cannot be used; the message says what to do."""


class SimulatorLost(BenchmarkError):
    """A simulator's process died or took too long."""
