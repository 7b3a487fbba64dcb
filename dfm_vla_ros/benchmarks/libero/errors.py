"""What goes wrong around LIBERO."""

from __future__ import annotations

from dfm_vla_ros.benchmarks.errors import BenchmarkError


class LiberoError(BenchmarkError):
    """The simulator, its files or a setting cannot be used; the message says what to do."""


class SceneError(LiberoError):
    """A change does not fit a scene."""
