"""Steps of adaptation: the robust accuracy after each automatic answer of an audit, one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .content import Content
from .parts import Adapted
from .statistics import TOLERANCE


@dataclass(frozen=True)
class Step:
    """Robust accuracy that was left after an answer.

    Args:
        right: samples still right at each ε.
        broken: samples that it broke within a smaller ε than anything before it.
    """

    right: list[int]
    broken: int


def steps_of(record: Content, adapted: Adapted) -> list[Step]:
    """Count what the named attacks left, and then what each answer did."""
    added = {answer.attack for answer in adapted.answers}
    samples = record.samples
    named = [
        attack.distances for place, attack in enumerate(record.attacks) if place not in added and attack.kind != "free"
    ]
    right = [label == seen for label, seen in zip(samples.labels, samples.predictions, strict=True)]
    nearest = [_nearest(column[row] for column in named) for row in range(len(right))]
    steps = [Step(_still_right(record.eps, right, nearest), 0)]
    for answer in adapted.answers:
        before = [_eps_withstood(record.eps, distance) for distance in nearest]
        if answer.attack is not None:
            pairs = zip(nearest, record.attacks[answer.attack].distances, strict=True)
            nearest = [_nearest(pair) for pair in pairs]
        after = [_eps_withstood(record.eps, distance) for distance in nearest]
        broken = sum(b < a for a, b in zip(before, after, strict=True))
        steps.append(Step(_still_right(record.eps, right, nearest), broken))
    return steps


def _nearest(distances: Iterable[float | None]) -> float:
    return min((math.inf if distance is None else distance for distance in distances), default=math.inf)


def _eps_withstood(grid: list[float], distance: float) -> int:
    """Count the ε that a sample withstands if the nearest point that breaks it lies at `distance`."""
    return sum(distance > eps + TOLERANCE for eps in grid)


def _still_right(grid: list[float], right: list[bool], nearest: list[float]) -> list[int]:
    """Count, at each ε, the samples right before that nothing breaks within it."""
    return [sum(ok and d > eps + TOLERANCE for ok, d in zip(right, nearest, strict=True)) for eps in grid]
