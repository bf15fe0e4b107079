"""The checks of a finished audit: what its figures say against each other, and what a few more runs say."""

from __future__ import annotations

from collections.abc import Sequence

from robustkit.attacks.core.attack import Attack
from robustkit.attacks.model.classifier import Classifier
from robustkit.checks import active, curves, reruns
from robustkit.checks.check import Check
from robustkit.checks.checked_audit import CheckedAudit, Draw
from robustkit.checks.state import untouched_random_state
from robustkit.reports import AuditRecord, CheckResult

EVALUATION: tuple[Check[CheckedAudit], ...] = (
    curves.single_step,
    curves.growth,
    curves.black_box,
    curves.outside,
    curves.rounding,
    curves.few_samples,
    reruns.large_eps,
    reruns.unbounded,
    reruns.more_steps,
    reruns.other_loss,
    reruns.incomplete,
    reruns.silent_success,
    active.active_test,
)


def evaluation(
    record: AuditRecord,
    model: Classifier | None = None,
    attacks: Sequence[Attack] = (),
    draw: Draw | None = None,
    seed: int = 0,
) -> list[CheckResult]:
    """Every check of a finished audit.

    Args:
        record: of a complete audit. Alone it gets the checks that compare its figures; the others are "n/a".
        model: the one audited.
        attacks: those of the audit, in the order of the record.
        draw: from ids of samples to their x [B, ...] and y [B], on the model's device.
        seed: of the audit.

    Raises:
        ValueError: an audit that did not finish.
    """
    if record.status != "complete":
        raise ValueError("the audit did not finish: its figures do not compare")
    audit = CheckedAudit(record, model, attacks, draw, seed)
    with untouched_random_state():
        return [check.run(audit) for check in EVALUATION]


def with_gates(record: AuditRecord) -> list[CheckResult]:
    """The checks of a record whose gates are known by now."""
    return [
        curves.few_samples.run(CheckedAudit(record, None, (), None, 0)) if check.id == curves.few_samples.id else check
        for check in record.checks
    ]
