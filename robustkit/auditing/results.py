"""What an audit has found so far, sample by sample, and the record made of it.

Columns of numbers, a few bytes per sample and attack: pictures are never kept.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from robustkit.attacks.core.attack import Attack
from robustkit.auditing.columns import Found
from robustkit.auditing.optimality import optimality
from robustkit.reports import AttackResult, Cell, Certified, Comparison, EpsPoint, Rate, Samples, Spread
from robustkit.reports.record.statistics import TOLERANCE

if TYPE_CHECKING:
    from robustkit.certification import Certifier


@dataclass
class Tally:
    """One attack's columns over the first `judged` samples; NaN (or -1) where a sample was not broken by it."""

    attack: Attack
    distances: array[float] = field(default_factory=lambda: array("d"))
    rms: array[float] = field(default_factory=lambda: array("d"))
    predictions: array[int] = field(default_factory=lambda: array("q"))
    confidences: array[float] = field(default_factory=lambda: array("d"))
    inherited: list[int] = field(default_factory=list)  # per ε
    reached: int = 0  # of the target
    aimed: int = 0  # samples attacked with a target
    arrived: list[array[int]] = field(default_factory=list)  # per ε, queries until broken; empty for a white box
    cells: dict[tuple[str, str], list[int]] = field(default_factory=dict)  # broken, tried; by variant and level
    notes: list[str] = field(default_factory=list)
    outside: int = 0
    undecided: int = 0
    attacked: int = 0
    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0

    @property
    def judged(self) -> int:
        return len(self.distances)

    def extend(self, batch: int, rows: np.ndarray, found: Found) -> None:
        """Append a batch of `batch` samples, of which `rows` were attacked."""
        for cell, broken in found.cells.items():
            count = self.cells.setdefault(cell, [0, 0])
            count[0] += int(broken.sum())
            count[1] += len(broken)
        self.outside += found.outside
        self.undecided += found.undecided
        self.attacked += len(rows)
        self.forwards += found.forwards
        self.backwards += found.backwards
        self.reached += found.reached
        self.aimed += found.aimed
        self.inherited = [old + new for old, new in zip(self.inherited, found.inherited, strict=True)]
        columns: list[tuple[array[float] | array[int], np.ndarray, float]] = [
            (column, found.arrived[:, place].numpy(), -1) for place, column in enumerate(self.arrived)
        ]
        columns += [
            (self.distances, found.distances.numpy(), math.nan),
            (self.rms, found.rms.numpy(), math.nan),
            (self.predictions, found.predictions.numpy(), -1),
            (self.confidences, found.confidences.numpy(), math.nan),
        ]
        for column, values, empty in columns:
            whole = np.full(batch, empty)
            whole[rows] = values
            column.extend(whole.astype(np.int64).tolist() if column.typecode == "q" else whole.tolist())

    def settle(self, samples: int) -> None:
        """Cut the columns to what all of them hold; see `Ledger.settle`."""
        _cut(samples, self.distances, self.rms, self.predictions, self.confidences, *self.arrived)


@dataclass
class Ledger:
    """The clean answers, and a tally per attack."""

    eps: dict[float, str]
    tallies: list[Tally]
    ids: array[int] = field(default_factory=lambda: array("q"))
    names: list[str] = field(default_factory=list)
    labels: array[int] = field(default_factory=lambda: array("q"))
    predictions: array[int] = field(default_factory=lambda: array("q"))
    confidences: array[float] = field(default_factory=lambda: array("d"))
    radii: array[float] = field(default_factory=lambda: array("d"))  # NaN where nothing is certain; may be empty
    comparisons: list[Comparison] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def extend(
        self,
        ids: list[int],
        names: list[str],
        labels: list[int],
        predictions: list[int],
        confidences: list[float],
    ) -> None:
        """Append a batch of samples and the model's clean answers."""
        self.ids.extend(ids)
        self.names.extend(names)
        self.labels.extend(labels)
        self.predictions.extend(predictions)
        self.confidences.extend(confidences)

    def certified(self, certifier: Certifier) -> Certified:
        """The certified radii, and the certified accuracy over ε: the tolerance of a distance must be covered too."""
        radii, right = np.asarray(self.radii)[: len(self)], self.right()
        held = [int((radii >= eps + TOLERANCE).sum()) for eps in self.eps]
        return Certified(
            method=certifier.name,
            title=certifier.title,
            paper=certifier.paper,
            norm=certifier.norm,
            exact=certifier.exact,
            parameters=certifier.parameters(),
            curve=[Rate.of(count, len(self)) for count in held],
            radius=spread(radii[right]),
            radii=_numbers(array("d", radii.tolist())),
        )

    def settle(self) -> None:
        """Cut the columns to what all of them hold: an interrupt may come while a batch is being appended."""
        _cut(len(self), self.ids, self.names, self.labels, self.predictions, self.confidences)
        for tally in self.tallies:
            tally.settle(len(self))

    def clean(self) -> Rate:
        return Rate.of(int(self.right().sum()), len(self))

    def right(self) -> np.ndarray:
        same: np.ndarray = np.asarray(self.labels) == np.asarray(self.predictions)
        return same

    def worst(self) -> tuple[np.ndarray, list[int | None], int]:
        """Per sample the smallest distance over all attacks on the ball that ran (inf where none broke it) and which
        attack it was; and how many samples every one of them has judged."""
        ran = [(place, tally) for place, tally in enumerate(self.tallies) if tally.judged and tally.attack.ball]
        total = np.full(len(self), math.inf)
        by = np.full(len(self), -1)
        for place, tally in ran:
            found = _or_inf(np.asarray(tally.distances))
            nearer = found < total[: tally.judged]
            total[: tally.judged][nearer] = found[nearer]
            by[: tally.judged][nearer] = place
        names = [None if place < 0 else int(place) for place in by]
        return total, names, min((tally.judged for _, tally in ran), default=0)

    def optimality(self, norm: str, worst: np.ndarray) -> list[float | None]:
        """AttackBench optimality of each attack that searches the smallest change in this norm, against the per-sample
        best of all; None for the others (how far a budgeted one goes is the grid's choice), and until all are done."""
        figures: list[float | None] = [None] * len(self.tallies)
        if any(tally.judged < len(self) for tally in self.tallies if tally.attack.ball):
            return figures
        tried = [
            place for place, tally in enumerate(self.tallies) if tally.attack.minimum_norm and tally.attack.norm == norm
        ]
        columns = {str(place): np.asarray(self.tallies[place].distances) for place in tried} | {"worst": worst}
        right = self.right()
        found = optimality({name: _or_inf(column[right]) for name, column in columns.items()})
        for place in tried:
            figures[place] = found[str(place)]
        return figures

    def curve(self, distances: np.ndarray, inherited: Sequence[int] | None = None) -> list[EpsPoint]:
        """Robust accuracy over ε of the first samples, from the distance at which each was broken (NaN, inf: none).

        inherited: per ε, the samples not attacked there since a smaller one broke them; by default, all such.
        """
        right = self.right()[: len(distances)]
        found = _or_inf(distances)
        held, total = int(right.sum()), len(right)
        points: list[EpsPoint] = []
        for place, (eps, text) in enumerate(self.eps.items()):
            broken = int((right & (found <= eps + TOLERANCE)).sum())
            before = points[-1].success.count if points else 0
            robust, success = Rate.of(held - broken, total), Rate.of(broken, held)
            points.append(EpsPoint(eps, text, robust, success, before if inherited is None else inherited[place]))
        return points

    def title(self, attack: Attack) -> str:
        """The attack's title, with what sets it apart where it runs more than once."""
        same = [other.parameters() for other in (tally.attack for tally in self.tallies) if other.title == attack.title]
        apart = {key: value for key, value in attack.parameters().items() if any(p.get(key) != value for p in same)}
        return " ".join([attack.title, ", ".join(f"{key}={value}" for key, value in apart.items())]).strip()

    def result(self, tally: Tally, targeted: bool, optimality: float | None) -> AttackResult:
        attack = tally.attack
        distances = np.asarray(tally.distances)
        broken = ~np.isnan(distances)
        before = np.asarray(self.confidences)[: tally.judged]
        pad = len(self) - tally.judged
        each = max(tally.attacked, 1)
        return AttackResult(
            name=attack.name,
            title=self.title(attack),
            paper=attack.paper,
            kind="free" if not attack.ball else "minimum" if attack.minimum_norm else "budget",
            own_norm=attack.norm,
            parameters=without_eps(attack),
            judged=tally.judged,
            curve=self.curve(distances, tally.inherited) if attack.ball else [],
            success=Rate.of(int(broken.sum()), int(self.right()[: tally.judged].sum())),
            targeted=Rate.of(tally.reached, tally.aimed) if targeted else None,
            distortion=spread(distances[broken]),
            rms=spread(np.asarray(tally.rms)[broken]),
            confidence_before=spread(before[broken]),
            confidence_after=spread(np.asarray(tally.confidences)[broken]),
            forwards=tally.forwards / each,
            backwards=tally.backwards / each,
            seconds=tally.seconds,
            distances=_numbers(tally.distances) + [None] * pad,
            rms_each=_numbers(tally.rms) + [None] * pad,
            predictions=[*_places(tally.predictions), *[None] * pad],
            confidences=_numbers(tally.confidences) + [None] * pad,
            access=attack.access,
            control=attack.control,
            notes=self._notes(tally),
            optimality=optimality,
            arrived=[[*_places(column), *[None] * pad] for column in tally.arrived],
            cells=[Cell(*cell, Rate.of(*count)) for cell, count in tally.cells.items()],
            outside=tally.outside,
        )

    def _notes(self, tally: Tally) -> list[str]:
        outside = tally.outside
        points = "1 point" if outside == 1 else f"{outside:,} points"
        stray = [f"{points} left the ball or the box [0,1] and did not count"] if outside else []
        silent = "1 attacked point" if tally.undecided == 1 else f"{tally.undecided:,} attacked points"
        open_ = [f"there is no answer for {silent}, which did not count as broken"] if tally.undecided else []
        return [*tally.notes, *stray, *open_]

    def samples(self, worst: np.ndarray, by: list[int | None]) -> Samples:
        distances = [
            (None if math.isinf(distance) else float(distance)) if right else 0.0
            for distance, right in zip(worst, self.right(), strict=True)
        ]
        return Samples(
            list(self.ids),
            list(self.names),
            list(self.labels),
            list(self.predictions),
            list(self.confidences),
            distances,
            [place if right else None for place, right in zip(by, self.right(), strict=True)],
        )

    def classes(self, name: Callable[[int], str]) -> dict[str, str]:
        """Names of the classes that occur."""
        indices = {*self.labels, *self.predictions}
        for tally in self.tallies:
            indices.update(value for value in tally.predictions if value >= 0)
        return {str(index): name(index) for index in sorted(indices)}


def _cut(most: int, *columns: array[float] | array[int] | list[str]) -> None:
    whole = min(most, *(len(column) for column in columns))
    for column in columns:
        if len(column) > whole:  # one that NumPy still looks at must not be touched
            del column[whole:]


def without_eps(attack: Attack) -> dict[str, int | float | str | bool | None]:
    """An attack's hyperparameters but for ε, which the audit's grid decides."""
    return {key: value for key, value in attack.parameters().items() if key != "eps"}


def spread(values: np.ndarray) -> Spread:
    if not len(values):
        return Spread(0, None, None, None, None, None, None, None, None)
    low, p10, p25, median, p75, p90, high = (float(q) for q in np.quantile(values, (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)))
    return Spread(len(values), low, p10, p25, median, p75, p90, high, float(values.mean()))


def _numbers(column: array[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in column]


def _places(column: array[int]) -> list[int | None]:
    return [None if value < 0 else value for value in column]


def _or_inf(distances: np.ndarray) -> np.ndarray:
    """Distances with inf where there is none."""
    return np.where(np.isnan(distances), math.inf, distances)
