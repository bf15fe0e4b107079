"""How an attack that sees labels alone comes to a boundary: find a picture of another class, halve the way to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry import norms
from .method import State
from .problem import Problem
from .random_draws import Draws

LOOK, HALVE, NEXT = 0, 1, 2  # phases of a row; an attack goes on from NEXT
_CLOSER = 0.9  # of the distance found so far, which another start must beat
_COARSE = 0.1  # share of its length to which the way to a start is known before the next is tried
_GRAIN = (1, 4, 2, 7)  # pixels a side of the cells of the noise


@dataclass
class Standing(State):
    """Where a row stands on its way."""

    noise: Draws  # normal numbers like x
    turn: int  # evaluations so far
    phase: Tensor  # int64 [B]
    tried: Tensor  # int64 [B] starts
    far: Tensor  # like x, adversarial once `distance` is finite
    low: Tensor  # [B] share of the way to `far` that does not reach the goal
    high: Tensor  # [B] share that does
    fine: Tensor  # bool [B], whether the way is halved to the end
    distance: Tensor  # [B] of the boundary, inf before it is found


def standing(problem: Problem) -> Standing:
    """At the pictures themselves, which are looked at first: one that is wrong already is done."""
    x = problem.x
    zeros = x.new_zeros(len(x))
    return Standing(
        point=x.clone(),
        done=torch.zeros_like(zeros, dtype=torch.bool),
        noise=Draws.of(problem, x.shape[1:], 0),
        turn=0,
        phase=torch.full_like(zeros, LOOK, dtype=torch.int64),
        tried=torch.full_like(zeros, -1, dtype=torch.int64),
        far=x,
        low=zeros,
        high=torch.ones_like(zeros),
        fine=torch.zeros_like(zeros, dtype=torch.bool),
        distance=torch.full_like(zeros, torch.inf),
    )


@dataclass(frozen=True)
class Approach:
    """The phases LOOK and HALVE.

    A row tries so many `starts`: grey, black, white, its own negative, then noise in cells of several sizes. The first
    that reaches the goal is drawn in towards x by halving; each later one is asked at 0.9 of the distance found so
    far, and taken only if it reaches the goal there. A row that finds none goes on with noise.
    """

    norm: norms.Norm
    starts: int
    tolerance: float  # share of the way to which the boundary is known in the end

    def follow(self, x: Tensor, state: Standing, reached: Tensor) -> Tensor:
        """Takes in what the model said of `state.point`; returns the rows that now stand at the boundary, bool [B]."""
        looking, halving = state.phase == LOOK, state.phase == HALVE
        hit = looking & reached
        state.far = torch.where(column(hit, x), state.point, state.far)
        middle = (state.low + state.high) / 2
        state.high = torch.where(halving & reached, middle, state.high)
        state.low = torch.where(halving & ~reached, middle, state.low)
        state.low, state.high = state.low.masked_fill(hit, 0), state.high.masked_fill(hit, 1)
        width = torch.where(state.fine, self.tolerance, _COARSE)
        tight = halving & (state.high - state.low <= width * state.high)
        ended = (looking & ~hit) | (tight & ~state.fine)
        state.distance = torch.where(tight, self.norm.size(self.along(x, state.far, state.high) - x), state.distance)
        state.tried = state.tried + ended
        enough = ended & (state.tried >= self.starts) & state.distance.isfinite()
        state.fine = state.fine | enough
        state.phase = torch.where(hit | enough, HALVE, torch.where(ended, LOOK, state.phase))
        arrived = tight & (state.phase == HALVE) & ~ended
        state.phase = torch.where(arrived, NEXT, state.phase)
        return arrived

    def again(self, x: Tensor, state: Standing, rows: Tensor) -> None:
        """Halve the way to the current points of these rows, bool [B]; they are known to reach the goal."""
        state.far = torch.where(column(rows, x), state.point, state.far)
        state.low, state.high = state.low.masked_fill(rows, 0), state.high.masked_fill(rows, 1)
        state.phase = torch.where(rows, HALVE, state.phase)

    def point(self, x: Tensor, state: Standing, noise: Tensor) -> Tensor:
        """What to ask next of the rows in LOOK and HALVE; of others, anything."""
        middle = self.along(x, state.far, (state.low + state.high) / 2)
        if not some(state.phase == LOOK):
            return middle
        start = self._start(x, state.tried, noise, _GRAIN[state.turn % len(_GRAIN)])
        share = (_CLOSER * state.distance / self.norm.size(start - x)).clamp(max=1).nan_to_num(nan=1.0)
        return torch.where(column(state.phase == LOOK, x), self.along(x, start, share), middle)

    def along(self, x: Tensor, far: Tensor, share: Tensor) -> Tensor:
        """The point on the way from x to `far` at that share [B] of its distance: in L∞ every pixel goes as far as that
        allows, else in a straight line."""
        move, part = far - x, column(share, x)
        if self.norm.name == "linf":
            cap = part * column(self.norm.size(move), x)
            return x + move.clamp(-cap, cap)
        return x + part * move

    def _start(self, x: Tensor, tried: Tensor, noise: Tensor, grain: int) -> Tensor:
        cells: Tensor = torch.special.ndtr(noise)  # uniform
        for axis in range(min(2, x.dim() - 1), x.dim()):
            size = x.shape[axis]
            cells = cells.index_select(axis, torch.arange(size, device=x.device) // grain * grain)
        for number, start in enumerate((torch.full_like(x, 0.5), torch.zeros_like(x), torch.ones_like(x), 1 - x)):
            cells = torch.where(column(tried == number, x), start, cells)
        return cells


def some(rows: Tensor) -> bool:
    """Whether there are any of these rows, bool [B]; where asking would stall a queue, it is said that there are."""
    return rows.device.type != "cpu" or bool(rows.any())


def column(values: Tensor, like: Tensor) -> Tensor:
    """[B] shaped to broadcast against like [B, ...]."""
    return values.view(-1, *[1] * (like.dim() - 1))
