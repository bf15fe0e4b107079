"""Ranking of the attacks, and which of them a norm measures."""

from __future__ import annotations

from .content import Content
from .parts import AttackResult
from .statistics import Rate


def bounded(record: Content) -> list[int]:
    """List the places of the attacks that a norm measures: those of the worst case."""
    return [place for place, attack in enumerate(record.attacks) if attack.kind != "free"]


def free(record: Content) -> list[AttackResult]:
    """List the attacks that no norm measures: patches, rotations, corruptions."""
    return [attack for attack in record.attacks if attack.kind == "free"]


def ranked(record: Content) -> list[int]:
    """List the places of the attacks that search within a norm, the strongest first.

    Strongest is what broke most at the largest ε, or at any distance where there is no ε; then the smaller median.
    """
    places = [place for place in bounded(record) if not record.attacks[place].control]
    return sorted(places, key=lambda place: (-broken(record.attacks[place]), _median(record.attacks[place]), place))


def strongest(record: Content) -> int | None:
    """Find the place of the strongest attack; None where none broke anything."""
    first = next(iter(ranked(record)), None)
    return None if first is None or not record.attacks[first].distortion.count else first


def broken(attack: AttackResult) -> float:
    """Compute the share of the samples right before that an attack broke at the largest ε."""
    rate = attack.curve[-1].success if attack.curve else attack.success
    return rate.value or 0.0


def kept(attack: AttackResult) -> Rate:
    """Compute accuracy after the attack, at any distance; a mistake before it counts as wrong."""
    return Rate.of(attack.success.total - attack.success.count, attack.judged)


def _median(attack: AttackResult) -> float:
    return float("inf") if attack.distortion.median is None else attack.distortion.median
