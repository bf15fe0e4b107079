"""Bounds sent through a network: intervals forwards, and linear bounds back from a result to the picture (CROWN)."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.attacks.geometry.norms import Norm
from robustkit.certification.graph import Affine, Maximum, Rectifier, Step

_BENT = (Rectifier, Maximum)
_FLOATS = 4_000_000  # numbers of one backward pass, about: 32 MB each of a few tensors


class Reach:
    """The results of every step over all pictures within eps of x and inside the box.

    Args:
        steps: of the network; see `read_graph`.
        x: one picture [C, H, W], double precision.
        linear: tighten the intervals by linear bounds wherever a rectifier or a maximum may go either way.

    Interval bounds: Gowal et al. 2018, arXiv 1810.12715. Linear bounds: Zhang et al. 2018, arXiv 1811.00866.
    """

    def __init__(self, steps: list[Step], x: Tensor, norm: Norm, eps: float, linear: bool) -> None:
        self.steps, self.x, self.norm, self.eps = steps, x, norm, eps
        reach = torch.full_like(x, eps)
        self.low = [(x - reach).clamp(min=0)]
        self.high = [(x + reach).clamp(max=1)]
        for place, step in enumerate(steps, 1):
            low, high = self._interval(step)
            self.low.append(low)
            self.high.append(high)
            # What an interval makes of the picture alone is exact in L∞.
            if linear and not isinstance(step.operation, _BENT) and (place, norm.name) != (1, "linf"):
                self._tighten(place)

    def least(self, weights: Tensor, linear: bool) -> Tensor:
        """Lower bounds [R] of `weights` [R, K] times the last result; without `linear`, by its intervals alone."""
        flat = [bound.flatten() for bound in (self.low[-1], self.high[-1])]
        alone = weights.clamp(min=0) @ flat[0] + weights.clamp(max=0) @ flat[1]
        return alone.maximum(self._back(len(self.steps), weights)) if linear else alone

    def _interval(self, step: Step) -> tuple[Tensor, Tensor]:
        first = step.sources[0]
        low, high = self.low[first][None], self.high[first][None]
        operation = step.operation
        if isinstance(operation, Affine):
            middle, radius = operation.apply((low + high) / 2), operation.widen((high - low) / 2)
            return (middle - radius)[0], (middle + radius)[0]
        if isinstance(operation, Rectifier):
            return low[0].clamp(min=0), high[0].clamp(min=0)
        if isinstance(operation, Maximum):
            return operation.apply(low)[0], operation.apply(high)[0]
        second = step.sources[1]
        return low[0] + self.low[second], high[0] + self.high[second]

    def _tighten(self, place: int) -> None:
        """Bounds of a result by linear ones, where they decide which way a rectifier or a maximum goes."""
        low, high = self.low[place].flatten(), self.high[place].flatten()
        takers = {type(step.operation) for step in self.steps if place in step.sources}
        undecided = (low < 0) & (high > 0) if Rectifier in takers else torch.zeros_like(low, dtype=torch.bool)
        if Maximum in takers:
            undecided = torch.ones_like(undecided)
        largest = max(bound.numel() for bound in self.low)
        for rows in torch.split(undecided.nonzero().squeeze(1), max(1, _FLOATS // largest)):
            pick = low.new_zeros(len(rows), len(low)).scatter_(1, rows[:, None], 1.0).view(-1, *self.low[place].shape)
            low[rows] = low[rows].maximum(self._back(place, pick))
            high[rows] = high[rows].minimum(-self._back(place, -pick))
        self.low[place], self.high[place] = low.view_as(self.low[place]), high.view_as(self.high[place])

    def _back(self, place: int, weights: Tensor) -> Tensor:
        """Lower bounds [R] of `weights` [R, ...] times the result at a place, each one linear in the picture."""
        total = weights.new_zeros(len(weights))
        owed: dict[int, Tensor] = {place: weights}
        for at in range(place, 0, -1):
            slope = owed.pop(at, None)
            if slope is None:
                continue
            step = self.steps[at - 1]
            if isinstance(step.operation, Affine):
                parts = [self._affine(step.operation, slope, self.low[step.sources[0]].shape)]
            elif isinstance(step.operation, Rectifier):
                parts = [self._rectifier(slope, step.sources[0])]
            elif isinstance(step.operation, Maximum):
                parts = [self._maximum(step.operation, slope, step.sources[0])]
            else:
                parts = [(slope, torch.zeros_like(total))] * 2
            for source, (share, constant) in zip(step.sources, parts, strict=True):
                total = total + constant
                owed[source] = owed[source] + share if source in owed else share
        slope = owed[0]
        rows = self.x.expand_as(slope)
        # What the picture itself gives, less the most that a change of it can take away.
        return total + (slope * rows).flatten(1).sum(1) - self.norm.reach(-slope, self.eps, -rows, 1 - rows)

    def _affine(self, operation: Affine, slope: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            zeros = slope.new_zeros(len(slope), *shape).requires_grad_()
            constant = operation.apply(zeros)
            (share,) = torch.autograd.grad(constant, zeros, slope)
        return share, (slope * constant.detach()).flatten(1).sum(1)

    def _rectifier(self, slope: Tensor, source: int) -> tuple[Tensor, Tensor]:
        low, high = self.low[source], self.high[source]
        positive, negative = slope.clamp(min=0), slope.clamp(max=0)
        # Above, the chord; below, 0 or the identity, whichever leaves the smaller gap.
        open_ = (low < 0) & (high > 0)
        chord = torch.where(open_, high / (high - low).clamp(min=1e-300), (low >= 0).to(low))
        below = torch.where(open_, (high > -low).to(low), chord)
        lift = torch.where(open_, -chord * low, 0.0)
        return positive * below + negative * chord, (negative * lift).flatten(1).sum(1)

    def _maximum(self, operation: Maximum, slope: Tensor, source: int) -> tuple[Tensor, Tensor]:
        """Below, the entry of each window that is likely the largest; above, chords of one maximum of two after the
        other: max(a, b) = b + relu(a - b)."""
        low, high = self.low[source], self.high[source]
        windows = self._windows(operation, low.shape)  # [T, H', W'], -1 outside
        channels = len(low)
        inside = windows >= 0
        at = windows.clamp(min=0).flatten()
        lows = torch.where(inside, low.flatten(1)[:, at].view(channels, *windows.shape), -torch.inf)
        highs = torch.where(inside, high.flatten(1)[:, at].view(channels, *windows.shape), -torch.inf)
        likely = (lows + highs).argmax(1, keepdim=True)
        below = torch.zeros_like(lows).scatter_(1, likely, 1.0)
        above, lift = _chords(lows, highs)
        positive, negative = slope.clamp(min=0), slope.clamp(max=0)
        share = slope.new_zeros(len(slope), channels, low[0].numel() + 1)
        for turn, window in enumerate(windows):
            part = (positive * below[:, turn] + negative * above[:, turn]).flatten(2)
            # For one place in the window, no two windows meet; what lies outside goes to a place of its own.
            where = torch.where(window >= 0, window, low[0].numel()).flatten()
            share[:, :, where] += part
        return share[:, :, :-1].reshape(len(slope), *low.shape), (negative * lift).flatten(1).sum(1)

    def _windows(self, operation: Maximum, shape: torch.Size) -> Tensor:
        """The entries that each maximum is over, as places in a map: int64 [T, H', W'], -1 outside."""
        height, width = shape[-2:]
        kernel, stride, padding, dilation, _ = operation.arguments
        (kh, kw), (ph, pw), (dh, dw) = (_pair(value) for value in (kernel, padding, dilation))
        sh, sw = _pair(stride if stride not in (None, []) else kernel)
        out = operation.apply(self.x.new_zeros(1, 1, height, width)).shape[-2:]
        device = self.x.device
        top = torch.arange(out[0], device=device) * sh - ph
        left = torch.arange(out[1], device=device) * sw - pw
        y = top[None, :, None] + (torch.arange(kh, device=device) * dh).repeat_interleave(kw)[:, None, None]
        x = left[None, None, :] + (torch.arange(kw, device=device) * dw).repeat(kh)[:, None, None]
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        return torch.where(inside, y * width + x, -1)


def _chords(lows: Tensor, highs: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [C, T, ...] and a constant [C, ...] of a plane above the maximum over the second axis."""
    weights = torch.zeros_like(lows)
    weights[:, 0] = torch.isfinite(lows[:, 0]).to(lows)
    low, high = lows[:, 0], highs[:, 0]
    lift = torch.zeros_like(low)
    for turn in range(1, lows.shape[1]):
        least, most = low - highs[:, turn], high - lows[:, turn]  # of what leads, less the newcomer
        leads, beaten = least >= 0, most <= 0
        span = (most - least).clamp(min=1e-300)
        keep = torch.where(leads, 1.0, torch.where(beaten, 0.0, most / span))
        absent, first = torch.isinf(lows[:, turn]), torch.isinf(low)
        keep = torch.where(absent, 1.0, torch.where(first, 0.0, keep))
        apart = leads | beaten | absent | first
        weights = weights * keep[:, None]
        weights[:, turn] = 1 - keep
        lift = lift * keep + torch.where(apart, 0.0, -keep * torch.where(apart, 0.0, least))
        low, high = low.maximum(lows[:, turn]), high.maximum(highs[:, turn])
    return weights, lift


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
