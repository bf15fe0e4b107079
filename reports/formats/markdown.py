"""summary.md: the first screen as Markdown, short enough for the summary of a CI job."""

from __future__ import annotations

import re

from ..page import first_screen, wording
from ..page.certified_section import refuted, sentence
from ..page.checks_section import trust
from ..record.audit_record import AuditRecord
from ..record.parts import AttackResult
from ..record.ranking import kept, ranked

_ROWS = 9  # of each table, so that the whole stays under 60 lines
_CHECKS = 4


def render(record: AuditRecord) -> str:
    """Write the summary; names from outside are escaped, so that none can draw a table or a link."""
    head = first_screen.headline(record)
    verdict = first_screen.verdict(record)
    lines = [f"## Robustness of {_escaped(record.model.title)}", ""]
    incomplete = first_screen.incomplete(record)
    if incomplete:
        lines += [f"**Incomplete run.** {_escaped(incomplete, 1000)}", ""]
    lines += [f"**{_escaped(head.sentence, 1000)}** {_escaped(head.takes, 1000)}".rstrip(), ""]
    lines += [f"{_escaped(record.data.title)}; {_escaped(first_screen.setting(record), 1000)}.", ""]
    lines += _table(
        ["Within", "Right", "Accuracy", "95 % interval"],
        [[bar.label, bar.kept, bar.share, bar.interval] for bar in first_screen.bars(record, _ROWS)],
    )
    if record.certified is not None:
        lines += [_escaped(f"{sentence(record, record.certified)} {refuted(record)}".rstrip(), 1000), ""]
    lines += _attacks(record)
    lines += _checks(record)
    if verdict.rows:
        lines += [f"**Gates: {verdict.word.lower()}.** {_escaped(verdict.text)}", ""]
        # What failed comes first, and is never the part left out.
        rows = sorted(verdict.rows, key=lambda row: row.state == "passed")
        lines += _table(["Gate", "State", "Detail"], [[r.name, r.word, r.detail] for r in rows[:_ROWS]])
        if len(rows) > _ROWS:
            lines += [f"{len(rows) - _ROWS} more gates are in junit.xml.", ""]
    else:
        lines += ["No gates were set.", ""]
    run = record.run
    skipped = f", {wording.count(len(record.data.skipped))} files skipped" if record.data.skipped else ""
    lines.append(
        f"Seed {run.seed}, {_escaped(run.device)}, {wording.duration(run.seconds)}, "
        f"robustkit {_escaped(run.robustkit)}{skipped}. "
        "Robust accuracy is an upper bound: a stronger attack can only lower it."
    )
    return "\n".join(lines) + "\n"


def _checks(record: AuditRecord) -> list[str]:
    """Write the verdict on the numbers, and each check that did not pass."""
    found = trust(record)
    lines = [f"**{found.word}.** {_escaped(f'{found.text} {found.answered}'.rstrip(), 700)}", ""]
    for row in found.rows[:_CHECKS]:
        lines.append(f"- {row.word}: **{_escaped(row.id)}.** {_escaped(row.detail, 500)} {_escaped(row.remedy, 500)}")
    if len(found.rows) > _CHECKS:
        lines.append(f"- {len(found.rows) - _CHECKS} more are in index.html.")
    return [*lines, ""] if found.rows else lines


def _attacks(record: AuditRecord) -> list[str]:
    """Tabulate the attacks, the strongest first; then write a line on what carried over between models."""
    order = ranked(record)
    order += [place for place in range(len(record.attacks)) if place not in order]
    attacks = [record.attacks[place] for place in order]
    if not attacks:
        return []
    at = f"Robust at {_escaped(record.worst_case[-1].text, 20)}" if record.worst_case else "Still right"
    unit = "levels of 255" if record.norm == "linf" else wording.NORMS[record.norm]
    rows = [_attack(attack, record.norm) for attack in attacks]
    lines = _table(["Attack", "Access", at, "95 % interval", f"Median change, {unit}"], rows[:_ROWS])
    if len(rows) > _ROWS:
        lines += [f"{len(rows) - _ROWS} more attacks are in index.html.", ""]
    for transfer in record.transfer[:1]:
        carried = [
            f"{_escaped(maker, 60)} {wording.share(row[0])}"
            for maker, row in zip(transfer.makers, transfer.wrong, strict=True)
            if maker != record.model.title
        ]
        if carried:
            what = f"Transfer, {_escaped(transfer.attack, 60)}: share that this model gets wrong of the points"
            lines += [f"{what} made against {wording.listing(carried, 6)}.", ""]
    return lines


def _attack(attack: AttackResult, norm: str) -> list[str]:
    robust = attack.curve[-1].robust if attack.curve else kept(attack)
    median = attack.distortion.median
    return [
        wording.clean(attack.title, 60) + (", a control" if attack.control else ""),
        wording.ACCESS[attack.access],
        wording.share(robust),
        wording.interval(robust),
        "–" if median is None else wording.distance(median, norm),
    ]


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(_escaped(cell, 500) for cell in row)} |" for row in rows]
    return [*lines, ""]


def _escaped(text: str, limit: int = 120) -> str:
    text = re.sub(r"([\\`*_{}\[\]<>#|~&!])", r"\\\1", wording.clean(text, limit))
    return text.replace("://", ":\\//").replace("@", "&#64;")  # no link and no mention of its own accord
