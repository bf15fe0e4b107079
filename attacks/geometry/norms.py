"""The maths of the L∞, L2 and L1 balls, cut by the box [0,1]: size, project, steepest, sample.

Everything works on rows [B, ...] and needs no loop over the rows. A perturbation r of x stays in the box where
`low <= r <= high` with `low = -x <= 0` and `high = 1 - x >= 0`. Projections are the exact Euclidean ones onto
ball ∩ box, not one after the other: on pictures with many black or white pixels (all of MNIST) the two differ,
and with the exact one the whole budget goes where there is room.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from .root_search import fill, greedy, rise, shrink


class Norm(ABC):
    """One p-norm on rows [B, ...], computed over all axes but the first."""

    name: ClassVar[str]
    power: ClassVar[float]
    symbol: ClassVar[str]

    @abstractmethod
    def size(self, r: Tensor) -> Tensor:
        """Norm of each row [B]."""

    @abstractmethod
    def project(self, r: Tensor, eps: float | Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The point of {|r'| <= eps, low <= r' <= high} nearest to r in Euclidean distance; eps one for all, or [B]."""

    @abstractmethod
    def steepest(self, g: Tensor, eps: float | Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The r of that set with the largest inner product with g, the optimum on a linear model; eps as above."""

    def reach(self, g: Tensor, eps: float, low: Tensor, high: Tensor) -> Tensor:
        """Support function of that set at g [B]: the largest inner product of its r with g, up to rounding.

        It is an upper bound whatever the rounding: Lagrange's dual at the price that the best r names.
        """
        if len(g) == 0:
            return g.new_zeros(0)
        room = torch.where(g > 0, high, -low).clamp(min=0).flatten(1)
        pull, r = g.flatten(1).abs(), self.steepest(g, eps, low, high).flatten(1).abs()
        return (pull * room.clamp(max=eps)).sum(1).minimum(self._dual(pull, room, r, eps))

    def _dual(self, pull: Tensor, room: Tensor, r: Tensor, eps: float) -> Tensor:
        """A bound of pull·m, 0 <= m <= room, of rows [B, n] that holds for the whole ball; r is where it is close."""
        return torch.full_like(pull[:, 0], math.inf)

    def stretch(self, r: Tensor, eps: float | Tensor, low: Tensor, high: Tensor) -> Tensor:
        """In L2 and L1: clip(t·r, low, high) with the t at which its size is eps; t = inf where it never gets there."""
        return fill(r.abs(), torch.where(r > 0, high, -low), eps, self.power) * r.sign()

    def step(self, g: Tensor, length: float, low: Tensor, high: Tensor) -> Tensor:
        """A move of that length uphill along g, to be repeated many times; the steepest one where that is good."""
        return self.steepest(g, length, low, high)

    def climb(self, x: Tensor, z: Tensor, g: Tensor, length: float, eps: float) -> Tensor:
        """Projected step from z along g, back into the ball around x."""
        return self.point(x, self.step(g, length, -z, 1 - z).add_(z).sub_(x), eps)

    def onto_plane(self, w: Tensor, gap: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """The smallest r, low <= r <= high, at which w·r is gap [B]; a row whose box ends before goes to its end."""
        push = w * column(gap.sign(), w)
        room = torch.where(push > 0, high, -low).flatten(1)
        gain = torch.where(room > 0, push.flatten(1).abs(), 0.0)
        top = gain.amax(1, keepdim=True).clamp(min=torch.finfo(w.dtype).tiny)
        # Scaled, and what is nothing beside the largest left out: so that nothing over- or underflows.
        gain = torch.where(gain > 1e-15 * top, gain / top, 0.0)
        need = (gap.abs() / top.squeeze(1)).clamp_(max=1e30)
        return self._cross(gain, room, need).view_as(w) * push.sign()

    @abstractmethod
    def _cross(self, gain: Tensor, room: Tensor, need: Tensor) -> Tensor:
        """The smallest m, 0 <= m <= room, with gain·m = need [B]; on rows [B, n], gain at most 1."""

    @abstractmethod
    def sample(self, shape: tuple[int, ...], eps: float, generator: torch.Generator) -> Tensor:
        """One draw of shape `shape`, uniform in the ball, float32 on the CPU."""

    def point(self, x: Tensor, r: Tensor, eps: float | Tensor) -> Tensor:
        """x + r with r projected, as a point whose distance from x, measured exactly, is within eps."""
        return self.rounded(x, self.project(r, eps, -x, 1 - x), eps)

    def rounded(self, x: Tensor, r: Tensor, eps: float | Tensor) -> Tensor:
        """`point` of an r that is within ball and box up to rounding.

        Adding r to x rounds each pixel; over 150,000 pixels this can leave an L1 ball by more than 1e-6, so the
        size is measured again in double precision and the row drawn in where it is over.
        """
        z = torch.add(x, r).clamp_(0, 1)
        for _ in range(4):
            size = self.size((z - x).double())
            over = size > eps
            if not over.any():
                break
            shrink = torch.where(over, eps / size * (1 - 1e-7), 1.0).to(x.dtype)
            z = (x + (z - x) * column(shrink, x)).clamp_(0, 1)
        return z


class _Linf(Norm):
    name = "linf"
    power = math.inf
    symbol = "L∞"

    def size(self, r: Tensor) -> Tensor:
        return r.flatten(1).abs().amax(1)

    def project(self, r: Tensor, eps: float | Tensor, low: Tensor, high: Tensor) -> Tensor:
        cap = _per_row(eps, r)
        return r.clamp(-cap, cap).clamp_(low, high)

    def steepest(self, g: Tensor, eps: float | Tensor, low: Tensor, high: Tensor) -> Tensor:
        return g.sign().mul_(_per_row(eps, g)).clamp_(low, high)

    def _cross(self, gain: Tensor, room: Tensor, need: Tensor) -> Tensor:
        return rise(gain, (gain > 0).to(gain.dtype), room, need)

    def sample(self, shape: tuple[int, ...], eps: float, generator: torch.Generator) -> Tensor:
        return torch.empty(shape).uniform_(-eps, eps, generator=generator)

    def point(self, x: Tensor, r: Tensor, eps: float | Tensor) -> Tensor:
        cap = _per_row(eps, r)
        return torch.add(x, r.clamp(-cap, cap)).clamp_(0, 1)

    def climb(self, x: Tensor, z: Tensor, g: Tensor, length: float, eps: float) -> Tensor:
        # The same to the last bit in half the time: the box, at which a step would end, is where the point ends too.
        r = g.sign()
        return torch.add(z, r, alpha=length, out=r).sub_(x).clamp_(-eps, eps).add_(x).clamp_(0, 1)


class _L2(Norm):
    name = "l2"
    power = 2.0
    symbol = "L2"

    def size(self, r: Tensor) -> Tensor:
        sizes: Tensor = torch.linalg.vector_norm(r.flatten(1), dim=1)
        return sizes

    def project(self, r: Tensor, eps: float | Tensor, low: Tensor, high: Tensor) -> Tensor:
        boxed = r.clamp(low, high)
        outside = self.size(boxed) > eps
        if outside.any():
            rows, cap = r[outside], torch.where(r > 0, high, -low)[outside]
            boxed[outside] = fill(rows.abs(), cap, _of_rows(eps, outside)) * rows.sign()
        return boxed

    def steepest(self, g: Tensor, eps: float | Tensor, low: Tensor, high: Tensor) -> Tensor:
        return self.stretch(g, eps, low, high)

    def _dual(self, pull: Tensor, room: Tensor, r: Tensor, eps: float) -> Tensor:
        t = torch.where(pull > 0, r / pull, 0.0).amax(1)  # m is min(t·pull, room) at the price 1/2t of its square
        price = torch.where(t > 0, 0.5 / t, 0.0)
        best = torch.minimum(pull * t[:, None], room)
        return (pull * best - price[:, None] * best**2).sum(1) + price * eps**2

    def _cross(self, gain: Tensor, room: Tensor, need: Tensor) -> Tensor:
        return rise(gain, gain, room, need)

    def sample(self, shape: tuple[int, ...], eps: float, generator: torch.Generator) -> Tensor:
        direction = torch.randn(shape, generator=generator)
        radius: Tensor = eps * torch.rand((), generator=generator).pow(1 / direction.numel())
        drawn: Tensor = direction * (radius / torch.linalg.vector_norm(direction))
        return drawn


class _L1(Norm):
    name = "l1"
    power = 1.0
    symbol = "L1"

    def size(self, r: Tensor) -> Tensor:
        return r.flatten(1).abs().sum(1)

    def project(self, r: Tensor, eps: float | Tensor, low: Tensor, high: Tensor) -> Tensor:
        boxed = r.clamp(low, high)
        outside = self.size(boxed) > eps
        if outside.any():
            rows, cap = r[outside], torch.where(r > 0, high, -low)[outside]
            boxed[outside] = shrink(rows.abs(), cap, _of_rows(eps, outside)) * rows.sign()
        return boxed

    def steepest(self, g: Tensor, eps: float | Tensor, low: Tensor, high: Tensor) -> Tensor:
        room = torch.where(g > 0, high, -low).flatten(1)
        return greedy(g.flatten(1).abs(), room, room.new_zeros(len(room)) + eps).view_as(g) * g.sign()

    def step(self, g: Tensor, length: float, low: Tensor, high: Tensor) -> Tensor:
        # The steepest step pushes a pixel or two to the edge of the box, where the gradient that chose them no
        # longer holds: on a deep network it hardly gets anywhere. Spread over the top 1 % in proportion to the
        # gradient it is the strongest of those tried (sign or proportion; 0.1 to 100 %) on ImageNet photographs,
        # and still converges to the optimum of a linear model.
        room = torch.where(g > 0, high, -low).flatten(1)
        gain = torch.where(room > 0, g.flatten(1).abs(), 0.0)
        gains, order = gain.topk(max(1, gain.shape[1] // 100), dim=1)
        share = gains / gains.sum(1, keepdim=True).clamp(min=torch.finfo(g.dtype).tiny)
        move = torch.zeros_like(room).scatter_(1, order, share * length).minimum(room)
        # What the box cuts off goes to the next pixels: where the top ones are full, all else would stand still.
        move = move + greedy(gain, room - move, length - move.sum(1))
        return move.view_as(g) * g.sign()

    def _dual(self, pull: Tensor, room: Tensor, r: Tensor, eps: float) -> Tensor:
        price = torch.where(r < room, pull, 0.0).amax(1)  # of the entries that are not filled, the largest
        return price * eps + (room * (pull - price[:, None]).clamp(min=0)).sum(1)

    def _cross(self, gain: Tensor, room: Tensor, need: Tensor) -> Tensor:
        return (greedy(gain, gain * room, need) / torch.where(gain > 0, gain, 1.0)).minimum(room)

    def sample(self, shape: tuple[int, ...], eps: float, generator: torch.Generator) -> Tensor:
        # Exponential gaps, one more than there are coordinates, make the share uniform in the simplex.
        gaps = torch.empty(math.prod(shape) + 1).exponential_(generator=generator)
        signs = torch.randint(0, 2, shape, generator=generator) * 2 - 1
        return signs * (gaps[:-1] * (eps / gaps.sum())).view(shape)


def column(values: Tensor, like: Tensor) -> Tensor:
    """[B] shaped to broadcast against like [B, ...]."""
    return values.view(-1, *[1] * (like.dim() - 1))


def _per_row(eps: float | Tensor, like: Tensor) -> Any:
    return column(eps, like) if isinstance(eps, Tensor) else eps


def _of_rows(eps: float | Tensor, rows: Tensor) -> float | Tensor:
    return eps[rows] if isinstance(eps, Tensor) else eps


def unit(r: Tensor) -> Tensor:
    """Each row [B, ...] at L2 length 1; a row of zeros stays one."""
    if r.numel() == 0:
        return r
    top = r.flatten(1).abs().amax(1)
    r = r / column(torch.where(top > 0, top, 1), r)  # so that no square over- or underflows
    size = torch.linalg.vector_norm(r.flatten(1), dim=1)
    return r / column(torch.where(size > 0, size, 1), r)


NORMS: dict[str, Norm] = {norm.name: norm for norm in (_Linf(), _L2(), _L1())}


def get(name: str) -> Norm:
    """The norm called linf, l2 or l1."""
    if not isinstance(name, str) or name not in NORMS:
        raise ValueError(f"norm is one of {', '.join(NORMS)}, not {name!r}")
    return NORMS[name]
