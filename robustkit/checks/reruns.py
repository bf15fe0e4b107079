"""Checks that run an attack of the audit again, on a few samples, with other settings."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.stats import binom, binomtest
from torch import Tensor

from robustkit.attacks import APGD, PGD, Classifier
from robustkit.attacks.core.attack import Attack
from robustkit.attacks.core.goal import Goal
from robustkit.checks.check import Finding, NotApplicable, check
from robustkit.checks.checked_audit import FEW, MANY, CheckedAudit, Recorded, with_parameters
from robustkit.checks.papers import ATHALYE, AUTOATTACK, CARLINI, PINTOR, cite

LUCK = 0.03  # of the survivors that another start, or loss, breaks
_LEVEL = 0.05
_STEPS = 40
_WINDOW = 10
MOST = 0.75  # of the samples left that may still rise
_MOVE = 0.05  # Pintor et al.: of the rescaled loss, in the last steps


@check(
    id="large-eps",
    title="A large ε brings the accuracy down to chance.",
    paper=CARLINI,
    threshold=0.0,
    severity="fail",
    remedy=(
        "The gradients are masked, or the attack does not follow them: see the checks of the gradients, and attack "
        "without gradients too (square)."
    ),
)
def large_eps(audit: CheckedAudit) -> Finding:
    """Accuracy in a ball that holds the grey picture."""
    x, y, ids = audit.first_right(FEW, 16)
    values, norm = x[0].numel(), audit.record.norm
    radius = {"linf": 0.5, "l2": 0.5 * math.sqrt(values), "l1": 0.5 * values}[norm]
    attack = _many(audit.strongest[0], 1)
    right = int(_right(audit, with_parameters(attack, eps=radius), x, y, ids).sum())
    chance = 1 / audit.record.model.classes
    wrong = binomtest(right, len(x), chance, alternative="greater").pvalue < 0.01
    return Finding(
        right / len(x),
        f"Within ε = {radius:.3g} {attack.title} leaves {right} of {len(x)} samples right; chance is {chance:.3g}.",
        wrong,
        threshold=chance,
    )


@check(
    id="unbounded",
    title="An attack without bound breaks every sample.",
    paper=cite(PINTOR, ATHALYE),
    threshold=0.0,
    severity="fail",
    remedy=(
        "The gradients are masked, or the attack does not follow them: see the checks of the gradients, and attack "
        "without gradients too (square)."
    ),
)
def unbounded(audit: CheckedAudit) -> Finding:
    """Share of samples that an attack without bound leaves right."""
    x, y, ids = audit.first_right(FEW, 16)
    attack = audit.strongest[0]
    attack = _many(attack if "linf" in type(attack).norms else PGD(), 3)
    right = int(_right(audit, with_parameters(attack, norm="linf", eps=1.0), x, y, ids).sum())
    detail = f"Free to change every pixel, {attack.title} leaves {right} of {len(x)} samples right."
    return Finding(right / len(x), detail)


def _many(attack: Attack, restarts: int) -> Attack:
    """The attack with steps enough to cross a large ball."""
    steps = attack.parameters().get("steps")
    enough = max(steps, _STEPS) if isinstance(steps, int) else _STEPS
    return with_parameters(attack, steps=enough, step_size=None, restarts=restarts, random_start=True, early_stop=True)


@check(
    id="more-steps",
    title="More steps from another start change nothing.",
    paper=CARLINI,
    threshold=LUCK,
    severity="warn",
    remedy="Give the attack more steps and restarts, until more change nothing.",
)
def more_steps(audit: CheckedAudit) -> Finding:
    """Share of the samples left that twice the steps from another start break."""
    attack, own = audit.strongest
    if not audit.record.eps:
        raise NotApplicable("The audit has no ε.")
    if not audit.survivors[1]:
        return Finding(0.0, "Nothing is left to break at any ε.")
    steps = attack.parameters().get("steps")
    if not isinstance(steps, int):
        raise NotApplicable(f"{attack.title} has no number of steps to double.")
    won, count, broke = _broken(audit, with_parameters(attack, steps=2 * steps if own else steps))
    if not own:
        detail = f"The audit had no attack of many steps; {attack.title} breaks {broke}"
        return Finding(won / count, detail, wrong=won > 0)
    detail = f"Twice the steps of {attack.title} from another start break {broke}"
    return Finding(won / count, detail, wrong=_many_won(won, count))


@check(
    id="other-loss",
    title="Another loss changes nothing.",
    paper=cite(AUTOATTACK, CARLINI),
    threshold=LUCK,
    severity="warn",
    remedy="Attack on a loss that the size of the logits does not change (loss=dlr), or with several (autoattack).",
)
def other_loss(audit: CheckedAudit) -> Finding:
    """Share of the samples left that the margin breaks in place of the cross-entropy."""
    attack, own = audit.strongest
    if not audit.record.eps or not own:
        raise NotApplicable("The audit has no ε." if own else "The audit had no attack of many steps.")
    if attack.parameters().get("loss") != "ce":
        raise NotApplicable(f"{attack.title} has no cross-entropy that another loss could replace.")
    if not audit.survivors[1]:
        return Finding(0.0, "Nothing is left to break at any ε.")
    won, count, broke = _broken(audit, with_parameters(attack, loss="margin"))
    return Finding(won / count, f"On the margin {attack.title} breaks {broke}", wrong=_many_won(won, count))


def _broken(audit: CheckedAudit, attack: Attack) -> tuple[int, int, str]:
    """Number of the samples left that an attack breaks from another start, of how many, and that in words."""
    x, y, ids = audit.surviving(MANY, 8)
    eps = audit.survivors[0]
    attack = with_parameters(attack, eps=eps, early_stop=True)
    won = len(x) - int(_right(audit, attack, x, y, ids, seed=audit.seed + 1).sum())
    return won, len(x), f"{won} of {len(x)} samples that were left at ε = {eps:.4g}."


def _many_won(won: int, count: int) -> bool:
    """True where that many samples of a few are more than luck."""
    return won > 2 and float(binom.sf(won - 1, count, LUCK)) < _LEVEL


@check(
    id="incomplete",
    title="The loss has stopped rising before the attack stops.",
    paper=PINTOR,
    threshold=MOST,
    severity="warn",
    remedy="Give the attack more steps, or a larger step size.",
)
def incomplete(audit: CheckedAudit) -> Finding:
    """Share of the samples left whose loss was still rising when the attack stopped."""
    attack, (losses, _, unbroken) = _recorded(audit)
    steps = len(losses) - 1
    window = min(_WINDOW, steps // 4)
    if window < 1:
        raise NotApplicable(f"{attack.title} makes too few steps.")
    best = losses.cummax(0).values
    low, high = losses.amin(0), losses.amax(0)
    moved = (best[-1] - best[-1 - window]) / (high - low).clamp_min(1e-12)
    still = (moved > _MOVE) & unbroken
    if not unbroken.any():
        return Finding(0.0, "With all its steps the attack leaves none of these samples.")
    share = float(still.sum() / unbroken.sum())
    detail = (
        f"In {int(still.sum())} of {int(unbroken.sum())} unbroken samples the loss rises by more than a twentieth of "
        f"its range in the last {window} of {steps} steps of {attack.title}."
    )
    return Finding(share, detail, wrong=share > MOST and int(still.sum()) > 2)


@check(
    id="silent-success",
    title="An adversarial point that was found is returned.",
    paper=PINTOR,
    threshold=0.0,
    severity="fail",
    remedy="Return the best point ever evaluated, not the last.",
)
def silent_success(audit: CheckedAudit) -> Finding:
    """Share of samples that the attack broke on its way and returned unbroken."""
    foreign = [attack.title for attack in audit.attacks if attack.foreign]
    if foreign:
        raise NotApplicable(f"The steps of {foreign[0]} cannot be seen; what it returns alone counts.")
    attack, (_, margins, unbroken) = _recorded(audit)
    lost = (margins < 0).any(0) & unbroken
    share = float(lost.float().mean())
    return Finding(share, f"{attack.title} lost {int(lost.sum())} of {len(lost)} adversarial points it had found.")


def _recorded(audit: CheckedAudit) -> Recorded:
    """All steps of the strongest attack at the ε of the survivors, on them and on some of the first samples."""
    if audit.recorded is not None:
        return audit.recorded
    attack = audit.strongest[0]
    if attack.foreign:
        raise NotApplicable(f"The steps of {attack.title} cannot be seen.")
    if isinstance(attack, APGD) and attack.norm == "l1":
        attack = PGD(norm="l1")  # some of APGD's steps are made in wider balls
    if not audit.record.eps:
        raise NotApplicable("The audit has no ε.")
    eps = audit.survivors[0] or audit.record.eps[0]
    parts = [audit.first_right(16, 2)]
    if audit.survivors[1]:
        parts.append(audit.surviving(FEW, 4))
    x, y, ids = (torch.cat(column) for column in zip(*parts, strict=True))
    alone = with_parameters(attack, eps=eps, restarts=1, targets=0, eot=1, early_stop=False)
    recorder = Recorder(audit.white_box_model, y)
    points = alone(recorder, x.clone(), y, ids=ids, seed=audit.seed)
    steps = attack.parameters().get("steps")
    if not isinstance(steps, int) or len(recorder.losses) <= steps:
        raise NotApplicable(f"{attack.title} does not ask about all samples in every step.")
    unbroken = audit.white_box_model.logits(points).argmax(1) == y
    audit.recorded = attack, (torch.stack(recorder.losses), torch.stack(recorder.margins), unbroken)
    return audit.recorded


class Recorder(Classifier):
    """A model, in full precision, that keeps the loss and the margin of every answer about all of the rows."""

    def __init__(self, model: Classifier, y: Tensor) -> None:
        super().__init__(
            model.net,
            mean=model.mean,
            std=model.std,
            labels=model.labels,
            classes=model.classes,
            outputs=model.outputs,
        )
        self.goal = Goal.of(y, False)
        self.losses: list[Tensor] = []
        self.margins: list[Tensor] = []

    def logits(self, x: Tensor, *, draws: int = 1) -> Tensor:
        return self._note(super().logits(x, draws=draws))

    def gradient(
        self, x: Tensor, objective: Callable[[Tensor], Tensor], *, exact: bool = False, draws: int = 1
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits, value, gradient = super().gradient(x, objective, exact=exact, draws=draws)
        return self._note(logits), value, gradient

    def _note(self, logits: Tensor) -> Tensor:
        if len(logits) == len(self.goal.classes):
            self.losses.append(self.goal.loss(logits).detach())
            self.margins.append(self.goal.margin(logits).detach())
        return logits


def _right(audit: CheckedAudit, attack: Attack, x: Tensor, y: Tensor, ids: Tensor, seed: int | None = None) -> Tensor:
    """True for each row that is still right after the attack, bool [B]."""
    model = audit.white_box_model
    points = attack(model, x.clone(), y, ids=ids, seed=audit.seed if seed is None else seed)
    right: Tensor = model.logits(points).argmax(1) == y
    return right
