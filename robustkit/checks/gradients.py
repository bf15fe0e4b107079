"""Checks of the gradients: whether there are any, and whether they are the slope of what the model answers."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.checks.check import Finding, NotApplicable, check
from robustkit.checks.checked_model import CheckedModel
from robustkit.checks.papers import ATHALYE, CARLINI, CARLINI_WAGNER, PINTOR, TEST_TIME, cite
from robustkit.checks.torch_internals import counted_optimisation
from robustkit.text import one_line

_DIRECTIONS = 5
# Kinks spoil the long steps, and rounding the short ones, most of all inside a network that computes in 16 bits: each
# row takes its best.
_STEPS = (1e-4, 3e-4, 1e-3, 1e-2, 3e-2)
_ENOUGH = 0.15  # an error that needs no other step to be called small
_JITTER = 12 / 255


@check(
    id="gradient-unavailable",
    title="The gradient with respect to the picture can be taken.",
    paper=PINTOR,
    threshold=0.0,
    severity="fail",
    remedy=(
        "Write the stage in differentiable operations or give it a stand-in gradient (BPDA); else take attacks that "
        "need none, such as square."
    ),
)
def unavailable(checked: CheckedModel) -> Finding:
    """Ask for the gradient: 1 where that raises, 0 where it does not."""
    try:
        _ = checked.gradients
    except NotApplicable:
        raise
    except Exception as error:  # the model may be anybody's code
        return Finding(1.0, f"Asking for the gradient fails: {one_line(error)}", wrong=True)
    return Finding(0.0, "The gradient with respect to the picture can be taken.")


@check(
    id="gradient-zero",
    title="Every row has a gradient that is not 0.",
    paper=cite(PINTOR, ATHALYE),
    threshold=0.05,
    severity="fail",
    remedy=(
        "Find the stage that stops it (rounding, argmax, detach, saturation), replace its gradient (BPDA), and attack "
        "without gradients too."
    ),
)
def zero(checked: CheckedModel) -> Finding:
    """Share of rows whose gradient is 0 in every pixel."""
    flat = _gradients(checked).flatten(1)
    share = float((flat.abs().sum(1) == 0).float().mean())
    return Finding(share, f"{100 * share:.0f} % of the rows have a gradient of exactly 0.")


@check(
    id="gradient-nan",
    title="No gradient holds NaN or infinite numbers.",
    paper=CARLINI,
    threshold=0.0,
    severity="fail",
    remedy="Look for a division by 0, a square root or a norm at 0 in the forward pass; add a small constant there.",
)
def nan(checked: CheckedModel) -> Finding:
    """Share of rows whose gradient holds NaN or an infinite number."""
    flat = _gradients(checked).flatten(1)
    most = torch.finfo(flat.dtype).max
    broken = flat.isnan().any(1) | (flat.abs() >= most).any(1)
    share = float(broken.float().mean())
    return Finding(share, f"{100 * share:.0f} % of the rows have NaN or infinite numbers in their gradient.")


@check(
    id="saturated",
    title="The float32 cross-entropy has a gradient wherever the margin has one.",
    paper=cite(CARLINI_WAGNER, CARLINI),
    threshold=0.05,
    severity="fail",
    remedy="Attack with a loss that does not saturate (loss=margin or dlr), or divide the logits by a constant.",
)
def saturated(checked: CheckedModel) -> Finding:
    """Share of rows where the cross-entropy has no gradient though the margin has one."""
    alive = _gradients(checked).flatten(1).abs().sum(1) != 0
    logits, gradient = checked.loss_gradient(checked.x, checked.goal, "ce")
    loss = checked.goal.cross_entropy(logits)
    flat = (gradient.flatten(1).abs().sum(1) == 0) & alive
    share = float(flat.float().mean())
    return Finding(
        share,
        f"In {100 * share:.0f} % of the rows the float32 cross-entropy has a gradient of exactly 0 and the margin has "
        f"not; the loss itself is exactly 0 in {100 * float((loss == 0).float().mean()):.0f} %.",
    )


@check(
    id="gradient-wrong",
    title="The gradient is the slope of what the model answers.",
    paper=ATHALYE,
    threshold=0.3,
    severity="fail",
    remedy="Find the stage with a gradient of its own, or with none; attack without gradients too (square).",
)
def wrong(checked: CheckedModel) -> Finding:
    """Distance of directional derivatives from central differences: median row, each at its best step.

    Both are taken off the samples by a few grey levels: a flat background puts a network's maxima and rectifiers on
    their kinks, where there is no derivative. The rival of the margin is fixed for the same reason.
    """
    _gradients(checked)
    if not checked.repeatable:
        raise NotApplicable("The answers change from call to call.")
    if checked.resolution > 1e-4:
        raise NotApplicable("The logits come in 16 bits, too coarse for differences.")
    if not checked.rows_independent:
        raise NotApplicable("A row's answer depends on the other rows, and so does its slope.")
    x = checked.first_rows
    room = _JITTER - max(_STEPS)
    noise = torch.rand(x.shape, generator=checked.random(50), dtype=x.dtype).to(x.device) * 2 - 1
    points = _JITTER + (1 - 2 * _JITTER) * x + room * noise
    goal = checked.goal_of(x)
    logits, gradient = checked.loss_gradient(points, goal)
    rival = goal.others(logits).argmax(1, keepdim=True)

    def margin(at: Tensor) -> Tensor:
        out = checked.answers(at).double()
        return (out.gather(1, goal.classes[:, None]) - out.gather(1, rival)).squeeze(1)

    signs = [torch.randint(2, x.shape, generator=checked.random(60 + k)).to(x) * 2 - 1 for k in range(_DIRECTIONS)]
    slopes = torch.stack([(gradient * sign).flatten(1).double().sum(1) for sign in signs])
    best = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    for step in _STEPS:
        found = torch.stack(
            [(margin(points + step * sign) - margin(points - step * sign)) / 2 / step for sign in signs]
        )
        size = torch.maximum(slopes.norm(dim=0), found.norm(dim=0))
        floor = 20 * checked.resolution * logits.abs().amax(1).double() / step
        error = (slopes - found).norm(dim=0) / size
        best = torch.where(size > floor, torch.minimum(best, error), best)
        if 2 * int((best < _ENOUGH).sum()) > len(x):  # the median is small already
            break
    usable = best[torch.isfinite(best)]
    if 4 * len(usable) < len(x):
        raise NotApplicable("Its logits hardly move with the picture: float32 differences cannot show their slope.")
    middle = float(usable.median())
    return Finding(
        middle,
        f"Derivatives along random directions differ from central differences by {100 * middle:.1f} % of their size "
        f"(median of {len(usable)} rows).",
    )


@check(
    id="optimises-inside",
    title="A forward pass does not optimise anything.",
    paper=TEST_TIME,
    threshold=0.0,
    severity="fail",
    remedy="Attack through the optimisation (unroll it, or BPDA with EOT), and attack the network without it.",
)
def optimises_inside(checked: CheckedModel) -> Finding:
    """Number of times that a forward pass differentiates something or steps an optimiser."""
    with counted_optimisation() as calls:
        checked.answers(checked.x[:2])
    return Finding(float(calls[0]), f"A forward pass takes gradients or optimiser steps of its own {calls[0]} times.")


def _gradients(checked: CheckedModel) -> Tensor:
    try:
        return checked.gradients
    except NotApplicable:
        raise
    except Exception:  # `unavailable` says why
        raise NotApplicable("The model gives no gradient.") from None
