"""Checks of an evaluation, and the verdict on its numbers, as the page shows them."""

from __future__ import annotations

from dataclasses import dataclass

from ..record.audit_record import AuditRecord
from ..record.verdicts import NO_TRUST, RESERVATIONS, TRUST, UNCHECKED, CheckResult
from . import wording
from .adapted_section import adapted_sentence, adapted_table
from .tables import Column, Group, Table

_STATES = {"fail": "failed", "error": "warned", "warn": "warned", "pass": "passed", "n/a": "open"}
_WORDS = {"fail": "Failed", "error": "Error", "warn": "Warning", "pass": "Passed", "n/a": "Not applicable"}
_VERDICTS = {
    TRUST: ("passed", "Trust these numbers"),
    RESERVATIONS: ("warned", "Trust them with reservations"),
    NO_TRUST: ("failed", "Do not trust these numbers"),
    UNCHECKED: ("open", "These numbers were not checked"),
}
_URGENT = 3  # checks named on the first screen


@dataclass(frozen=True)
class CheckRow:
    id: str
    state: str  # "failed", "warned", "passed" or "open"
    word: str
    title: str
    figure: str  # "0.44, at most 0.01"; "" where there is none
    detail: str
    source: str
    remedy: str


@dataclass(frozen=True)
class Trust:
    state: str  # as of a row
    word: str
    text: str
    rows: list[CheckRow]  # failed first, then errors, then warnings
    passed: Table
    skipped: Table
    answered: str  # what automatic answers came to; "" where there were to be none
    answers: Table

    @property
    def urgent(self) -> list[CheckRow]:
        """Rows for the first screen."""
        return self.rows[:_URGENT]

    @property
    def more(self) -> int:
        """Count the rows that the first screen leaves out."""
        return max(0, len(self.rows) - _URGENT)

    @property
    def checked(self) -> bool:
        return bool(self.rows) or not (self.passed.empty and self.skipped.empty)


def trust(record: AuditRecord) -> Trust:
    """Build the section: the verdict and the checks behind it."""
    state, word = _VERDICTS[record.verdict]
    groups = {status: [_row(check) for check in record.checks if check.status == status] for status in _STATES}
    failed, errors, warned, passed, skipped = (groups[status] for status in _STATES)
    return Trust(
        state=state,
        word=word,
        text=_text(record, len(failed), len(errors), len(warned)),
        rows=[*failed, *errors, *warned],
        passed=Table(
            "checks-passed",
            "Checks that passed",
            [Column("Check", numeric=False), Column("Measured, threshold"), *_texts("What was found", "Source")],
            [Group([[row.title, row.figure or "–", row.detail, row.source] for row in passed])],
        ),
        skipped=Table(
            "checks-open",
            "Checks that could not be made",
            [Column("Check", numeric=False), *_texts("Why", "Source")],
            [Group([[row.title, row.detail, row.source] for row in skipped])],
        ),
        answered=adapted_sentence(record),
        answers=adapted_table(record),
    )


def _texts(*titles: str) -> list[Column]:
    return [Column(title, numeric=False) for title in titles]


def _text(record: AuditRecord, failed: int, errors: int, warned: int) -> str:
    made = sum(check.status != "n/a" for check in record.checks)
    if not record.checks:
        return "No checks of the evaluation were run with this audit."
    if not made:
        return "None of the checks could be made."
    whole = "" if record.status == "complete" else " Those of the figures are missing: the run is incomplete."
    parts = {"failed": failed, "ended in an error": errors, "warned": warned}
    counts = [f"{count} {what}" for what, count in parts.items() if count]
    if not counts:
        return f"All {made} checks of the evaluation passed.{whole}"
    return f"Of {made} checks of the evaluation {wording.listing(counts)}.{whole}"


def _row(check: CheckResult) -> CheckRow:
    return CheckRow(
        id=wording.clean(check.id, 60),
        state=_STATES[check.status],
        word=_WORDS[check.status],
        title=wording.clean(check.title, 200),
        figure=_figure(check),
        detail=wording.clean(check.detail, 500),
        source=wording.clean(check.source, 200),
        remedy=wording.clean(check.remedy, 500),
    )


def _figure(check: CheckResult) -> str:
    if check.measured is None:
        return ""
    measured = wording.number(check.measured, 2)
    return measured if check.threshold is None else f"{measured}, at most {wording.number(check.threshold, 2)}"
