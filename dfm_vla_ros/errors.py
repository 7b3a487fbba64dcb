"""The base of every error that this package raises on purpose."""

from __future__ import annotations


class DfmVlaError(Exception):
    """Something the user can mend; the message names the value, the bound and the remedy."""
