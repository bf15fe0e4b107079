"""The checks of a finished audit: what its figures say against each other, and what a few more runs say."""

from __future__ import annotations

from collections.abc import Sequence

from robustkit.attacks.core.attack import Attack
from robustkit.attacks.model.classifier import Classifier
from robustkit.checks import active, curves, reruns
from robustkit.checks.evidence import Draw, Evidence
from robustkit.checks.probe import untouched_random_state
from robustkit.checks.result import Check
from robustkit.reports import AuditRecord, CheckResult

_CARLINI = "Carlini et al. 2019, arXiv 1902.06705"
_ATHALYE = "Athalye, Carlini & Wagner 2018, arXiv 1802.00420"
_PINTOR = "Pintor et al. 2022, arXiv 2106.09947"
_AUTOATTACK = "Croce & Hein 2020, arXiv 2003.01690"

FEW_SAMPLES: Check[Evidence] = Check(
    "few-samples",
    "The samples are enough for the gates asked.",
    "Wilson 1927; " + _CARLINI,
    0.0,
    "warn",
    "Judge more samples, or ask for a floor farther from what the model reaches.",
    curves.few_samples,
)

EVALUATION: tuple[Check[Evidence], ...] = (
    Check(
        "single-step",
        "Many steps break whatever a single step breaks.",
        f"{_CARLINI}; {_ATHALYE}",
        curves.LUCK,
        "fail",
        "The gradients mislead beyond the first step: see the checks of the gradients, and attack without gradients "
        "too (square).",
        curves.single_step,
    ),
    Check(
        "eps-growth",
        "Success grows with ε.",
        f"{_CARLINI}; {_ATHALYE}",
        0.75,
        "fail",
        "Look for gradients that vanish or mislead away from the picture, and for a step size that does not grow "
        "with ε.",
        curves.growth,
    ),
    Check(
        "black-box",
        "What noise, transfer or an attack without gradients breaks, gradients break too.",
        f"{_CARLINI}; {_AUTOATTACK}",
        curves.LUCK,
        "fail",
        "Give the attack with gradients more steps, restarts and another loss (autoattack); if that does not help, "
        "the gradients are masked.",
        curves.black_box,
    ),
    Check(
        "outside",
        "Every adversarial point lies in ball and box.",
        _CARLINI,
        0.0,
        "warn",
        "An attack that leaves them found less than it could: take another that keeps to them.",
        curves.outside,
    ),
    Check(
        "rounding",
        "The saved pictures fool the model as the points did.",
        _CARLINI,
        0.0,
        "warn",
        "Read the accuracy at that ε as one for pixels that need not be whole levels.",
        curves.rounding,
    ),
    FEW_SAMPLES,
    Check(
        "large-eps",
        "A large ε brings the accuracy down to chance.",
        _CARLINI,
        0.0,
        "fail",
        "The gradients are masked, or the attack does not follow them: see the checks of the gradients, and attack "
        "without gradients too (square).",
        reruns.large_eps,
    ),
    Check(
        "unbounded",
        "An attack without bound breaks every sample.",
        f"{_PINTOR}; {_ATHALYE}",
        0.0,
        "fail",
        "The gradients are masked, or the attack does not follow them: see the checks of the gradients, and attack "
        "without gradients too (square).",
        reruns.unbounded,
    ),
    Check(
        "more-steps",
        "More steps from another start change nothing.",
        _CARLINI,
        reruns.LUCK,
        "warn",
        "Give the attack more steps and restarts, until more change nothing.",
        reruns.more_steps,
    ),
    Check(
        "other-loss",
        "Another loss changes nothing.",
        f"Croce & Hein 2020, arXiv 2003.01690; {_CARLINI}",
        reruns.LUCK,
        "warn",
        "Attack on a loss that the size of the logits does not change (loss=dlr), or with several (autoattack).",
        reruns.other_loss,
    ),
    Check(
        "incomplete",
        "The loss has stopped rising before the attack stops.",
        _PINTOR,
        reruns.MOST,
        "warn",
        "Give the attack more steps, or a larger step size.",
        reruns.incomplete,
    ),
    Check(
        "silent-success",
        "An adversarial point that was found is returned.",
        _PINTOR,
        0.0,
        "fail",
        "Return the best point ever evaluated, not the last.",
        reruns.silent_success,
    ),
    Check(
        "active-test",
        "The attack finds adversarial points that are known to be there.",
        "Zimmermann et al. 2022, arXiv 2206.13991",
        1 - active.PASS,
        "fail",
        "The attack is too weak for this model: more steps, a larger step size, another loss, or one that needs no "
        "gradients.",
        active.active_test,
    ),
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
    evidence = Evidence(record, model, attacks, draw, seed)
    with untouched_random_state():
        return [check.run(evidence) for check in EVALUATION]


def with_gates(record: AuditRecord) -> list[CheckResult]:
    """The checks of a record whose gates are known by now."""
    return [
        FEW_SAMPLES.run(Evidence(record, None, (), None, 0)) if check.id == FEW_SAMPLES.id else check
        for check in record.checks
    ]
