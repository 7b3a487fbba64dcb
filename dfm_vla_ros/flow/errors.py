"""Errors of the flow: the message names the value, the bound and the remedy."""

from __future__ import annotations

from dfm_vla_ros.errors import DfmVlaError


class FlowError(DfmVlaError):
    """A path, a distance, a loss or a solver was given something that it cannot use."""
