"""Search for the decision boundary on labels alone: an adversarial start, then bisection towards the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ..geometry import norms
from ..geometry.norms import column
from ..model.classifier import Classifier
from .method import Method, State
from .problem import Problem
from .random_draws import Draws
from .search import search

START, BISECT, ARRIVED = 0, 1, 2  # phases of a row; an attack goes on from ARRIVED
_CLOSER = 0.9  # of the distance found so far, which another start must beat
_COARSE = 0.1  # share of its length to which the way to a start is known before the next is tried
_GRAIN = (1, 4, 2, 7)  # pixels a side of the cells of the noise


@dataclass
class BoundaryState(State):
    """State of the boundary search, one entry a row."""

    noise: Draws  # normal numbers like x
    turn: int  # evaluations so far
    phase: Tensor  # int64 [B]
    tried: Tensor  # int64 [B] starts
    far: Tensor  # like x, the start that is drawn in: adversarial once there was one
    low: Tensor  # [B] share of the way to `far` that does not reach the goal
    high: Tensor  # [B] share that does
    fine: Tensor  # bool [B], bisection goes on to the tolerance
    distance: Tensor  # [B] of the boundary, inf before it is found


B = TypeVar("B", bound=BoundaryState)


def initial_state(problem: Problem) -> BoundaryState:
    """Start at the pictures themselves, which are evaluated first: one that is wrong already is done."""
    x = problem.x
    zeros = x.new_zeros(len(x))
    return BoundaryState(
        point=x.clone(),
        done=torch.zeros_like(zeros, dtype=torch.bool),
        noise=Draws.of(problem, x.shape[1:], 0),
        turn=0,
        phase=torch.full_like(zeros, START, dtype=torch.int64),
        tried=torch.full_like(zeros, -1, dtype=torch.int64),
        far=x,
        low=zeros,
        high=torch.ones_like(zeros),
        fine=torch.zeros_like(zeros, dtype=torch.bool),
        distance=torch.full_like(zeros, torch.inf),
    )


def boundary_points(model: Classifier, problem: Problem, method: Method[B], queries: int) -> Tensor:
    """Search along the boundary with so many queries a row, and note in the trace the rows without a start.

    An adversarial start is an answer, so the rows that end without one had none.
    """
    best = search(model, problem, method, queries - 1)
    problem.note_starts(best.score.isfinite())
    return best.point


@dataclass(frozen=True)
class BoundarySearch:
    """Adversarial start and bisection, the phases START and BISECT of a row.

    A row tries so many `starts`: grey, black, white, its own negative, then noise in cells of several sizes. The first
    that reaches the goal is drawn in towards x by bisection; each later one is tried at 0.9 of the distance found so
    far, and taken only if it reaches the goal there. A row that finds none goes on with noise.
    """

    norm: norms.Norm
    starts: int
    tolerance: float  # share of the way to which the boundary is known in the end

    def update(self, x: Tensor, state: BoundaryState, reached: Tensor) -> Tensor:
        """Update the rows by what the model said of `state.point`; returns those that have now arrived, bool [B]."""
        looking, halving = state.phase == START, state.phase == BISECT
        hit = looking & reached
        state.far = torch.where(column(hit, x), state.point, state.far)
        middle = (state.low + state.high) / 2
        state.high = torch.where(halving & reached, middle, state.high)
        state.low = torch.where(halving & ~reached, middle, state.low)
        state.low, state.high = state.low.masked_fill(hit, 0), state.high.masked_fill(hit, 1)
        width = torch.where(state.fine, self.tolerance, _COARSE)
        tight = halving & (state.high - state.low <= width * state.high)
        ended = (looking & ~hit) | (tight & ~state.fine)
        state.distance = torch.where(
            tight, self.norm.size(self.interpolate(x, state.far, state.high) - x), state.distance
        )
        state.tried = state.tried + ended
        enough = ended & (state.tried >= self.starts) & state.distance.isfinite()
        state.fine = state.fine | enough
        state.phase = torch.where(hit | enough, BISECT, torch.where(ended, START, state.phase))
        arrived = tight & (state.phase == BISECT) & ~ended
        state.phase = torch.where(arrived, ARRIVED, state.phase)
        return arrived

    def bisect_again(self, x: Tensor, state: BoundaryState, rows: Tensor) -> None:
        """Bisect between x and the current points of these rows, bool [B], which are known to reach the goal."""
        state.far = torch.where(column(rows, x), state.point, state.far)
        state.low, state.high = state.low.masked_fill(rows, 0), state.high.masked_fill(rows, 1)
        state.phase = torch.where(rows, BISECT, state.phase)

    def next_point(self, x: Tensor, state: BoundaryState, noise: Tensor) -> Tensor:
        """Points to evaluate next of the rows in START and BISECT; of others, any."""
        middle = self.interpolate(x, state.far, (state.low + state.high) / 2)
        if not any_row(state.phase == START):
            return middle
        start = self._start(x, state.tried, noise, _GRAIN[state.turn % len(_GRAIN)])
        share = (_CLOSER * state.distance / self.norm.size(start - x)).clamp(max=1).nan_to_num(nan=1.0)
        return torch.where(column(state.phase == START, x), self.interpolate(x, start, share), middle)

    def interpolate(self, x: Tensor, far: Tensor, share: Tensor) -> Tensor:
        """Interpolate from x towards `far` to a share [B] of its distance: in L∞ by clipping, else along the line."""
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


def any_row(rows: Tensor) -> bool:
    """True if any of the rows, bool [B], is set; always on a GPU, where asking would wait for the device."""
    return rows.device.type != "cpu" or bool(rows.any())
