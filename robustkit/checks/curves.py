"""Checks that the figures of a record pass or fail by themselves."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy.stats import binom, poisson

from robustkit.checks.check import Finding, NotApplicable, check
from robustkit.checks.checked_audit import CheckedAudit
from robustkit.checks.checked_audit import single_step as makes_single_step
from robustkit.checks.papers import ATHALYE, AUTOATTACK, CARLINI, WILSON, cite
from robustkit.reports import AttackResult, Gate
from robustkit.reports.record.statistics import TOLERANCE

LUCK = 0.01  # of the samples that a weaker attack may break by luck
_MUCH = 0.05
_LEVEL = 0.05


@check(
    id="single-step",
    title="Many steps break whatever a single step breaks.",
    paper=cite(CARLINI, ATHALYE),
    threshold=LUCK,
    severity="fail",
    remedy=(
        "The gradients mislead beyond the first step: see the checks of the gradients, and attack without gradients "
        "too (square)."
    ),
)
def single_step(audit: CheckedAudit) -> Finding:
    """Share of samples that one step breaks, at some ε, and no attack of many steps does."""
    _untargeted(audit)
    weak = [attack for attack in audit.white_box if attack.kind == "budget" and makes_single_step(attack)]
    if not weak or not audit.iterated:
        raise NotApplicable("The audit has not both an attack of a single step and one of many.")
    return _overtaken(audit, weak, audit.iterated, "a single step")


@check(
    id="black-box",
    title="What noise, transfer or an attack without gradients breaks, gradients break too.",
    paper=cite(CARLINI, AUTOATTACK),
    threshold=LUCK,
    severity="fail",
    remedy=(
        "Give the attack with gradients more steps, restarts and another loss (autoattack); if that does not help, "
        "the gradients are masked."
    ),
)
def black_box(audit: CheckedAudit) -> Finding:
    """Share of samples that noise, transferred points or an attack without gradients breaks, at some ε, and no
    attack with gradients does."""
    _untargeted(audit)
    blind = [attack for attack in audit.record.attacks if attack.kind != "free" and attack not in _gradient(audit)]
    if not blind:
        raise NotApplicable("The audit has no attack without gradients, no noise and no transfer: add square.")
    if not audit.iterated and not any(attack.kind == "minimum" for attack in audit.white_box):
        raise NotApplicable("The audit has no attack of many steps with gradients to compare with.")
    return _overtaken(audit, blind, _gradient(audit), "an attack without gradients")


def _gradient(audit: CheckedAudit) -> list[AttackResult]:
    return [
        attack
        for attack in audit.record.attacks
        if attack.kind != "free" and attack.access == "gradient" and not attack.control
    ]


def _overtaken(audit: CheckedAudit, weak: list[AttackResult], strong: list[AttackResult], who: str) -> Finding:
    """Share of samples that the weak attacks break and the strong ones do not, at the ε where that is most.

    A sample or two are luck. It is wrong where more than a twentieth is overtaken, and worth a word where it is more
    than luck explains.
    """
    near, far = audit.nearest(weak), audit.nearest(strong)
    total = len(near)
    if not total or not audit.record.eps:
        raise NotApplicable("The audit has no ε, or no sample that was right.")
    counts = [int(((near <= eps + TOLERANCE) & (far > eps + TOLERANCE)).sum()) for eps in audit.record.eps]
    most = max(counts)
    text = audit.record.worst_case[counts.index(most)].text
    many = most > 2 and float(binom.sf(most - 1, total, LUCK)) < _LEVEL
    by = {attack.title: int((audit.distances(attack) < far).sum()) for attack in weak}
    first = max(by, key=lambda title: by[title])
    detail = f"None of {total} samples falls to {who} alone."
    if most:
        detail = f"{most} of {total} samples fall, at ε = {text}, to {who} alone (first of all to {first})."
    return Finding(most / total, detail, wrong=many and most > _MUCH * total, doubt=many)


@check(
    id="eps-growth",
    title="Success grows with ε.",
    paper=cite(CARLINI, ATHALYE),
    threshold=0.75,
    severity="fail",
    remedy=(
        "Look for gradients that vanish or mislead away from the picture, and for a step size that does not grow "
        "with ε."
    ),
)
def growth(audit: CheckedAudit) -> Finding:
    """Share that is missing of what a larger ε should break: of half of what a straight line through 0 would give.

    The distances of real networks are spread widely: a ball of twice the size holds far more of them.
    """
    _untargeted(audit)
    if not audit.iterated:
        raise NotApplicable("The audit has no attack of many steps within a budget.")
    found, total = audit.nearest(audit.iterated), int(audit.right.sum())
    broken = [int((found <= eps + TOLERANCE).sum()) for eps in audit.record.eps]
    pairs = [
        (broken[i], broken[j], eps, wide, audit.record.worst_case[i].text, audit.record.worst_case[j].text)
        for (i, eps), (j, wide) in combinations(enumerate(audit.record.eps), 2)
        if wide >= 2 * eps * (1 - TOLERANCE) and broken[i]
    ]
    if not pairs:
        raise NotApplicable("There are no two ε, one twice the other, of which the smaller breaks anything.")
    worst, missing, detail = 1.0, 0.0, ""
    for before, after, eps, wide, low, high in pairs:
        expected = min(before * (wide / eps - 1), total - before) / 2
        chance = float(poisson.cdf(after - before, expected)) if expected else 1.0
        if not detail or chance < worst:
            worst, missing = chance, max(0.0, 1 - (after - before) / expected) if expected else 0.0
            detail = f"From ε = {low} to {high} success grows from {before} to {after} of {total} samples."
    return Finding(missing, detail, wrong=worst < 1e-3 and missing > 0.75)


def _untargeted(audit: CheckedAudit) -> None:
    if audit.record.target is not None:
        raise NotApplicable("The attacks aimed at a target; what they break besides does not compare.")


@check(
    id="outside",
    title="Every adversarial point lies in ball and box.",
    paper=CARLINI,
    threshold=0.0,
    severity="warn",
    remedy="An attack that leaves them found less than it could: take another that keeps to them.",
)
def outside(audit: CheckedAudit) -> Finding:
    """Number of points that left ball or box."""
    stray = {attack.title: attack.outside for attack in audit.record.attacks if attack.outside}
    if not stray:
        return Finding(0.0, "Every point lies in ball and box.")
    names = ", ".join(f"{title} {count:,}" for title, count in stray.items())
    return Finding(float(sum(stray.values())), f"Points outside did not count: {names}.")


@check(
    id="rounding",
    title="The saved pictures fool the model as the points did.",
    paper=CARLINI,
    threshold=0.0,
    severity="warn",
    remedy="Read the accuracy at that ε as one for pixels that need not be whole levels.",
)
def rounding(audit: CheckedAudit) -> Finding:
    """Share of the saved pictures in which 8 bits undo an attack within a budget.

    The smallest change lies just over the boundary, and rounding undoes it as a matter of course.
    """
    shown = [comparison for comparison in audit.record.comparisons if comparison.eps is not None]
    if not shown:
        raise NotApplicable("No picture of an attack within a budget was saved.")
    undone = sum(comparison.undone for comparison in shown)
    return Finding(undone / len(shown), f"In {undone} of {len(shown)} pictures rounding to 8 bits undid the attack.")


@check(
    id="few-samples",
    title="The samples are enough for the gates asked.",
    paper=cite(WILSON, CARLINI),
    threshold=0.0,
    severity="warn",
    remedy="Judge more samples, or ask for a floor farther from what the model reaches.",
)
def few_samples(audit: CheckedAudit) -> Finding:
    """Number of gates on a robust accuracy have a floor inside its 95 % interval."""
    gates = [gate for gate in audit.record.gates if gate.kind == "fail-under" and gate.measured is not None]
    if not gates:
        raise NotApplicable("No floor was asked for.")
    open_gates = [gate for gate in gates if _inside(audit, gate)]
    total = len(audit.record.samples.ids)
    if not open_gates:
        return Finding(0.0, f"{total:,} samples tell on which side of the floor the accuracy lies.")
    first = open_gates[0]
    need = _needed(first)
    more = f"; about {need:,} would be needed" if need else ""
    return Finding(
        float(len(open_gates)),
        f"The 95 % interval of {total:,} samples holds the floor of {first.required:g} itself{more}.",
    )


def _inside(audit: CheckedAudit, gate: Gate) -> bool:
    for point in audit.record.worst_case:
        if gate.eps is not None and abs(point.eps - gate.eps) < 1e-9:
            low, high = point.robust.low, point.robust.high
            return low is not None and high is not None and low < gate.required < high
    return False


def _needed(gate: Gate) -> int:
    """Samples for an interval as narrow as the margin to the floor; 0 where there is no margin."""
    margin = abs((gate.measured or 0.0) - gate.required)
    share = min(max(gate.measured or 0.0, 0.05), 0.95)
    return int(np.ceil(3.84 * share * (1 - share) / margin**2)) if margin > 1e-3 else 0
