"""How chunks join unless asked otherwise: what ``dfm-vla eval`` found best."""

from __future__ import annotations

MODES: tuple[str, ...] = ("rtc", "blend", "latest", "synchronous")
"""Names of ``robot.chunks.JoinMode``, in lower case."""
MODE = "rtc"
WARM_START = 0.0
"""Time t0 that the running chunk is re-noised to; 0: the free steps start as noise."""
