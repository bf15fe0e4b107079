"""Content of a record as plain data, and what follows from it without a reader or a writer.

Ranking, consistency and the page need no more than this; `audit_record` adds the way to report.json and back.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .parts import (
    Adapted,
    AttackResult,
    Certified,
    Comparison,
    DataInfo,
    EpsPoint,
    Gate,
    ModelInfo,
    RunInfo,
    Samples,
    Transfer,
)
from .statistics import Rate, Spread
from .verdicts import NO_TRUST, UNCHECKED, CheckResult, verdict_of

VERSION = 2


@dataclass(frozen=True)
class Content:
    """Everything a report shows."""

    status: str  # "complete" or "incomplete"
    norm: str  # "linf", "l2" or "l1"
    eps: list[float]
    target: str | None
    model: ModelInfo
    data: DataInfo
    run: RunInfo
    clean: Rate
    clean_confidence: Spread
    worst_case: list[EpsPoint]
    worst_distance: Spread  # smallest distance over all attacks, samples right before and broken
    attacks: list[AttackResult]
    samples: Samples
    classes: dict[str, str]  # class index -> name, those that occur in this record
    comparisons: list[Comparison] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    surrogates: list[ModelInfo] = field(default_factory=list)
    transfer: list[Transfer] = field(default_factory=list)
    checks: list[CheckResult] = field(default_factory=list)  # of the evaluation itself; empty if none were made
    certified: Certified | None = None
    adapted: Adapted | None = None  # None where the audit was not asked to adapt, or did not get to it
    version: int = VERSION

    @property
    def passed(self) -> bool:
        return all(gate.passed for gate in self.gates)

    @property
    def refuted(self) -> list[tuple[int, float, float]]:
        """Samples that an attack broke within their certified radius: id, radius and distance; a defect, or bad luck
        where a certificate may be wrong."""
        if self.certified is None or self.certified.norm != self.norm:
            return []
        rows = zip(self.samples.ids, self.certified.radii, self.samples.distances, strict=True)
        return [(i, r, d) for i, r, d in rows if r is not None and d is not None and d < r]

    @property
    def verdict(self) -> str:
        """Verdict on these numbers: "trust", "with reservations", "do not trust" or "not checked"."""
        found = verdict_of(self.checks)
        # Half an audit has half the checks: they can condemn it, but not vouch for it.
        return found if self.status == "complete" or found == NO_TRUST else UNCHECKED
