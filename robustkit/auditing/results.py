"""The figures of an audit, computed from its journal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from robustkit.auditing.columns import AttackColumns, AttackCounts
from robustkit.auditing.journal import AttackEntry, Journal
from robustkit.auditing.optimality import optimality
from robustkit.certification import Certifier
from robustkit.reports import AttackResult, Cell, Certified, EpsPoint, Rate, Samples, Spread
from robustkit.reports.record.statistics import TOLERANCE


@dataclass(frozen=True)
class AttackFound:
    """One attack and what it found on the first `judged` samples."""

    entry: AttackEntry
    columns: AttackColumns
    counts: AttackCounts

    @property
    def judged(self) -> int:
        return len(self.columns)

    @property
    def bounded(self) -> bool:
        """Measured by a norm, and so a part of the worst case."""
        return self.entry.kind != "free"


class Results:
    """What a journal holds at this moment, N samples in the order of their batches.

    Attributes:
        samples, names: of the samples.
        attacks: of the attacks, in the order of their places.
    """

    def __init__(self, journal: Journal, eps: dict[float, str]) -> None:
        self.eps = eps
        self.samples, self.names = journal.samples()
        self.attacks = [AttackFound(entry, *journal.results(place)) for place, entry in journal.entries().items()]

    def __len__(self) -> int:
        return len(self.samples)

    def clean(self) -> Rate:
        return Rate.of(int(self.samples.right.sum()), len(self))

    def worst(self) -> tuple[np.ndarray, np.ndarray, int]:
        """The worst case over all attacks on the ball that ran.

        Returns:
            float64 [N], the smallest distance of each sample, inf where none broke it; int64 [N], the place of the
            attack that found it, -1 where none did; how many samples every attack is through with.
        """
        ran = [(place, found) for place, found in enumerate(self.attacks) if found.judged and found.bounded]
        total, by = np.full(len(self), math.inf), np.full(len(self), -1)
        for place, found in ran:
            distances = _or_inf(found.columns.distances)
            nearer = distances < total[: found.judged]
            total[: found.judged][nearer] = distances[nearer]
            by[: found.judged][nearer] = place
        return total, by, min((found.judged for _, found in ran), default=0)

    def left(self, eps: float) -> np.ndarray:
        """bool [N], samples that were right before and that no attack broke within ε."""
        held: np.ndarray = self.samples.right & (self.worst()[0] > eps + TOLERANCE)
        return held

    def optimality(self, norm: str) -> list[float | None]:
        """AttackBench's optimality of each attack that searches the smallest change in this norm.

        None for the others (how far a budgeted one goes is the grid's choice), and until all attacks are through.
        """
        figures: list[float | None] = [None] * len(self.attacks)
        if any(found.judged < len(self) for found in self.attacks if found.bounded):
            return figures
        tried = [
            place
            for place, found in enumerate(self.attacks)
            if found.entry.kind == "minimum" and found.entry.norm == norm
        ]
        columns = {str(place): self.attacks[place].columns.distances for place in tried} | {"worst": self.worst()[0]}
        right = self.samples.right
        best = optimality({name: _or_inf(column[right]) for name, column in columns.items()})
        for place in tried:
            figures[place] = best[str(place)]
        return figures

    def curve(self, distances: np.ndarray, inherited: Sequence[int] | None = None) -> list[EpsPoint]:
        """Robust accuracy over ε of the first samples, from the distance at which each was broken (NaN, inf: none).

        inherited: per ε, the samples not attacked there since a smaller one broke them; by default, all such.
        """
        right, found = self.samples.right[: len(distances)], _or_inf(distances)
        held, total = int(right.sum()), len(right)
        points: list[EpsPoint] = []
        for place, (eps, text) in enumerate(self.eps.items()):
            broken = int((right & (found <= eps + TOLERANCE)).sum())
            before = points[-1].success.count if points else 0
            robust, success = Rate.of(held - broken, total), Rate.of(broken, held)
            points.append(EpsPoint(eps, text, robust, success, before if inherited is None else inherited[place]))
        return points

    def worst_case(self) -> list[EpsPoint]:
        """Robust accuracy over ε under all attacks, of the samples that every one of them is through with."""
        worst, _, judged = self.worst()
        return self.curve(worst[:judged])

    def worst_distance(self) -> Spread:
        worst = self.worst()[0]
        return spread(worst[self.samples.right & np.isfinite(worst)])

    def title(self, entry: AttackEntry) -> str:
        """The attack's title, with what sets it apart where it runs more than once."""
        same = [found.entry.parameters for found in self.attacks if found.entry.title == entry.title]
        apart = {key: value for key, value in entry.parameters.items() if any(p.get(key) != value for p in same)}
        return " ".join([entry.title, ", ".join(f"{key}={value}" for key, value in apart.items())]).strip()

    def attack_results(self, norm: str, targeted: bool) -> list[AttackResult]:
        """Each attack as the record holds it."""
        figures = self.optimality(norm)
        return [self._result(found, targeted, figure) for found, figure in zip(self.attacks, figures, strict=True)]

    def _result(self, found: AttackFound, targeted: bool, figure: float | None) -> AttackResult:
        entry, columns, counts = found.entry, found.columns, found.counts
        broken = columns.broken
        before = self.samples.confidences[: found.judged]
        each = max(counts.attacked, 1)

        def whole(column: np.ndarray) -> list[float | None]:
            return [*_numbers(column), *[None] * (len(self) - found.judged)]

        def places(column: np.ndarray) -> list[int | None]:
            return [*_places(column), *[None] * (len(self) - found.judged)]

        return AttackResult(
            name=entry.name,
            title=self.title(entry),
            paper=entry.paper,
            kind=entry.kind,
            own_norm=entry.norm,
            parameters=entry.parameters,
            judged=found.judged,
            curve=self.curve(columns.distances, counts.inherited) if found.bounded else [],
            success=Rate.of(int(broken.sum()), int(self.samples.right[: found.judged].sum())),
            targeted=Rate.of(counts.reached, counts.aimed) if targeted else None,
            distortion=spread(columns.distances[broken]),
            rms=spread(columns.rms[broken]),
            confidence_before=spread(before[broken]),
            confidence_after=spread(columns.confidences[broken]),
            forwards=counts.forwards / each,
            backwards=counts.backwards / each,
            seconds=counts.seconds,
            distances=whole(columns.distances),
            rms_each=whole(columns.rms),
            predictions=places(columns.predictions),
            confidences=whole(columns.confidences),
            access=entry.access,
            control=entry.control,
            notes=_notes(found),
            optimality=figure,
            arrived=[places(column) for column in columns.queries.T] if entry.counts_queries else [],
            cells=[Cell(*cell, Rate.of(*count)) for cell, count in counts.cells.items()],
            outside=counts.outside,
        )

    def certified(self, certifier: Certifier) -> Certified:
        """The certified radii, and the certified accuracy over ε: the tolerance of a distance must be covered too."""
        radii = self.samples.radii
        held = [int((radii >= eps + TOLERANCE).sum()) for eps in self.eps]
        return Certified(
            method=certifier.name,
            title=certifier.title,
            paper=certifier.paper,
            norm=certifier.norm,
            exact=certifier.exact,
            parameters=certifier.parameters(),
            curve=[Rate.of(count, len(self)) for count in held],
            radius=spread(radii[self.samples.right]),
            radii=_numbers(radii),
        )

    def sample_columns(self) -> Samples:
        """The samples as the record holds them; a clean mistake is broken at distance 0, by nobody."""
        worst, by, _ = self.worst()
        right = self.samples.right
        return Samples(
            ids=self.samples.ids.tolist(),
            names=self.names,
            labels=self.samples.labels.tolist(),
            predictions=self.samples.predictions.tolist(),
            confidences=self.samples.confidences.tolist(),
            distances=_numbers(np.where(right, np.where(np.isinf(worst), math.nan, worst), 0.0)),
            by=_places(np.where(right, by, -1)),
        )

    def classes(self) -> list[int]:
        """The classes that occur, as labels, answers or answers to attacks."""
        columns = [
            self.samples.labels,
            self.samples.predictions,
            *(found.columns.predictions for found in self.attacks),
        ]
        return [int(index) for index in np.unique(np.concatenate(columns)) if index >= 0]


def spread(values: np.ndarray) -> Spread:
    """The quantiles of a column."""
    if not len(values):
        return Spread(0, **dict.fromkeys(("min", "p10", "p25", "median", "p75", "p90", "max", "mean")))
    names = ("min", "p10", "p25", "median", "p75", "p90", "max")
    points = np.quantile(values, (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)).tolist()
    return Spread(len(values), **dict(zip(names, points, strict=True)), mean=float(values.mean()))


def _notes(found: AttackFound) -> list[str]:
    outside, undecided = found.counts.outside, found.counts.undecided
    points = "1 point" if outside == 1 else f"{outside:,} points"
    stray = [f"{points} left the ball or the box [0,1] and did not count"] if outside else []
    silent = "1 attacked point" if undecided == 1 else f"{undecided:,} attacked points"
    open_ = [f"there is no answer for {silent}, which did not count as broken"] if undecided else []
    tried, lost = found.counts.attacked, found.counts.unstarted
    unstarted = [f"No start was found for {lost:,} of {tried:,} samples, which count as robust"] if lost else []
    return [*found.entry.notes, *stray, *open_, *unstarted]


def _numbers(column: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in column.tolist()]


def _places(column: np.ndarray) -> list[int | None]:
    return [None if value < 0 else value for value in column.tolist()]


def _or_inf(distances: np.ndarray) -> np.ndarray:
    """Distances with inf where there is none."""
    return np.where(np.isnan(distances), math.inf, distances)
