"""What an attack returns, judged by the model itself in full precision: nobody's word is taken for success."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.attacks.core.attack import Attack
from robustkit.attacks.core.goal import answered
from robustkit.attacks.geometry.norms import Norm
from robustkit.attacks.model.classifier import Classifier
from robustkit.auditing.columns import Found, Rows
from robustkit.certification import Certifier
from robustkit.reports.record.statistics import TOLERANCE

PICTURES = 6  # comparisons in a report


def judge(
    model: Classifier,
    norm: Norm,
    attack: Attack,
    eps: float | None,
    rows: Rows,
    points: Tensor,
    left: Tensor,
    found: Found,
    certifier: Certifier | None = None,
) -> tuple[Tensor, Tensor]:
    """Ask the model about the points of `rows`, which are `left` of the batch, and note in `found` what is broken.

    Box and budget must hold: an attack of ours that leaves them is a defect and stops the audit; a point of somebody
    else's that does is not counted.

    Where there is a certifier, it answers in the model's place; a row without an answer is not broken, but counted.

    Returns whether each row is wrong now, and whether it is at its target.

    Raises:
        RuntimeError: points that are none, or outside.
    """
    if not isinstance(points, Tensor) or points.shape != rows.x.shape or not bool(torch.isfinite(points).all()):
        raise RuntimeError(f"{attack.title} returned points of the wrong shape, or NaN")
    change = (points - rows.x).double()
    sizes = norm.size(change)
    outside = (points.flatten(1).amin(1) < -TOLERANCE) | (points.flatten(1).amax(1) > 1 + TOLERANCE)
    if eps is not None:
        outside = outside | (sizes > eps + TOLERANCE)
    stray = outside.nonzero().squeeze(1)
    if len(stray):
        if not attack.foreign:
            _complain(attack, eps, points, sizes)
        found.outside += len(stray)
        points = points.clone()
        points[stray] = rows.x[stray]
    if certifier is None:
        confidence, predicted = answered(model.logits(points))
        wrong = predicted != rows.y
    else:
        seen = certifier.predict(points, rows.ids)
        confidence, predicted = seen.confidence, seen.predicted
        found.undecided += int(seen.abstained.sum())
        wrong = (predicted != rows.y) & ~seen.abstained
    there = wrong if rows.targets is None else predicted == rows.targets
    fresh = (wrong & ~found.broken.to(left.device)[left]).nonzero().squeeze(1)
    place = left[fresh].cpu()
    found.broken[place] = True
    found.distances[place] = sizes[fresh].cpu()
    found.rms[place] = change[fresh].flatten(1).square().mean(1).sqrt().cpu()
    found.predictions[place] = predicted[fresh].cpu()
    found.confidences[place] = confidence[fresh].double().cpu()
    # Kept for the pictures: the first few broken rows, and where one later gets to its target, that point.
    for row, point, arrived in zip(left.tolist(), points, there.tolist(), strict=True):
        if (arrived and row in found.points) or (bool(found.broken[row]) and len(found.points) < PICTURES):
            found.points[row] = point
    return wrong, there


def _complain(attack: Attack, eps: float | None, points: Tensor, sizes: Tensor) -> None:
    low, high = (float(bound) for bound in torch.aminmax(points))
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise RuntimeError(f"{attack.title} left the box [0,1]: its points span [{low:.7g}, {high:.7g}]")
    raise RuntimeError(f"{attack.title} left the ball: {float(sizes.max()):.7g} from the picture, ε is {eps:.7g}")
