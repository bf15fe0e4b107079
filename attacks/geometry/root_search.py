"""Root searches behind `norms`: a step length for each row whose entries end at bounds of their own.

All are exact up to rounding, on rows [B, n] and the whole batch at once; the caller takes care of signs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ROUNDS = 60  # of a search; it ends earlier, at the first round that changes nothing


def fill(u: Tensor, cap: Tensor, eps: float | Tensor, power: float = 2) -> Tensor:
    """min(t·u, cap) with the t at which its norm of that power is eps (all of cap if it never gets there).

    The set of capped entries only grows as t does, so taking t from the entries that are still free climbs to
    the root from below and ends after a few rounds.
    """
    shape, u, cap = u.shape, u.flatten(1), cap.flatten(1)
    # Scaled by the largest entry, and what is nothing beside it left out: their powers would over- or underflow.
    top = u.amax(1, keepdim=True)
    u = torch.where(u > 1e-15 * top, u / top, 0.0)
    capped = t = u.new_zeros(len(u))
    powers, caps = u**power, torch.where(u > 0, cap, 0.0) ** power
    free = torch.gt(cap, 0, out=torch.empty_like(u))  # 1 or 0: truth values are not vectorised
    for _ in range(_ROUNDS):
        rest = (eps**power - capped).clamp_(min=0)
        weight = (powers * free).sum(1)
        # Never back down: where the capped entries use up eps, rounding may leave no rest for the free ones.
        t = torch.where(weight > 0, (rest / weight) ** (1 / power), torch.where(rest > 0, math.inf, t)).maximum(t)
        full = _reached(u, t, cap).mul_(free)
        if not full.amax():
            break
        free = free.sub_(full)
        capped = capped + (caps * full).sum(1)
    # 0 · inf: an entry that does not pull is not moved.
    scaled = torch.where(u > 0, u * t[:, None], 0.0)
    return torch.minimum(scaled, cap).view(shape)


def _reached(speed: Tensor, t: Tensor, end: Tensor) -> Tensor:
    """1 where speed · t [B] is at or past the end, 0 elsewhere."""
    far = speed * t[:, None]
    return torch.ge(far, end, out=far)


def rise(gain: Tensor, speed: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """min(t·speed, room) with the t at which its product with gain is need; all of room if it never gets there.

    The product is concave in t, so Newton's steps climb to the root from below.
    """
    rates, ends, free = gain * speed, gain * room, torch.ones_like(gain)
    used = t = need.new_zeros(len(need))
    for _ in range(_ROUNDS):
        rate = (rates * free).sum(1)
        t = torch.where(rate > 0, (need - used) / rate, math.inf).maximum(t)
        full = _reached(speed, t, room).mul_(free)
        if not full.amax():
            break
        free = free.sub_(full)
        used = used + (ends * full).sum(1)
    return torch.where(speed > 0, speed * t[:, None], 0.0).minimum(room)


def greedy(gain: Tensor, room: Tensor, budget: Tensor) -> Tensor:
    """The budget [B] spent on the largest gains first [B, n], each as far as its room lets it."""
    gain = torch.where(room > 0, gain, 0.0)
    k = min(gain.shape[1], 4 * math.ceil(float(budget.max())) + 64)  # usually a few dozen are enough
    while True:
        gains, order = gain.topk(k, dim=1)
        rooms = room.gather(1, order) * (gains > 0)
        if k == gain.shape[1] or (rooms.sum(1) >= budget).all():
            break
        k = min(gain.shape[1], 8 * k)
    filled = (budget[:, None] - (rooms.cumsum(1) - rooms)).clamp_(min=0).minimum(rooms)
    return torch.zeros_like(room).scatter_(1, order, filled)


def shrink(u: Tensor, cap: Tensor, eps: float | Tensor) -> Tensor:
    """clip(u - λ, 0, cap) with the λ >= 0 at which its sum is eps; the sum at λ = 0 is known to be larger.

    The sum falls piecewise linearly in λ. Newton's step lands on the root once the right piece is found; where it
    leaves the bracket or the sum is flat, and in every sixth round, bisection takes over. A row that is there stays
    there, whatever the others still need.
    """
    shape, u, cap = u.shape, u.flatten(1), cap.flatten(1)
    low, high = u.new_zeros(len(u)), u.amax(1)
    lam, close = low, 2.5 * torch.finfo(u.dtype).eps  # no sum of so many numbers is closer
    for turn in range(_ROUNDS):
        moved = u - lam[:, None]
        ends = moved.clamp(min=0).minimum(cap)
        gap = ends.sum(1) - eps
        # How many are at neither end: 1 or 0 each, as truth values are not vectorised.
        inside = torch.gt(moved, 0, out=torch.empty_like(moved)).mul_(torch.lt(moved, cap, out=ends)).sum(1)
        newton = lam + gap / inside
        there = (gap.abs() <= close * eps) | (newton == lam)
        low, high = torch.where(gap > 0, lam, low), torch.where(gap < 0, lam, high)
        straight = (newton > low) & (newton < high) & (turn % 6 < 5)
        proposal = torch.where(there, lam, torch.where(straight, newton, (low + high) / 2))
        if torch.equal(proposal, lam):
            break
        lam = proposal
    moved = (u - lam[:, None]).clamp_(min=0).minimum(cap)
    total = moved.sum(1, dtype=torch.float64)
    within = (eps / total.clamp(min=1e-300)).clamp_(max=1)  # over by rounding alone: scaled away
    return (moved * within.to(u.dtype)[:, None]).view(shape)
