"""Success rates with their uncertainty."""

from __future__ import annotations

from math import sqrt

from dfm_vla_ros.errors import DfmVlaError

Z95 = 1.959963984540054


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a binomial proportion (Wilson 1927, eq. 1).

    Raises:
        DfmVlaError: unless 0 <= successes <= trials.
    """
    if not 0 <= successes <= trials:
        raise DfmVlaError(
            f"{successes} successes in {trials} trials: give 0 <= successes <= trials"
        )
    if trials == 0:
        return 0.0, 1.0
    p, z2 = successes / trials, Z95**2
    centre = (p + z2 / (2 * trials)) / (1 + z2 / trials)
    half = Z95 / (1 + z2 / trials) * sqrt(p * (1 - p) / trials + z2 / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)
