"""Tables on attacks: what each reached and cost, what no norm measures, and what carries over between models."""

from __future__ import annotations

from ..record.audit_record import AuditRecord
from ..record.parts import AttackResult, Transfer
from ..record.ranking import free, kept, ranked, strongest
from ..record.statistics import Rate
from . import wording
from .tables import Column, Group, Table

_INTERVALS = 4  # models up to which the transfer matrix has room for intervals


def attack_tables(record: AuditRecord) -> list[Table]:
    """Tabulate what each attack reached and what it cost; then its settings."""
    settings = Table(
        "settings",
        "Settings and sources of the attacks",
        [Column("Attack", numeric=False), Column("Settings", numeric=False), Column("Paper", numeric=False)],
        [
            Group(
                [[wording.clean(a.title, 60), _settings(a), wording.clean(a.paper, 300) or "–"] for a in record.attacks]
            )
        ],
    )
    return [_cost_table(record), settings]


def _cost_table(record: AuditRecord) -> Table:
    whole = all(attack.judged == len(record.samples.ids) for attack in record.attacks)
    targeted = any(attack.targeted is not None for attack in record.attacks)
    rated = any(attack.optimality is not None for attack in record.attacks)
    several = sum(attack.kind != "free" for attack in record.attacks) > 1
    optional = {
        "judged": [] if whole else [Column("Judged")],
        "robust": [Column(f"Robust accuracy at {wording.clean(p.text, 20)}") for p in record.worst_case[-1:]],
        "closest": [Column("Closest on")] if several else [],
        "optimality": [Column("Optimality")] if rated else [],
        "targeted": [Column("Reached the target")] if targeted else [],
    }
    columns = [
        Column("Attack", numeric=False),
        Column("Access", numeric=False),
        Column("Searches", numeric=False),
        *optional["judged"],
        *optional["robust"],
        Column("Broken"),
        Column("Median change"),
        *optional["closest"],
        *optional["optimality"],
        *optional["targeted"],
        Column("Forward passes"),
        Column("Gradients"),
        Column("Time"),
    ]
    used = {name for name, column in optional.items() if column}
    closest = [0] * len(record.attacks)
    for place in record.samples.by:
        if place is not None:
            closest[place] += 1
    groups: dict[str, list[int]] = {
        "": [],
        "Control: noise, no search": [],
        "Other changes, which no norm measures": [],
    }
    attacks, controls, others = groups.values()
    for place, attack in enumerate(record.attacks):
        (others if attack.kind == "free" else controls if attack.control else attacks).append(place)
    best = strongest(record) if len(ranked(record)) > 1 else None
    return Table(
        "cost",
        "What each attack reached, and what it cost per sample",
        columns,
        [
            Group(
                [_cost_row(record, record.attacks[place], closest[place], used) for place in places],
                title,
                mark=places.index(best) if best in places else None,
            )
            for title, places in groups.items()
        ],
        _cost_notes(record, several, rated),
    )


def _cost_row(record: AuditRecord, attack: AttackResult, closest: int, used: set[str]) -> list[str]:
    reached, measured = attack.targeted, attack.kind != "free"
    norm = wording.NORMS.get(attack.own_norm, "")
    cells = {
        "judged": wording.count(attack.judged),
        "robust": wording.share(attack.curve[-1].robust) if attack.curve else "–",
        "broken": wording.of(attack.success),
        "median": "–" if attack.distortion.median is None else wording.distance(attack.distortion.median, record.norm),
        "closest": wording.count(closest) if measured else "–",
        "optimality": "–" if attack.optimality is None else wording.percent(attack.optimality, 1000),
        "targeted": "–" if reached is None else f"{wording.of(reached)} ({wording.interval(reached)})",
    }
    searches = {"budget": f"within ε, {norm}", "minimum": f"smallest, {norm}", "free": "–"}[attack.kind]
    return [
        wording.clean(attack.title, 60),
        wording.ACCESS[attack.access].replace(" ", wording.NBSP),
        searches.replace(" ", wording.NBSP),
        *(text for name, text in cells.items() if name in used | {"broken", "median"}),
        wording.number(attack.forwards),
        wording.number(attack.backwards),
        wording.duration(attack.seconds),
    ]


def _cost_notes(record: AuditRecord, several: bool, rated: bool) -> list[str]:
    parts = ["A white box attack uses the model's gradients; the others see scores or labels alone.", _median(record)]
    if any(attack.kind == "minimum" for attack in record.attacks):
        parts.append(
            "Broken: at any distance by an attack that searches the smallest change, else within the largest ε."
        )
    if several:
        parts.append("Closest on: samples whose smallest change it found; of equal ones the first listed counts.")
    if rated:
        parts.append(
            f"Optimality (AttackBench): 100{wording.NBSP}% if its changes are as small as the best found on every "
            f"sample, 0{wording.NBSP}% if it broke nothing."
        )
    notes = [f"{wording.clean(a.title, 60)}: {wording.clean(note, 400)}" for a in record.attacks for note in a.notes]
    return [*parts, *notes] if record.attacks else []


def _median(record: AuditRecord) -> str:
    unit = "levels of 255" if record.norm == "linf" else "over pixels in [0, 1]"
    return f"Median change: over the samples that broke, in {wording.NORMS[record.norm]}, {unit}."


def _settings(attack: AttackResult) -> str:
    def text(value: object) -> str:
        return wording.number(value) if isinstance(value, float) else wording.clean(str(value), 60)

    pairs = [f"{wording.clean(k, 40)} {text(v)}" for k, v in attack.parameters.items() if v is not None]
    return ", ".join(pairs) or "–"


def other_tables(record: AuditRecord) -> list[Table]:
    """Tabulate accuracy under changes that no norm measures, and by kind and severity where they have such."""
    summary = Table(
        "other",
        f"Accuracy under each change, with 95{wording.NBSP}% intervals",
        [
            Column("Change", numeric=False),
            Column("Still right"),
            Column("Accuracy"),
            Column("Interval"),
            Column("Median change"),
        ],
        [Group([_other_row(record, attack) for attack in free(record)])],
        [_median(record)],
    )
    cells = [_cell_table(i, attack) for i, attack in enumerate(record.attacks) if attack.cells]
    return [table for table in (summary, *cells) if not table.empty]


def _other_row(record: AuditRecord, attack: AttackResult) -> list[str]:
    right = kept(attack)
    median = attack.distortion.median
    return [
        wording.clean(attack.title, 60),
        wording.of(right),
        wording.share(right),
        wording.interval(right),
        "–" if median is None else wording.distance(median, record.norm),
    ]


def _cell_table(place: int, attack: AttackResult) -> Table:
    broken = {(cell.variant, cell.level): cell.broken for cell in attack.cells}
    variants, levels = (list(dict.fromkeys(names)) for names in zip(*broken, strict=True))
    right = {at: (rate.total - rate.count) / attack.judged if attack.judged else None for at, rate in broken.items()}
    grid = [[right.get((variant, level)) for level in levels] for variant in variants]
    if len(variants) > 1:
        grid.append([_mean(column) for column in zip(*grid, strict=True)])
    if len(levels) > 1:
        grid = [[*row, _mean(row)] for row in grid]
    names = [wording.clean(variant, 40) for variant in variants] + ["Mean"] * (len(variants) > 1)
    rows = [[name, *(_share(value, attack.judged) for value in row)] for name, row in zip(names, grid, strict=True)]
    level = "severity" if all(name.isdecimal() for name in levels) else "level"
    return Table(
        f"cells-{place}",
        f"{wording.clean(attack.title, 60)}: accuracy by kind and {level}",
        [
            Column("Kind", numeric=False),
            *(Column(wording.clean(name, 20)) for name in levels),
            *([Column("Mean")] if len(levels) > 1 else []),
        ],
        [Group(rows, shades=[[0, *(_shade(None if value is None else 1 - value) for value in row)] for row in grid])],
        ["The stronger the tint, the more samples are wrong."],
    )


def _mean(values: list[float | None] | tuple[float | None, ...]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _share(value: float | None, total: int) -> str:
    return "–" if value is None else wording.percent(value, total)


def _shade(value: float | None) -> int:
    """Scale a share from 0 to 1 to a tint from 0 to 10."""
    return 0 if value is None else round(10 * value)


def transfer_tables(record: AuditRecord) -> list[Table]:
    """Tabulate, for each attack that was carried over, the models that are fooled by points made against another."""
    return [_transfer_table(record, i, transfer) for i, transfer in enumerate(record.transfer)]


def _transfer_table(record: AuditRecord, place: int, transfer: Transfer) -> Table:
    models = [wording.clean(title, 60) for title in transfer.models]
    makers = [wording.clean(title, 60) for title in transfer.makers]
    audited = wording.clean(record.model.title, 60)

    def cell(rate: Rate) -> str:
        share = wording.share(rate)
        return share if len(models) > _INTERVALS or rate.total == 0 else f"{share} ({wording.interval(rate)})"

    rates = [rate for row in transfer.wrong for rate in row]
    where = f" at ε = {wording.clean(transfer.text, 20)} ({wording.NORMS[record.norm]})" if transfer.text else ""
    over = f" Over the {wording.samples(rates[0].total)} that every model had right." if rates else ""
    return Table(
        f"transfer-{place}",
        f"{wording.clean(transfer.attack, 60)}{where}: share of the points that each model gets wrong",
        [
            Column("Made against", numeric=False),
            *(Column(title + " (audited)" if title == audited else title) for title in models),
        ],
        [
            Group(
                [[maker, *(cell(rate) for rate in row)] for maker, row in zip(makers, transfer.wrong, strict=True)],
                shades=[[0, *(_shade(rate.value) for rate in row)] for row in transfer.wrong],
            )
        ],
        [
            "A row holds the points made against one model, a column what a model makes of them. Where both are the "
            f"same model the attack had its gradients; elsewhere it never saw the model.{over}"
        ],
    )
