"""95 % intervals in closed form: Student's t, and Wilson's interval of a share.

    wilson(0.5, 10)                  (0.237, 0.763)
    wilson(0.0, 10)                  (0.0, 0.278): it has a width where every value is the same
    wilson(0.5, 10, t=student(4))    wider: the spread was estimated from five values

What is counted is up to the caller. Where values are not independent (samples of a problem, votes on a question), size
is the effective number, share * (1 - share) / variance (Korn and Graubard 1998), and `t` is Student's at the degrees of
freedom that the variance had. Pure arithmetic: no numpy, no data.
"""

from __future__ import annotations

import math
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)


def student(freedom: int) -> float:
    """The 97.5 % point of Student's t at 1 degree of freedom or more, within half a percent: a table up to 3, then
    Cornish and Fisher's series."""
    if few := {1: 12.7062, 2: 4.3027, 3: 3.1824}.get(freedom):
        return few
    z, v = Z, freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def wilson(share: float, size: float, *, t: float = Z) -> tuple[float, float]:
    """The ends of Wilson's interval (1927) of a share of `size` values, within [0, 1] and never beside the share."""
    centre = (share + t * t / (2 * size)) / (1 + t * t / size)
    half = t * math.sqrt(share * (1 - share) / size + t * t / (4 * size * size)) / (1 + t * t / size)
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
