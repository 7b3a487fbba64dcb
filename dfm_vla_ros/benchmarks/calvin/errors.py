"""What goes wrong around CALVIN."""

from __future__ import annotations

from dfm_vla_ros.benchmarks.errors import BenchmarkError


class CalvinError(BenchmarkError):
    """The simulator, its files or a setting cannot be used; the message says what to do."""
