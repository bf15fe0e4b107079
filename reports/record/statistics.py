"""Statistics of a record: a proportion with its interval, and the quantiles of a column."""

from __future__ import annotations

import math
from dataclasses import dataclass

TOLERANCE = 1e-6  # by which a distance may exceed ε: rounding of float32 pixels
SAME_EPS = 1e-9  # two ε that differ by less are one: 4/255 and 0.01568627451
_Z = 1.959963984540054  # two-sided 95 % point of the normal distribution


@dataclass(frozen=True)
class Rate:
    """Proportion with its 95 % Wilson score interval (Wilson 1927); all three are None when total is 0."""

    count: int
    total: int
    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, count: int, total: int) -> Rate:
        """Compute the interval of `count` in `total`; ValueError unless 0 <= count <= total."""
        if not 0 <= count <= total:
            raise ValueError(f"a rate needs 0 <= count <= total, got {count} of {total}")
        if total == 0:
            return cls(0, 0, None, None, None)
        p, z2 = count / total, _Z * _Z
        centre = (p + z2 / (2 * total)) / (1 + z2 / total)
        half = _Z * math.sqrt(p * (1 - p) / total + z2 / (4 * total * total)) / (1 + z2 / total)
        # At the ends the exact bound is 0 or 1; rounding must not move it.
        low = 0.0 if count == 0 else centre - half
        high = 1.0 if count == total else centre + half
        return cls(count, total, p, low, high)


@dataclass(frozen=True)
class Spread:
    """Quantiles of a figure over the `count` samples that have one; None each where count is 0."""

    count: int
    min: float | None
    p10: float | None
    p25: float | None
    median: float | None
    p75: float | None
    p90: float | None
    max: float | None
    mean: float | None
