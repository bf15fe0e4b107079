"""Probabilities as they are sent: rounded to a few digits, they need not sum to 1."""

from __future__ import annotations

import torch
from torch import Tensor

_DIGITS = 6


def sums_to_one(probabilities: Tensor, tolerance: float = 1e-2) -> Tensor:
    """Say of each row of probabilities [B, K] if it sums to 1, but for the digits that it was rounded or cut to.

    A sum is short by at most a step for each class, and too large by half a step for each class above 0.
    """
    step = rounding_step(probabilities)
    total = probabilities.sum(-1)
    above = tolerance + step / 2 * (probabilities > 0).sum(-1)
    below = tolerance + step * probabilities.shape[-1]
    return (total <= 1 + above) & (total >= 1 - below)


def look_like_probabilities(scores: Tensor) -> bool:
    """Say whether all rows of scores [B, K] can be probabilities: in [0,1], and 1 in all but for rounding."""
    inside = bool((scores >= -1e-5).all() and (scores <= 1 + 1e-5).all())
    return inside and bool(sums_to_one(scores).all())


def rounding_step(values: Tensor) -> float:
    """The step 10^-d of the fewest digits d that all values have after the point; 0 where it is more than six."""
    exact = values.double()
    resolution = torch.finfo(values.dtype).eps
    for digits in range(1, _DIGITS + 1):
        scaled = exact * 10**digits
        if bool(((scaled - scaled.round()).abs() <= resolution * scaled.abs()).all()):
            return float(10**-digits)
    return 0.0
