"""Frames at the control rate: which images of the triggering camera they are, and gaps."""

from __future__ import annotations

from dataclasses import dataclass

EARLY = 0.25
"""Share of a period by which an image may come before its frame is due."""


@dataclass(frozen=True)
class Gap:
    """A time without usable frames.

    Attributes:
        from_ns: receipt of the last frame before it, or of the first unusable image [ns].
        to_ns: receipt of the first frame after it, or of the last unusable image [ns].
        why: the complaint that the live node would have made, or which frames are missing.
    """

    from_ns: int
    to_ns: int
    why: str

    def text(self, start_ns: int) -> str:
        """Return one line; times count from ``start_ns``."""
        from_s, to_s = ((at - start_ns) * 1e-9 for at in (self.from_ns, self.to_ns))
        return f"{from_s:.3f} s to {to_s:.3f} s: {self.why}"


class Grid:
    """Frame k of a part is due k periods after its first.

    It is the first image from a quarter of a period before that on; one that would be three
    quarters or more late is missing. So images at a multiple of the control rate jitter without
    harm, and no image is two frames.
    """

    def __init__(self, period_s: float) -> None:
        """Begin with the first image."""
        self._period_s = period_s
        self._first_s: float | None = None
        self._count = 0

    def restart(self) -> None:
        """Let the next image be the first."""
        self._first_s, self._count = None, 0

    def is_due(self, at_s: float) -> bool:
        """Return whether the image of ``at_s`` is a frame."""
        return self._ahead(at_s) >= -EARLY

    def is_missed(self, at_s: float) -> bool:
        """Return whether the frame that is due before ``at_s`` is missing."""
        return self._ahead(at_s) >= 1 - EARLY

    def take(self, at_s: float) -> None:
        """Count the image of ``at_s`` as a frame."""
        if self._first_s is None:
            self._first_s = at_s
        self._count += 1

    def _ahead(self, at_s: float) -> float:
        """Return how far ``at_s`` is beyond the frame that is due [periods]."""
        if self._first_s is None:
            return 0.0
        # A stamp has nanoseconds, their sum rounds.
        return (at_s - self._first_s) / self._period_s - self._count + 1e-6
