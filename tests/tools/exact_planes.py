"""The shortest way onto a plane within the box, by SciPy."""

from __future__ import annotations

import numpy as np
from attack_models import grow
from scipy.optimize import linprog


def shortest(w: np.ndarray, gap: float, low: np.ndarray, high: np.ndarray, norm: str) -> float:
    """The smallest |r| with w·r = gap and low <= r <= high; inf if there is none."""
    n, scale = len(w), np.abs(w).sum()
    if gap > np.where(w > 0, high, low) @ w or gap < np.where(w > 0, low, high) @ w:
        return np.inf
    if norm == "l1":  # r = p - q, both at least 0
        bounds = np.concatenate([np.stack([np.zeros(n), high], 1), np.stack([np.zeros(n), -low], 1)])
        return linprog(np.ones(2 * n), A_eq=[np.r_[w, -w] / scale], b_eq=[gap / scale], bounds=bounds).fun
    if norm == "linf":  # the last variable bounds all others
        either = np.block([[np.eye(n), -np.ones((n, 1))], [-np.eye(n), -np.ones((n, 1))]])
        bounds = [*np.stack([low, high], 1), (0, None)]
        cost, sums = np.r_[np.zeros(n), 1], [np.r_[w / scale, 0]]
        return linprog(cost, A_ub=either, b_ub=np.zeros(2 * n), A_eq=sums, b_eq=[gap / scale], bounds=bounds).fun
    sign = np.sign(gap)
    return float(np.linalg.norm(grow(sign * w, low, high, lambda r: sign * (w @ r - gap))))
