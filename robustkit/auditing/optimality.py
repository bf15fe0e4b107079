"""How close attacks come to the best that is known: AttackBench's optimality (Cinà et al. 2025, arXiv 2404.19460)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def optimality(distances: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    """Optimality of each attack, 1 where it is the best known on every sample, 0 where it breaks none.

    `1 - (A - A*) / (clean * d_max - A*)`: A is the area under robust accuracy over distance up to d_max, A* that of the
    per-sample best of all attacks, d_max the largest distance of that best. The share of clean samples cancels.

    Args:
        distances: per attack [N], one entry per sample that was right before, inf where it was not broken.

    Returns:
        A figure in [0, 1] each; None where all best distances are the same or none is finite.
    """
    best = np.min(list(distances.values()), axis=0)
    broken = best[np.isfinite(best)]
    farthest = float(broken.max()) if len(broken) else 0.0
    least = float(np.minimum(best, farthest).mean()) if len(best) else 0.0
    room = farthest - least
    if room <= 1e-12 * max(1.0, farthest):
        return dict.fromkeys(distances)
    areas = {name: float(np.minimum(found, farthest).mean()) for name, found in distances.items()}
    return {name: min(1.0, max(0.0, 1 - (area - least) / room)) for name, area in areas.items()}
