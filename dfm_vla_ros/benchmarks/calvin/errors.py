"""What goes wrong around CALVIN."""

from __future__ import annotations

from dfm_vla_ros.errors import DfmVlaError


class CalvinError(DfmVlaError):
    """The simulator, its files or a setting cannot be used; the message says what to do."""
