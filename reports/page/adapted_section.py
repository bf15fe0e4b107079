"""Automatic answers of an audit to the checks that found a fault, and the robust accuracy after each of them."""

from __future__ import annotations

from ..record.adaptation_steps import steps_of
from ..record.audit_record import AuditRecord
from ..record.parts import Adapted, Answer
from ..record.statistics import Rate
from . import wording
from .tables import Column, Group, Table, spaced

_GRID = 6  # ε in the table


def adapted_sentence(record: AuditRecord) -> str:
    """Say in one sentence for the first screen what the answers came to; "" where the audit was not asked to adapt."""
    adapted = record.adapted
    if adapted is None:
        return ""
    ran = [answer for answer in adapted.answers if answer.attack is not None]
    if not adapted.answers:
        return "No check called for another attack, so none was added."
    if not ran:
        return "No attack was added: the table of the answers says why."
    many = "a further attack" if len(ran) == 1 else f"{len(ran)} further attacks"
    fell = [(b.robust.count - a.robust.count, b, a) for b, a in zip(adapted.before, adapted.after, strict=True)]
    most, before, after = max(reversed(fell), key=lambda pair: pair[0])
    where = f"at ε = {wording.clean(before.text, 20)}"
    if not most:
        return f"Answered with {many}, which left the robust accuracy {where} at {wording.share(after.robust)}."
    shares = f"from {wording.share(before.robust)} to {wording.share(after.robust)}"
    return f"Answered with {many}: the robust accuracy {where} fell {shares}."


def adapted_table(record: AuditRecord) -> Table:
    """Tabulate robust accuracy before the answers and after each of them; empty where there are none."""
    adapted = record.adapted or Adapted([], [], "", [])
    shown = spaced(len(record.eps), _GRID)
    columns = [Column("After", numeric=False)]
    columns += [Column(f"ε = {wording.clean(record.worst_case[i].text, 20)}".replace(" ", wording.NBSP)) for i in shown]
    columns += [Column("Broken"), *(Column(t, numeric=False) for t in ("What was done", "Checks", "Source"))]
    steps = steps_of(record, adapted) if adapted.answers else []
    shares = [[wording.share(Rate.of(step.right[i], record.clean.total)) for i in shown] for step in steps]
    rows = [["the named attacks", *shares[0], "", "", "", ""]] if steps else []
    for answer, step, row in zip(adapted.answers, steps[1:], shares[1:], strict=True):
        rows.append(
            [
                _title(record, answer),
                *row,
                wording.count(step.broken),
                wording.clean(answer.what, 400),
                wording.clean(", ".join(answer.checks), 400),
                wording.clean(answer.source, 300),
            ]
        )
    note = f"How points were judged: {wording.clean(adapted.judging, 500)}." if adapted.judging else ""
    return Table(
        "adapted",
        "Robust accuracy before and after the automatic answers",
        columns,
        [Group(rows)] if rows else [],
        [note] if note else [],
    )


def _title(record: AuditRecord, answer: Answer) -> str:
    return "no attack" if answer.attack is None else wording.clean(record.attacks[answer.attack].title, 60)
