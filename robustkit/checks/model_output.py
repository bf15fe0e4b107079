"""Checks of the answers: what a query changes, and what a row's answer depends on."""

from __future__ import annotations

import torch

from robustkit.attacks.model.outputs import tensor_of
from robustkit.attacks.model.rounding import sums_to_one
from robustkit.checks.check import Finding, NotApplicable, check
from robustkit.checks.checked_model import BATCH_TOLERANCE, CheckedModel, relative_distance
from robustkit.checks.papers import ATHALYE, AUTOATTACK, CARLINI, PINTOR, TEST_TIME, TRAMER, cite
from robustkit.checks.state import reseed
from robustkit.checks.torch_internals import sigmoid_outputs

_WHOLE_LEVELS = "The model takes whole grey levels: its gradients go straight through their rounding (BPDA)."
_TURNS = 24


@check(
    id="training-mode",
    title="The network answers as it does in eval mode.",
    paper=CARLINI,
    threshold=0.0,
    severity="warn",
    remedy="Call .eval() on the network, and compare with figures that were taken in eval mode alone.",
)
def training_mode(checked: CheckedModel) -> Finding:
    """Share of rows that training mode answers otherwise, where some of the network was handed over in it."""
    model = checked.model
    with model.frozen():
        stuck = sum(bool(getattr(module, "training", False)) for module in model.net.modules())
    if stuck:
        return Finding(1.0, f"{stuck} modules stay in training mode after eval().", wrong=True)
    if not any(getattr(module, "training", False) for module in model.net.modules()):
        return Finding(0.0, "The network was handed over in eval mode.")
    # Straight to the network, since a Classifier would put it into eval mode; the normalisation does not matter here.
    try:
        with torch.no_grad():
            reseed(checked.seed)
            training = tensor_of(model.net(checked.x.clone()), len(checked.x), model.classes)
            checked.state.restore()
            with model.frozen():
                reseed(checked.seed)
                frozen = tensor_of(model.net(checked.x.clone()), len(checked.x), model.classes)
    finally:
        checked.state.restore()
    share = float(
        (relative_distance(*(out.reshape(len(checked.x), -1).double() for out in (training, frozen))) > 1e-4)
        .float()
        .mean()
    )
    return Finding(
        share,
        f"The network was handed over in training mode, in which {100 * share:.0f} % of the rows get another answer; "
        "it is audited in eval mode."
        if share
        else "Training mode, in which it was handed over, and eval mode give the same answers.",
    )


@check(
    id="state-changes",
    title="A query changes nothing in the network.",
    paper=TEST_TIME,
    threshold=0.0,
    severity="fail",
    remedy="Take what learns or counts out of the forward pass, or attack a fresh copy each time.",
)
def state_changes(checked: CheckedModel) -> Finding:
    """Number of weights and buffers that a query changes."""
    checked.state.restore()
    reseed(checked.seed)
    checked.model.logits(checked.x)
    names = checked.state.changed()
    checked.state.restore()
    some = f", {names[0]} among them" if names else ""
    return Finding(float(len(names)), f"A query changes {len(names)} of the weights and buffers{some}.")


@check(
    id="randomised",
    title="The same picture gets the same answer every time.",
    paper=cite(AUTOATTACK, ATHALYE),
    threshold=1e-4,
    severity="fail",
    remedy="Average the gradients over draws (eot=20), and judge each point by several draws too.",
)
def randomised(checked: CheckedModel) -> Finding:
    """AutoAttack's flag: the largest distance between normalised logits of equal queries."""
    spread, counts = checked.spread
    return Finding(
        spread,
        f"{len(counts)} equal queries give normalised logits up to {spread:.2g} apart and "
        f"{min(counts)} to {max(counts)} right answers of {len(checked.y)}.",
        wrong=checked.randomised,
    )


@check(
    id="batch-dependent",
    title="A row's answer does not depend on the other rows.",
    paper=TEST_TIME,
    threshold=BATCH_TOLERANCE,
    severity="fail",
    remedy="Use fixed statistics in place of the batch's: running statistics in batch norm, and eval mode.",
)
def batch_dependent(checked: CheckedModel) -> Finding:
    """The most that a row's logits change with the other rows of the batch (batch dependence)."""
    most, way = checked.batch_dependence
    if most is None:
        return Finding(None, f"A row {way}", wrong=True)
    return Finding(most, f"A row's logits change by up to {most:.2g} of their size {way}.")


@check(
    id="probabilities",
    title="The model returns logits, not probabilities.",
    paper=AUTOATTACK,
    threshold=0.99,
    severity="fail",
    remedy="Return what goes into the softmax; if that cannot be had, say outputs='probabilities'.",
)
def probabilities(checked: CheckedModel) -> Finding:
    """Share of rows that look like probabilities; wrong if all do, or if all come out of a sigmoid."""
    if checked.model.outputs != "logits":
        raise NotApplicable(f"The model is known to return {checked.model.outputs}.")
    logits = checked.logits
    inside = (logits > -1e-5).all(1) & (logits < 1 + 1e-5).all(1)
    share = float((inside & sums_to_one(logits, 1e-4)).float().mean())
    if share < 1 and bool(inside.all()) and _out_of_sigmoid(checked):
        detail = "All logits lie in [0,1] and do not sum to 1, as those out of a sigmoid do."
        return Finding(1.0, detail, wrong=True, remedy="Return what goes into the sigmoid.")
    return Finding(
        share, f"{100 * share:.0f} % of the rows lie in [0,1] and sum to 1, as probabilities do.", wrong=share == 1
    )


def _out_of_sigmoid(checked: CheckedModel) -> bool:
    """True of logits in [0,1] that a sigmoid was heard to return, or that come near both ends: that of a sigmoid in
    TorchScript or behind an endpoint is not heard."""
    logits = checked.logits
    if float(logits.min()) < 0.1 and float(logits.max()) > 0.9:
        return True
    heard = sigmoid_outputs(lambda: checked.answers(checked.x))
    return any(out.shape == logits.shape and bool((out.to(logits) == logits).all()) for out in heard)


@check(
    id="huge-logits",
    title="The logits are finite and of a size that float32 resolves.",
    paper=CARLINI,
    threshold=1e6,
    severity="fail",
    remedy="Look for a division by 0 or a weight that grew without bound; divide the logits by a constant.",
)
def huge_logits(checked: CheckedModel) -> Finding:
    """The largest finite logit; an infinite one is wrong too."""
    reseed(checked.seed)
    logits = checked.model.logits(checked.x)
    finite = torch.isfinite(logits)
    most = float(logits[finite].abs().max()) if finite.any() else 0.0
    endless = int((~finite).any(1).sum())
    tail = f", and {endless} rows hold infinite ones" if endless else ""
    return Finding(most, f"The largest logit is {most:.3g}{tail}.", wrong=bool(endless) or most > 1e6)


@check(
    id="step-stage",
    title="The answer follows small changes of the picture smoothly.",
    paper=ATHALYE,
    threshold=0.25,
    severity="fail",
    remedy="Replace the gradient of the quantising stage (BPDA), and attack without gradients too (square).",
)
def step_stage(checked: CheckedModel) -> Finding:
    """Share of small changes of the picture that the answer ignores, or answers with a leap.

    A smooth network answers a tenth of a change with a tenth of the effect. A stage of steps answers it with none at
    all, or, where many values are near a step, with more than a third (the square root of a tenth).
    """
    if checked.model.access == "labels":
        raise NotApplicable("The model returns labels, which are steps by nature.")
    if getattr(checked.model.net, "whole_levels", False):
        raise NotApplicable(_WHOLE_LEVELS)
    if not checked.repeatable:
        raise NotApplicable("The answers change from call to call.")
    x = checked.first_rows
    before = checked.answers(x)
    tiny, small, large = 1e-4, 1e-3, 0.05
    unseen, cases = 0, 0
    for stream in range(3):
        signs = torch.randint(2, x.shape, generator=checked.random(10 + stream)).to(x) * 2 - 1
        # Inwards at the border of the box, so that a model that clips its input does not look like a step.
        signs = torch.where(x < large, 1.0, torch.where(x > 1 - large, -1.0, signs)).to(x)
        effects = [(checked.answers(x + size * signs) - before).abs().amax(1) for size in (tiny, small, large)]
        floor = 16 * checked.resolution * before.abs().amax(1)
        seen = effects[2] * tiny / large > floor  # a tiny effect would show in float32
        # Networks that compute in 16 bits ignore a tiny change too, and make little leaps of their rounding.
        big = 0.003 * before.abs().amax(1)
        leapt = (effects[0] > big) & (effects[0] * small > 2 * effects[1] * tiny)
        later = (effects[1] > big) & (effects[1] * large > 3 * effects[2] * small)
        ignored = (effects[0] == 0) & ((effects[1] == 0) | later)
        unseen += int((seen & (leapt | ignored)).sum())
        cases += int(seen.sum())
    if not cases:
        raise NotApplicable("Its logits hardly move with the picture: float32 cannot show a small change.")
    share = unseen / cases
    return Finding(
        share,
        f"In {100 * share:.0f} % of {cases} trials a change of a fortieth of a grey level changed nothing, "
        "or far more than its size explains.",
    )


@check(
    id="leaps",
    title="The answer moves with the picture without leaps.",
    paper=cite(TRAMER, ATHALYE),
    threshold=0.25,
    severity="fail",
    remedy=(
        "Average the gradients over draws near the point (eot=20), start from many points, and attack without "
        "gradients too (square)."
    ),
)
def leaps(checked: CheckedModel) -> Finding:
    """Share of a row's way that its logits make in leaps, while the picture moves along a straight line: median row.

    A rectifier bends the way, and no stretch of it is much longer than the others. Where activations are switched on
    and off the answer leaps.
    """
    if checked.model.access == "labels":
        raise NotApplicable("The model returns labels, which leap by nature.")
    if getattr(checked.model.net, "whole_levels", False):
        raise NotApplicable(_WHOLE_LEVELS)
    if not checked.repeatable:
        raise NotApplicable("The answers change from call to call.")
    x = checked.first_rows
    signs = torch.randint(2, x.shape, generator=checked.random(20)).to(x) * 2 - 1
    signs = torch.where(x < 0.1, 1.0, torch.where(x > 0.9, -1.0, signs)).to(x)
    way = torch.stack([checked.answers(x + 1e-3 * turn * signs).double() for turn in range(_TURNS + 1)])
    floor = 16 * checked.resolution * way[0].abs().amax(1)
    stretches = way.diff(dim=0).norm(dim=2)
    usual = stretches.median(dim=0).values
    excess = torch.where((stretches > 4 * usual) & (stretches > floor), stretches - usual, 0).sum(0)
    moved = stretches.sum(0) > floor
    if not moved.any():
        raise NotApplicable("Its logits do not move with the picture along a short line.")
    middle = float((excess[moved] / stretches.sum(0)[moved]).median())
    return Finding(
        middle,
        f"Along a line of {_TURNS} short steps the logits make {100 * middle:.0f} % of the way in leaps (median row).",
    )


@check(
    id="unstable",
    title="The loss near a picture is not dominated by noise.",
    paper=PINTOR,
    threshold=0.1,
    severity="warn",
    remedy="Average the gradients over draws near the point (eot=20), and attack without gradients too (square).",
)
def unstable(checked: CheckedModel) -> Finding:
    """Median over rows of the mean change of the margin under noise of ±4/255, in parts of the logits' spread."""
    if checked.model.access == "labels":
        raise NotApplicable("The model returns labels alone, which have no loss.")
    x, goal = checked.first_rows, checked.goal_of(checked.first_rows)
    before = checked.answers(x)
    margin = goal.margin(before)
    scale = torch.maximum(margin.abs(), before.amax(1) - before.mean(1)).clamp_min(1e-10)
    moved = torch.zeros_like(margin)
    for draw in range(8):
        noise = torch.rand(x.shape, generator=checked.random(30 + draw), dtype=x.dtype).to(x.device) * 2 - 1
        moved += (goal.margin(checked.answers((x + 4 / 255 * noise).clamp(0, 1))) - margin).abs() / scale / 8
    middle = float(moved.median())
    return Finding(
        middle, f"Noise of ±4/255 changes the margin by {100 * middle:.1f} % of the logits' spread (median row)."
    )
