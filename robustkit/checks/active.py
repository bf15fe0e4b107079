"""The active test of Zimmermann et al. 2022: does the audit's own attack find an adversarial example that is there?

Around each sample a new decision boundary is planted, such that a known point of the ball lies beyond it. The model
stays as it is; only its answers are read out in another way. An attack that copes with the model finds such a point.

The paper reads out the penultimate features. Here they are the logits: any model has them, and whatever lies on the
way, a stage behind the features included, is on the attack's way too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.stats import binom
from torch import Tensor, nn

from robustkit.attacks import Classifier
from robustkit.attacks.core.attack import Attack
from robustkit.attacks.core.random_draws import row_generator
from robustkit.attacks.geometry import norms
from robustkit.checks.check import Finding, NotApplicable, check
from robustkit.checks.checked_audit import FEW, CheckedAudit
from robustkit.checks.papers import ZIMMERMANN

PASS = 0.95
_INNER = 48  # points that must stay on this side, of half the radius
_OUTER = 24  # candidates for the point beyond
_PLACE = 0.8  # of the boundary, on the way from the inner points to the one beyond
_LOW = 20.0  # below the two classes: the others, which some losses need
_LEVEL = 0.05


@dataclass(frozen=True)
class Planted:
    """A boundary around one sample: negative inside, positive beyond, ±1 at the inner points and the one beyond."""

    weight: Tensor  # [K]
    bias: Tensor
    beyond: Tensor  # [1, ...], the known adversarial point


class Readout(nn.Module):
    """The model as one of two classes, inside and beyond, and two more that never win."""

    def __init__(self, model: Classifier, planted: Planted) -> None:
        super().__init__()
        self.model, self.planted = model, planted  # a Classifier is no module: it freezes its own

    def forward(self, x: Tensor) -> Tensor:
        score = self.model.graph(x) @ self.planted.weight + self.planted.bias
        low = torch.full_like(score, -_LOW)
        return torch.stack([-score, score, low, low - 1], dim=1)


def plant(model: Classifier, x: Tensor, eps: float, norm: str, sample: int, seed: int) -> Planted | None:
    """A boundary around x [1, ...] with a point of the ball beyond it; None where the logits tell none apart.

    Points of half the radius are to stay inside; of some on the sphere the one that stands out most lies beyond.
    """
    ball = norms.get(norm)
    shape = tuple(x.shape[1:])

    def drawn(stream: int, count: int, radius: float, surface: bool) -> Tensor:
        draws = [ball.sample(shape, radius, row_generator(seed, sample, stream + k)) for k in range(count)]
        moves = torch.stack(draws).to(x)
        if surface:
            sizes = ball.size(moves).view(-1, *[1] * len(shape))
            moves = radius * (moves.sign() if norm == "linf" else moves / sizes)
        return ball.point(x.expand_as(moves), moves, radius)

    inner = torch.cat([x, drawn(1000, _INNER, eps / 2, False)])
    outer = drawn(2000, _OUTER, eps, True)
    inside, beyond = model.logits(inner).double(), model.logits(outer).double()
    middle = inside.mean(0)
    spread = (inside - middle).T @ (inside - middle) / len(inside)
    size = spread.diagonal().mean()
    if not size > 0:
        return None
    ridge = spread + 0.05 * size * torch.eye(len(spread), dtype=spread.dtype, device=spread.device)
    weights = torch.linalg.solve(ridge, (beyond - middle).T).T  # a row for each candidate
    scores = (weights * beyond).sum(1)
    most = (inside @ weights.T).amax(0)
    gap = (scores - most) / (inside @ weights.T).std(0)
    best = int(gap.argmax())
    if not gap[best] > 0.1:
        return None
    weight, low, high = weights[best], most[best], scores[best]
    threshold = low + _PLACE * (high - low)
    scale = 1 / (high - threshold)
    return Planted((weight * scale).to(x.dtype), (-threshold * scale).to(x.dtype), outer[best : best + 1])


def found_by(attack: Attack, model: Classifier, planted: Planted, x: Tensor, sample: int, seed: int) -> bool:
    """True where the attack gets from x [1, ...] over the planted boundary."""
    readout = Classifier(Readout(model, planted).eval())
    inside = torch.zeros(1, dtype=torch.int64, device=x.device)
    points = attack(readout, x.clone(), inside, ids=torch.tensor([sample]), seed=seed)
    return bool(readout.logits(points).argmax(1) == 1)


@check(
    id="active-test",
    title="The attack finds adversarial points that are known to be there.",
    paper=ZIMMERMANN,
    threshold=1 - PASS,
    severity="fail",
    remedy=(
        "The attack is too weak for this model: more steps, a larger step size, another loss, or one that needs no "
        "gradients."
    ),
)
def active_test(audit: CheckedAudit) -> Finding:
    """Share of the planted examples that the audit's strongest attack misses."""
    model, record = audit.white_box_model, audit.record
    if not record.eps:
        raise NotApplicable("The audit has no ε.")
    attack, own = audit.strongest
    if not own:
        raise NotApplicable("The audit has no attack of many steps within a budget.")
    eps = record.eps[-1]
    attack = attack.at(eps)
    x, _, ids = audit.first_right(FEW, 6)
    planted, found = 0, 0
    for row, sample in enumerate(ids.tolist()):
        boundary = plant(model, x[row : row + 1], eps, record.norm, sample=sample, seed=audit.seed)
        if boundary is not None:
            planted += 1
            found += found_by(attack, model, boundary, x[row : row + 1], sample=sample, seed=audit.seed)
    if 2 * planted < len(x):
        raise NotApplicable(f"The logits tell a point beyond from those inside in {planted} of {len(x)} samples only.")
    missed = planted - found
    wrong = found < PASS * planted and float(binom.sf(missed - 1, planted, 1 - PASS)) < _LEVEL
    detail = f"{attack.title} finds {found} of {planted} planted adversarial points within ε = {eps:.4g}."
    return Finding(missed / planted, detail, wrong)
