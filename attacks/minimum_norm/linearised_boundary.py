"""Linearised decision boundaries, as DeepFool and FAB go towards them."""

from __future__ import annotations

import torch
from torch import Tensor

from ..core.goal import Goal
from ..geometry.norms import Norm


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
