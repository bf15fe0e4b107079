"""Background of a report: the settings it was made with, and the meaning of its numbers."""

from __future__ import annotations

from dataclasses import dataclass

from ..record.audit_record import AuditRecord
from ..record.parts import ModelInfo
from . import wording


@dataclass(frozen=True)
class Fact:
    term: str
    text: str
    code: bool = False


def made(record: AuditRecord) -> list[Fact]:
    """List the settings and versions of the run."""
    run, model, data = record.run, record.model, record.data
    shape = " × ".join(str(side) for side in model.input)
    judged = f"{wording.count(len(record.samples.ids))} of {wording.count(data.available)} available"
    facts = [
        ("Model", _model(model)),
        ("Input", f"{shape}, mean {_numbers(model.mean)}, deviation {_numbers(model.std)}"),
        ("Weights", model.digest),
        *(("Surrogate", f"{wording.clean(m.title, 80)}, {_model(m)}") for m in record.surrogates),
        ("Data", f"{data.name}: {judged}"),
        ("Seed", str(run.seed)),
        ("Device", f"{run.device}, {run.threads} threads, batches of {run.batch_size}"),
        ("Precision", f"gradients in {run.precision}, verdicts in fp32"),
        *([("Prepared", run.prepared)] if run.prepared else []),
        ("Took", wording.duration(run.seconds)),
        ("Made", wording.moment(run.created)),
        ("Versions", f"robustkit {run.robustkit}, torch {run.torch}, Python {run.python}"),
        ("Platform", run.platform),
    ]
    return [Fact(term, wording.clean(text, 300), code=term in ("Weights",)) for term, text in facts]


def _model(model: ModelInfo) -> str:
    sizes = f"{wording.count(model.parameters)} parameters, {wording.count(model.classes)} classes"
    return f"{wording.clean(model.name)}: {sizes}"


def _numbers(values: list[float]) -> str:
    return ", ".join(wording.number(v) for v in values) or "none"


def caveats(record: AuditRecord) -> list[Fact]:
    """List what the numbers mean, and what they do not."""
    total = len(record.samples.ids)
    few = total < 200
    told = [
        (
            "An upper bound",
            "Robust accuracy here is what survived these attacks with these budgets. A stronger attack can "
            "only lower it; the truth lies at or below it. It is no proof that a sample is safe.",
        ),
        (
            "An interval for chance alone",
            f"The 95 % interval (Wilson) says how far a sample of {wording.count(total)} can mislead about the "
            f"data it was drawn from. {'It is wide because the samples are few. ' if few else ''}It does not "
            "cover attacks not tried.",
        ),
        (
            "These samples",
            "The figures speak for this data set. Other pictures, other classes or another preprocessing can "
            "behave otherwise.",
        ),
        (
            "A mistake counts as a failure",
            "A sample that was wrong before any attack counts as not robust at every ε. Success rates are "
            "over the samples that were right.",
        ),
        (
            "Distances are what was found",
            "The smallest change an attack found bounds from above the smallest there is.",
        ),
    ]
    return [Fact(term, text.replace("95 %", f"95{wording.NBSP}%")) for term, text in told]
