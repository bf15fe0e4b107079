"""First screen of the page: the headline, the bars, the gates and the setting, as ready sentences and figures."""

from __future__ import annotations

from dataclasses import dataclass

from ..record.audit_record import AuditRecord
from ..record.parts import EpsPoint, Gate
from ..record.ranking import bounded, free, kept
from ..record.statistics import Rate
from . import wording
from .tables import spaced

BARS = 6  # rows of the table
_NAMES = 4  # attacks named


@dataclass(frozen=True)
class Bar:
    """Row of the first screen: the samples that the model still gets right."""

    label: str
    kept: str
    share: str
    interval: str
    # Positions on a scale from 0 to 100; None where nothing was judged.
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Headline:
    figure: str
    caption: str
    sentence: str
    takes: str  # the change that breaks half of the samples, and clean accuracy


@dataclass(frozen=True)
class GateRow:
    name: str
    state: str  # "passed", "failed" or "open"
    word: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    state: str  # "passed", "failed", "open" or "none"
    word: str
    text: str
    rows: list[GateRow]

    @property
    def urgent(self) -> list[GateRow]:
        """Rows for the first screen."""
        return [row for row in self.rows if row.state == "failed"][:2]


def headline(record: AuditRecord) -> Headline:
    """Choose the figure to speak of first, and word it in two sentences."""
    clean, takes = record.clean, _change_needed(record)
    figures = f"{wording.share(clean)}, {wording.interval(clean)}"
    before = f"Before any attack it was right on {wording.of(clean)} ({figures})."
    if clean.total == 0:
        return Headline("–", "nothing judged", "The run ended before any sample was judged.", "")
    if clean.count == 0:
        what = f"This model is wrong on {_all_samples(clean.total)} before any attack, so there was nothing to attack."
        return Headline(wording.share(clean), f"clean accuracy on {wording.samples(clean.total)}", what, "")
    loose = [attack for attack in free(record) if attack.judged]
    if loose and not bounded(record):
        least = min(loose, key=lambda attack: kept(attack).count / attack.judged)
        right, title = kept(least), wording.clean(least.title, 60)
        what = f"Under {title} this model keeps {wording.count(right.count)} of {wording.samples(right.total)} right "
        what += f"({wording.share(right)}, 95{wording.NBSP}% interval {wording.interval(right)})."
        return Headline(wording.share(right), f"accuracy under {title}", what, before)
    point = decisive(record)
    if point is None:
        broken = record.worst_distance
        what = f"Given enough change, the attacks broke {wording.count(broken.count)} of the "
        what += f"{wording.samples(clean.count)} that this model got right."
        median = broken.median
        if median is None:
            return Headline(f"0 of {wording.count(clean.count)}", "broken", what, before)
        unit = "median change that broke a sample, "
        unit += "in levels of 255" if record.norm == "linf" else f"in {wording.NORMS[record.norm]}"
        return Headline(wording.distance(median, record.norm), unit, what, f"{takes} {before}")
    robust = point.robust
    if robust.total == 0:
        return Headline("–", "robust accuracy", "The run ended before any sample was attacked.", before)
    where = f"ε = {wording.clean(point.text, 20)}"
    already = "Already at" if point.eps < record.eps[-1] else "At"
    sentence = (
        f"{already} {where} ({wording.NORMS[record.norm]}) this model keeps {wording.count(robust.count)} of "
        f"{wording.samples(robust.total)} right ({wording.share(robust)}, 95{wording.NBSP}% interval "
        f"{wording.interval(robust)})."
    )
    return Headline(wording.share(robust), f"robust accuracy at {where}", sentence, f"{takes} {before}")


def decisive(record: AuditRecord) -> EpsPoint | None:
    """Choose the ε to speak of first: the smallest that leaves nothing right, else the largest."""
    judged = [point for point in record.worst_case if point.robust.total]
    fallen = [point for point in judged if point.robust.count == 0]
    return next(iter(fallen or judged[-1:] or record.worst_case[-1:]), None)


def _change_needed(record: AuditRecord) -> str:
    spread = record.worst_distance
    if spread.median is None:
        by = f"attack in {wording.NORMS[record.norm]}" if free(record) else "attack"
        return f"No {by} broke any of the {wording.samples(record.clean.count)} that were right."
    c, h, w = record.model.input
    change = wording.change(spread.median, record.norm, c * h * w)
    if spread.count == 1:
        return f"The one sample that broke needed {change}."
    return f"Half of the {wording.count(spread.count)} samples that broke needed no more than {change}."


def incomplete(record: AuditRecord) -> str | None:
    """Mark an interrupted run; None on a whole one."""
    if record.status == "complete":
        return None
    done = [f"{wording.clean(a.title, 40)} {wording.count(a.judged)}" for a in record.attacks]
    total = wording.samples(len(record.samples.ids))
    reach = f" Samples attacked so far, of {total}: {wording.listing(done, 2 * _NAMES)}." if done else ""
    return f"The run was stopped before its end; the figures cover what was finished.{reach}"


def verdict(record: AuditRecord) -> Verdict:
    """Judge the gates; a run that did not finish establishes none of them."""
    if not record.gates:
        return Verdict("none", "No gates", "This run set no condition to pass or fail.", [])
    whole = record.status == "complete"
    rows = [_gate(gate, whole) for gate in record.gates]
    total = len(rows)
    failed = sum(row.state == "failed" for row in rows)
    if not whole:
        return Verdict("open", "Not established", f"The run is incomplete: {_gate_count(total)} unanswered.", rows)
    if failed:
        return Verdict("failed", "Failed", f"{failed} of {_gate_count(total)} not met.", rows)
    return Verdict("passed", "Passed", "The gate is met." if total == 1 else f"All {total} gates are met.", rows)


def _gate(gate: Gate, whole: bool) -> GateRow:
    state = ("passed" if gate.passed else "failed") if whole else "open"
    word = {"passed": "Passed", "failed": "Failed", "open": "Not established"}[state]
    return GateRow(wording.clean(gate.name, 200), state, word, wording.clean(gate.detail, 500))


def _gate_count(n: int) -> str:
    return "1 gate" if n == 1 else f"{n} gates"


def _all_samples(n: int) -> str:
    return "its one sample" if n == 1 else f"all {wording.samples(n)}"


def bars(record: AuditRecord, most: int) -> list[Bar]:
    """List clean accuracy and the worst case for each ε, or for `most` of them, evenly chosen, ends included."""
    points = [record.worst_case[i] for i in spaced(len(record.worst_case), most)]
    rows = [_bar(f"ε = {wording.clean(point.text, 20)}", point.robust) for point in points]
    if free(record) and not bounded(record):
        rows = [_bar(wording.clean(attack.title, 20), kept(attack)) for attack in free(record)[:most]]
    return [_bar("no attack", record.clean), *rows]


def _bar(label: str, rate: Rate) -> Bar:
    scaled = [None if v is None else round(100 * v, 2) for v in (rate.value, rate.low, rate.high)]
    return Bar(label, wording.of(rate), wording.share(rate), wording.interval(rate), *scaled)


def setting(record: AuditRecord) -> str:
    """Say in half a sentence what was done to how many samples."""
    titles = [wording.clean(attack.title, 40) for attack in record.attacks]
    by = f", attacked with {wording.listing(titles, _NAMES)}" if titles else ", not attacked"
    aim = f", aiming at “{wording.clean(record.target)}”" if record.target is not None else ""
    return f"{wording.samples(len(record.samples.ids))}{by} in {wording.NORMS[record.norm]}{aim}"
