"""Tables of the page, as text: columns, groups of rows, and a caption that says what is counted."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..record.audit_record import AuditRecord
from ..record.parts import EpsPoint
from ..record.ranking import bounded
from ..record.statistics import Spread
from . import wording

LONG = 5  # attacks, the worst case among them, beyond which a table gets an overview
_OVERVIEW = 6  # ε in that overview
ROWS = 200  # samples listed; the page stays small, report.json has them all


@dataclass(frozen=True)
class Column:
    title: str
    numeric: bool = True


@dataclass(frozen=True)
class Group:
    """Rows under one heading; the first cell of a row is its header."""

    rows: list[list[str]]
    title: str = ""
    series: str = ""  # key of the chart line that the heading names
    mark: int | None = None  # row of the strongest attack
    shades: list[list[int]] = field(default_factory=list)  # a tint from 0 to 10 for each cell, or none at all


@dataclass(frozen=True)
class Table:
    key: str
    caption: str
    columns: list[Column]
    groups: list[Group]
    notes: list[str] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not any(group.rows for group in self.groups)


def overview_table(record: AuditRecord) -> Table:
    """Tabulate robust accuracy, an attack a row and an ε a column: for many attacks, whose full table is long."""
    points = [record.worst_case[i] for i in spaced(len(record.worst_case), _OVERVIEW)]
    rows = [("Worst case", record.worst_case)]
    rows += [(wording.clean(record.attacks[i].title, 60), record.attacks[i].curve) for i in bounded(record)]
    cells = [
        [title, *(wording.share(p.robust) for point in points for p in curve if p.eps == point.eps)]
        for title, curve in rows
    ]
    return Table(
        "overview",
        f"Robust accuracy within ε ({wording.NORMS[record.norm]}), attack by attack",
        [
            Column("Attack", numeric=False),
            *(Column(f"ε = {wording.clean(point.text, 20)}".replace(" ", wording.NBSP)) for point in points),
        ],
        [Group(cells)] if points and len(rows) > LONG else [],
    )


def spaced(n: int, most: int) -> list[int]:
    """Choose at most `most` of the places 0 to n - 1, evenly, ends included."""
    return list(range(n)) if n <= most else [round(i * (n - 1) / (most - 1)) for i in range(most)]


def robust_table(record: AuditRecord) -> Table:
    """Tabulate robust accuracy for each ε and attack."""
    groups = [Group([_eps_row(p) for p in record.worst_case], "Worst case over all attacks", "worst")]
    for i in bounded(record):
        attack = record.attacks[i]
        groups.append(Group([_eps_row(p) for p in attack.curve], wording.clean(attack.title, 60), f"attack-{i}"))
    return Table(
        "robust",
        f"Robust accuracy within ε ({wording.NORMS[record.norm]}), with 95{wording.NBSP}% intervals",
        [
            Column("ε", numeric=False),
            Column("Still right"),
            Column("Robust accuracy"),
            Column("Interval"),
            Column("Attack success"),
            Column("Interval"),
            Column("Broken at a smaller ε"),
        ],
        groups,
        [
            "Robust accuracy is over all judged samples; attack success is over those right before. A sample "
            "broken at a smaller ε is not attacked again at a larger one."
        ],
    )


def _eps_row(point: EpsPoint) -> list[str]:
    robust, success = point.robust, point.success
    return [
        wording.clean(point.text, 20),
        wording.of(robust),
        wording.share(robust),
        wording.interval(robust),
        wording.share(success),
        wording.interval(success),
        wording.count(point.inherited),
    ]


_QUANTILES = ["Smallest", "10 %", "25 %", "Median", "75 %", "90 %", "Largest", "Mean"]


def distortion_table(record: AuditRecord) -> Table:
    """Tabulate quantiles of the smallest change found, in the norm and as a root mean square."""
    norm = wording.NORMS[record.norm]
    unit = "levels of 255" if record.norm == "linf" else "over pixels in [0, 1]"
    sizes = [["Worst case", *_spread(record.worst_distance, record.norm)]]
    attacks = [record.attacks[i] for i in bounded(record)]
    sizes += [[wording.clean(a.title, 60), *_spread(a.distortion, record.norm)] for a in attacks]
    rms = [[wording.clean(a.title, 60), *_spread(a.rms, "linf")] for a in attacks]
    return Table(
        "distortion",
        "Smallest change found, over the samples that broke",
        [
            Column("Attack", numeric=False),
            Column("Broken"),
            *(Column(q.replace(" ", wording.NBSP)) for q in _QUANTILES),
        ],
        [
            Group(sizes, f"{norm} distance, {unit}"),
            Group(rms, "Root mean square of the change, levels of 255"),
        ],
    )


def _spread(spread: Spread, norm: str) -> list[str]:
    return [
        wording.count(spread.count),
        *("–" if v is None else wording.distance(v, norm) for v in _values(spread)),
    ]


def _values(s: Spread) -> list[float | None]:
    return [s.min, s.p10, s.p25, s.median, s.p75, s.p90, s.max, s.mean]


def confidence_table(record: AuditRecord) -> Table:
    """Tabulate the model's confidence before and after each attack."""
    rows = []
    for a in record.attacks:
        before, after = a.confidence_before, a.confidence_after
        rows.append(
            [wording.clean(a.title, 60), wording.count(after.count), *_confidence(before), *_confidence(after)],
        )
    clean = record.clean_confidence
    rows.insert(0, ["No attack", wording.count(clean.count), *_confidence(clean), "–", "–"])
    return Table(
        "confidence",
        "Confidence in the prediction before and after the attack, over the samples that broke",
        [
            Column("Attack", numeric=False),
            Column("Samples"),
            Column("Before, median"),
            Column(f"Before, 10–90{wording.NBSP}%"),
            Column("After, median"),
            Column(f"After, 10–90{wording.NBSP}%"),
        ],
        [Group(rows)],
        ["The row “No attack” is over all samples."],
    )


def _confidence(spread: Spread) -> list[str]:
    if spread.median is None or spread.p10 is None or spread.p90 is None:
        return ["–", "–"]
    low, high = wording.percent(spread.p10, 1000, unit=False), wording.percent(spread.p90, 1000)
    return [wording.percent(spread.median, 1000), f"{low}–{high}"]


def sample_table(record: AuditRecord) -> Table:
    """Tabulate the samples, weakest first; the first 200 where there are more."""
    s = record.samples
    unit = "levels of 255" if record.norm == "linf" else "over pixels in [0, 1]"
    smallest = [float("inf") if d is None else d for d in s.distances]
    order = sorted(range(len(s.ids)), key=lambda i: (smallest[i], s.ids[i]))
    notes = []
    if len(order) > ROWS:
        notes.append(f"The {ROWS} weakest of {wording.samples(len(order))}; report.json has them all.")
    return Table(
        "samples",
        f"Each sample, weakest first; the smallest change over all attacks in {wording.NORMS[record.norm]}, {unit}",
        [
            Column("Sample", numeric=False),
            Column("True class", numeric=False),
            Column("Seen as", numeric=False),
            Column("Confidence"),
            Column("Smallest change"),
            Column("By", numeric=False),
            Column("Then seen as", numeric=False),
            Column("Confidence"),
        ],
        [Group([_sample_row(record, i) for i in order[:ROWS]])],
        notes,
    )


def _sample_row(record: AuditRecord, i: int) -> list[str]:
    s = record.samples
    row = [
        wording.clean(s.names[i]),
        _class(record, s.labels[i]),
        _class(record, s.predictions[i]),
        wording.percent(s.confidences[i], 1000),
    ]
    if s.labels[i] != s.predictions[i]:
        return [*row, "0", "wrong before any attack", "–", "–"]
    found, by = s.distances[i], s.by[i]
    if found is None or by is None:
        return [*row, "–", "not broken", "–", "–"]
    attack = record.attacks[by]
    seen, sure = attack.predictions[i], attack.confidences[i]
    after = [
        "–" if seen is None else _class(record, seen),
        "–" if sure is None else wording.percent(sure, 1000),
    ]
    return [*row, wording.distance(found, record.norm), wording.clean(attack.title, 40), *after]


def _class(record: AuditRecord, index: int) -> str:
    return wording.clean(record.classes.get(str(index), f"class {index}"), 80)
