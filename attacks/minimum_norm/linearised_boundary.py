"""Linearised decision boundaries, as DeepFool and FAB go towards them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.goal import Goal
from ..geometry.norms import Norm, column

_LEAST = 1e-3  # how far across a plane, as a share of the way from the picture to it


def ahead(goal: Goal, logits: Tensor, runners_up: Tensor) -> Tensor:
    """Lead in logits of each of `runners_up` int64 [B, M] over the label [B, M], 0 on the boundary.

    Of a targeted goal, the lead of the target over the others [B, 1].
    """
    if goal.targeted:
        return -goal.margin(logits)[:, None]
    return logits.gather(1, runners_up) - logits.gather(1, goal.classes[:, None])


def nearest(norm: Norm, w: Tensor, gap: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Of the planes `w·r = gap`, w [B, M, ...] and gap [B, M], the one nearest within the box: its w and gap.

    Near pixels at the edge of the box the distance in the open says little about which is nearest. Where none can be
    reached it is the first.
    """
    rows, count = gap.shape
    if count > 1:
        flat, gaps = w.flatten(0, 1), gap.flatten()
        r = norm.onto_plane(flat, gaps, *(bound.repeat_interleave(count, 0) for bound in (low, high)))
        short = (r * flat).flatten(1).sum(1) / gaps < 0.999
        sizes = torch.where(short, torch.inf, norm.size(r)).view(rows, count)
        first = sizes.argmin(1)
    else:
        first = torch.zeros(rows, dtype=torch.int64, device=gap.device)
    own = torch.arange(rows, device=gap.device)
    return w[own, first], gap[own, first]


def across(norm: Norm, w: Tensor, gap: Tensor, *, x: Tensor, z: Tensor, point: Tensor, share: float = _LEAST) -> Tensor:
    """Push `point` on, within the box, where it is not clearly across the plane of those `w·(point - z) = gap`.

    The box cuts an overshoot off where the way onto the plane drives pixels to its edge, as the shortest in L1 does:
    such a point lies on the plane itself, short of the boundary or not as rounding has it, and no step leads on from
    there. w, the picture x, z and the point are [B, ...], gap is [B].
    """
    top = w.flatten(1).abs().amax(1).clamp(min=torch.finfo(w.dtype).tiny)
    w, gap = w / column(top, w), gap / top  # so that no sum overflows
    way = gap + ((z - x) * w).flatten(1).sum(1)
    missing = gap + share * way - ((point - z) * w).flatten(1).sum(1)
    missing = torch.where((way > 0) & (missing > 0), missing, 0.0)
    if not bool(missing.any()):
        return point
    return (point + norm.onto_plane(w, missing, -point, 1 - point)).clamp_(0, 1)
