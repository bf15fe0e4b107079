"""Certified accuracy beside the accuracy that the attacks left: the truth lies between the two."""

from __future__ import annotations

from dataclasses import dataclass

from ..record.audit_record import AuditRecord
from ..record.parts import Certified
from . import wording
from .tables import Column, Group, Table

_REFUTED = 5  # samples named


@dataclass(frozen=True)
class Certificate:
    """Section of the page on what is certain."""

    sentence: str
    refuted: str  # what an attack broke all the same; "" where nothing
    method: str
    table: Table


def certificate(record: AuditRecord) -> Certificate | None:
    """Build the section; None where nothing was certified."""
    found = record.certified
    if found is None:
        return None
    return Certificate(sentence(record, found), refuted(record), _method(found), _table(record, found))


def sentence(record: AuditRecord, found: Certified) -> str:
    """Bound robust accuracy from both sides, at the largest ε at which anything is certified."""
    pairs = [pair for pair in zip(record.worst_case, found.curve, strict=False) if pair[1].total]
    if not pairs:
        return "No ε was certified: the run ended before that."
    point, rate = next((pair for pair in reversed(pairs) if pair[1].count), pairs[0])
    where = f"ε = {wording.clean(point.text, 20)} ({wording.NORMS[record.norm]})"
    certain = f"At {where} {wording.of(rate)} samples ({wording.share(rate)}) are certain to be right"
    if not point.robust.total:
        return f"{certain}; the run ended before any was attacked."
    left = f"the attacks left {wording.of(point.robust)} ({wording.share(point.robust)}) unbroken"
    if point.robust.total < rate.total:
        return f"{certain}, and {left}: the run ended before they came to the rest."
    return f"{certain}, and {left}: true robust accuracy on them lies between."


def undecided(record: AuditRecord, found: Certified) -> list[int]:
    """Count, at each ε, the samples neither certified nor broken, of those that every attack came to."""
    rates = [(point.eps, point.robust) for point in record.worst_case]
    return [max(0, robust.count - found.held(eps, robust.total)) for eps, robust in rates]


def refuted(record: AuditRecord) -> str:
    """Name the samples that an attack broke within their certified radius; "" where there are none."""
    rows = record.refuted
    if not rows:
        return ""
    named = [
        f"{i} (radius {wording.distance(r, record.norm)}, broken at {wording.distance(d, record.norm)})"
        for i, r, d in rows
    ]
    return (
        f"An attack broke {wording.samples(len(rows))} within the certified radius, which should not happen: "
        f"{wording.listing(named, _REFUTED)}."
    )


def _method(found: Certified) -> str:
    settings = ", ".join(f"{key} = {value}" for key, value in found.parameters.items())
    certain = "It is a proof, up to the rounding of floating-point numbers."
    if not found.exact:
        alpha = found.parameters.get("alpha")
        chance = f"a probability of at most {alpha}" if alpha is not None else "a small probability"
        certain = (
            f"What is said of a sample is wrong with {chance}. It is about the smoothed classifier, which answers what "
            "the network says most often of noisy copies: that classifier was attacked too."
        )
    return wording.clean(f"{found.title}, {found.paper} ({settings}). {certain}", 700)


def _table(record: AuditRecord, found: Certified) -> Table:
    rows = []
    for point, rate, left in zip(record.worst_case, found.curve, undecided(record, found), strict=False):
        robust = point.robust
        rows.append(
            [
                wording.clean(point.text, 20),
                wording.of(rate),
                wording.share(rate),
                wording.interval(rate),
                wording.share(robust),
                wording.interval(robust),
                wording.count(left),
            ]
        )
    return Table(
        "certified",
        f"Certified and attacked accuracy within ε ({wording.NORMS[record.norm]}), with 95{wording.NBSP}% intervals",
        [
            Column("ε", numeric=False),
            Column("Certified"),
            Column("Certified accuracy"),
            Column("Interval"),
            Column("Robust to the attacks"),
            Column("Interval"),
            Column("Undecided"),
        ],
        [Group(rows)],
        ["Undecided: neither certified nor broken."],
    )
