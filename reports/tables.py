"""The page's tables, as text: columns, groups of rows, and a caption that says what is counted."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import words
from .record import AttackResult, AuditRecord, EpsPoint, Spread

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


def robust_table(record: AuditRecord) -> Table:
    """Robust accuracy for each ε and attack."""
    groups = [Group([_eps_row(p) for p in record.worst_case], "Worst case over all attacks", "worst")]
    for i, attack in enumerate(record.attacks):
        groups.append(Group([_eps_row(p) for p in attack.curve], words.clean(attack.title, 60), f"attack-{i}"))
    return Table(
        "robust",
        f"Robust accuracy within ε ({words.NORMS[record.norm]}), with 95{words.NBSP}% intervals",
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
        words.clean(point.text, 20),
        words.of(robust),
        words.share(robust),
        words.interval(robust),
        words.share(success),
        words.interval(success),
        words.count(point.inherited),
    ]


def attack_tables(record: AuditRecord) -> list[Table]:
    """What each attack reached and what it cost; then its settings."""
    targeted = any(attack.targeted is not None for attack in record.attacks)
    columns = [
        Column("Attack", numeric=False),
        Column("Searches", numeric=False),
        Column("Works in", numeric=False),
        Column("Judged"),
        Column("Broken"),
        Column("Success"),
        *([Column("Reached the target")] if targeted else []),
        Column("Forward passes per sample"),
        Column("Backward passes per sample"),
        Column("Time"),
    ]
    cost = Table(
        "cost",
        "What each attack reached, and what it cost",
        columns,
        [Group([_cost_row(attack, targeted) for attack in record.attacks])],
    )
    settings = Table(
        "settings",
        "Settings and sources of the attacks",
        [Column("Attack", numeric=False), Column("Settings", numeric=False), Column("Paper", numeric=False)],
        [Group([[words.clean(a.title, 60), _settings(a), words.clean(a.paper, 300) or "–"] for a in record.attacks])],
    )
    return [cost, settings]


def _cost_row(attack: AttackResult, targeted: bool) -> list[str]:
    row = [
        words.clean(attack.title, 60),
        "within ε" if attack.kind == "budget" else "the smallest change",
        words.NORMS[attack.own_norm],
        words.count(attack.judged),
        words.of(attack.success),
        f"{words.share(attack.success)} ({words.interval(attack.success)})",
    ]
    if targeted:
        reached = attack.targeted
        row.append("–" if reached is None else f"{words.of(reached)} ({words.interval(reached)})")
    queries = [words.number(attack.forwards), words.number(attack.backwards)]
    return [*row, *queries, words.duration(attack.seconds)]


def _settings(attack: AttackResult) -> str:
    def text(value: object) -> str:
        return words.number(value) if isinstance(value, float) else words.clean(str(value), 60)

    pairs = [f"{words.clean(k, 40)} {text(v)}" for k, v in attack.parameters.items() if v is not None]
    return ", ".join(pairs) or "–"


_QUANTILES = ["Smallest", "10 %", "25 %", "Median", "75 %", "90 %", "Largest", "Mean"]


def distortion_table(record: AuditRecord) -> Table:
    """Quantiles of the smallest change found, in the norm and as a root mean square."""
    norm = words.NORMS[record.norm]
    unit = "levels of 255" if record.norm == "linf" else "over pixels in [0, 1]"
    sizes = [["Worst case", *_spread(record.worst_distance, record.norm)]]
    sizes += [[words.clean(a.title, 60), *_spread(a.distortion, record.norm)] for a in record.attacks]
    rms = [[words.clean(a.title, 60), *_spread(a.rms, "linf")] for a in record.attacks]
    return Table(
        "distortion",
        "Smallest change found, over the samples that broke",
        [
            Column("Attack", numeric=False),
            Column("Broken"),
            *(Column(q.replace(" ", words.NBSP)) for q in _QUANTILES),
        ],
        [
            Group(sizes, f"{norm} distance, {unit}"),
            Group(rms, "Root mean square of the change, levels of 255"),
        ],
    )


def _spread(spread: Spread, norm: str) -> list[str]:
    return [
        words.count(spread.count),
        *("–" if v is None else words.distance(v, norm) for v in _values(spread)),
    ]


def _values(s: Spread) -> list[float | None]:
    return [s.min, s.p10, s.p25, s.median, s.p75, s.p90, s.max, s.mean]


def confidence_table(record: AuditRecord) -> Table:
    """How sure the model was, before and after."""
    rows = []
    for a in record.attacks:
        before, after = a.confidence_before, a.confidence_after
        rows.append(
            [words.clean(a.title, 60), words.count(after.count), *_confidence(before), *_confidence(after)],
        )
    clean = record.clean_confidence
    rows.insert(0, ["No attack", words.count(clean.count), *_confidence(clean), "–", "–"])
    return Table(
        "confidence",
        "Confidence in the prediction before and after the attack, over the samples that broke",
        [
            Column("Attack", numeric=False),
            Column("Samples"),
            Column("Before, median"),
            Column(f"Before, 10–90{words.NBSP}%"),
            Column("After, median"),
            Column(f"After, 10–90{words.NBSP}%"),
        ],
        [Group(rows)],
        ["The row “No attack” is over all samples."],
    )


def _confidence(spread: Spread) -> list[str]:
    if spread.median is None or spread.p10 is None or spread.p90 is None:
        return ["–", "–"]
    low, high = words.percent(spread.p10, 1000, unit=False), words.percent(spread.p90, 1000)
    return [words.percent(spread.median, 1000), f"{low}–{high}"]


def sample_table(record: AuditRecord) -> Table:
    """Every sample, weakest first; the first 200 where there are more."""
    s = record.samples
    unit = "levels of 255" if record.norm == "linf" else "over pixels in [0, 1]"
    smallest = [float("inf") if d is None else d for d in s.distances]
    order = sorted(range(len(s.ids)), key=lambda i: (smallest[i], s.ids[i]))
    notes = []
    if len(order) > ROWS:
        notes.append(f"The {ROWS} weakest of {words.samples(len(order))}; report.json has them all.")
    return Table(
        "samples",
        f"Each sample, weakest first; smallest change in {words.NORMS[record.norm]}, {unit}",
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
        words.clean(s.names[i]),
        _class(record, s.labels[i]),
        _class(record, s.predictions[i]),
        words.percent(s.confidences[i], 1000),
    ]
    if s.labels[i] != s.predictions[i]:
        return [*row, "0", "wrong before any attack", "–", "–"]
    found = s.distances[i]
    if found is None:
        return [*row, "–", "not broken", "–", "–"]
    attack = next(a for a in record.attacks if a.distances[i] == found)
    seen, sure = attack.predictions[i], attack.confidences[i]
    after = [
        "–" if seen is None else _class(record, seen),
        "–" if sure is None else words.percent(sure, 1000),
    ]
    return [*row, words.distance(found, record.norm), words.clean(attack.title, 40), *after]


def _class(record: AuditRecord, index: int) -> str:
    return words.clean(record.classes.get(str(index), f"class {index}"), 80)
