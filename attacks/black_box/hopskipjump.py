"""HopSkipJump: along the boundary on labels alone, by the normal that many small steps across it show, in L2 and L∞."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from ..core.attack import Attack
from ..core.boundary_search import ARRIVED, BoundarySearch, BoundaryState, any_row, boundary_points, initial_state
from ..core.method import Evaluation, Method
from ..core.problem import Problem
from ..core.validation import require
from ..geometry import norms
from ..geometry.norms import column
from ..model.classifier import Classifier

_PROBE, _JUMP = ARRIVED, ARRIVED + 1
_REACH = 0.15  # length of a probe, as a share of the distance
_STARTS = 12
_MEMORY = 0.8  # weight of the normals of the rounds before
_RESERVE = 16  # queries that a jump and the halving after it take, about
_SHORTEST = 1e-3  # share of the first length, below which a jump is given up


@dataclass
class _HopSkipJumpState(BoundaryState):
    edge: Tensor  # like x, at the boundary, on the far side
    reach: Tensor  # [B] length of a probe
    round: Tensor  # int64 [B] jumps so far
    planned: Tensor  # int64 [B] probes of this round
    asked: Tensor  # int64 [B] of them so far
    hits: Tensor  # [B] sum of the answers, 1 or -1
    sum: Tensor  # like x, of the probes
    signed: Tensor  # like x, of the probes times their answers
    trend: Tensor  # like x, the normal by all rounds, the latest ones weighing more
    normal: Tensor  # like x, where to jump
    length: Tensor  # [B] of the jump


@dataclass(frozen=True)
class _HopSkipJump(Method[_HopSkipJumpState]):
    """See `search.Method`; algorithm 2 of the paper, a query a turn, each row in a phase of its own."""

    norm: norms.Norm
    queries: int
    probes: int
    boundary: BoundarySearch
    blind: bool = True

    def begin(self, problem: Problem) -> _HopSkipJumpState:
        x, start = problem.x, initial_state(problem)
        zeros, whole, none = torch.zeros_like(start.low), torch.zeros_like(start.tried), torch.zeros_like(x)
        return _HopSkipJumpState(
            **{field.name: getattr(start, field.name) for field in fields(start)},
            edge=x,
            reach=zeros,
            round=whole,
            planned=whole,
            asked=whole,
            hits=zeros,
            sum=none,
            signed=none,
            trend=none,
            normal=none,
            length=zeros,
        )

    def score(self, problem: Problem, state: _HopSkipJumpState, margin: Tensor) -> Tensor:
        return torch.where(margin < 0, self.norm.size(state.point - problem.x), torch.inf)

    def advance(self, problem: Problem, state: _HopSkipJumpState, seen: Evaluation) -> None:
        x, reached = problem.x, seen.margin < 0
        state.turn += 1
        if state.turn == 1:
            state.done = reached
        probing, jumping = state.phase == _PROBE, state.phase == _JUMP
        if any_row(state.phase < ARRIVED):
            self._approached(x, state, reached)
        if any_row(probing):
            self._probed(x, state, reached, probing)
        if any_row(jumping):
            self._jumped(x, state, reached, jumping)
        noise = state.noise.roll()
        point = (state.edge + column(state.reach, x) * norms.unit(noise)).clamp_(0, 1)
        jumping = state.phase == _JUMP
        if any_row(jumping):
            jump = (state.edge + column(state.length, x) * state.normal).clamp_(0, 1)
            point = torch.where(column(jumping, x), jump, point)
        coming = state.phase < ARRIVED
        if any_row(coming):
            point = torch.where(column(coming, x), self.boundary.next_point(x, state, noise), point)
        state.point = point

    def _approached(self, x: Tensor, state: _HopSkipJumpState, reached: Tensor) -> None:
        arrived = self.boundary.update(x, state, reached)
        edge = self.boundary.interpolate(x, state.far, state.high)
        state.edge = torch.where(column(arrived, x), edge, state.edge)
        state.round = state.round + arrived
        self._plan(x, state, arrived)

    def _plan(self, x: Tensor, state: _HopSkipJumpState, rows: Tensor) -> None:
        """Begin to probe around the edge of these rows."""
        state.phase = torch.where(rows, _PROBE, state.phase)
        count = (self.probes * state.round.sqrt()).long()
        left = self.queries - state.turn - _RESERVE
        state.planned = torch.where(rows, count.clamp(max=max(left, 1)), state.planned)
        state.asked, state.hits = state.asked.masked_fill(rows, 0), state.hits.masked_fill(rows, 0)
        wide = column(rows, x)
        state.sum, state.signed = state.sum.masked_fill(wide, 0), state.signed.masked_fill(wide, 0)
        away = norms.get("l2").size(state.edge - x)
        state.reach = torch.where(rows, _REACH * away, state.reach)

    def _probed(self, x: Tensor, state: _HopSkipJumpState, reached: Tensor, probing: Tensor) -> None:
        answer = torch.where(reached, 1.0, -1.0).to(x) * probing
        # The box may have cut the probe: what was asked counts.
        probe = (state.point - state.edge) * column(probing, x)
        state.sum, state.signed = state.sum + probe, state.signed + column(answer, x) * probe
        state.hits, state.asked = state.hits + answer, state.asked + probing
        ready = probing & (state.asked >= state.planned)
        mean = state.hits / state.asked.clamp(min=1)
        # Where all answers are alike there is no contrast to take.
        mean = torch.where(mean.abs() < 1, mean, 0)
        normal = state.signed - column(mean, x) * state.sum
        # The places are near each other: what was seen from the ones before is still worth something here.
        trend = norms.unit(norms.unit(normal) + _MEMORY * state.trend)
        state.trend = torch.where(column(ready, x), trend, state.trend)
        state.normal = state.trend.sign() if self.norm.name == "linf" else state.trend
        state.length = torch.where(ready, state.distance / state.round.clamp(min=1).sqrt(), state.length)
        state.phase = torch.where(ready, _JUMP, state.phase)

    def _jumped(self, x: Tensor, state: _HopSkipJumpState, reached: Tensor, jumping: Tensor) -> None:
        self.boundary.bisect_again(x, state, jumping & reached)
        short = jumping & ~reached
        state.length = torch.where(short, state.length / 2, state.length)
        self._plan(x, state, short & (state.length < _SHORTEST * state.distance))


@dataclass(frozen=True)
class HopSkipJump(Attack):
    """HopSkipJump: estimate the normal of the boundary from labels, jump along it, and halve the way back.

    Chen et al. 2020, arXiv 1904.02144; unlike theirs, an estimate adds to those of the rounds before. Every row goes
    through its phases by itself, so each query serves every row. Starts are plain pictures and noise; a row for which
    none of them reaches the goal comes back unchanged, which with a target is common.

    Args:
        norm: "l2" or "linf".
        queries: evaluations of the model per row, in all.
        probes: small steps for the first estimate; their number grows with the square root of the round. At their
            default, as many of them as the queries allow.

    Raises:
        ValueError: a parameter out of range; see `Attack` for inputs.

    >>> x = torch.full((2, 1, 4, 4), 0.4)
    >>> model = Classifier(lambda x: (x.flatten(1).mean(1) > 0.5).long(), outputs="labels", classes=2)
    >>> adv = HopSkipJump(queries=500)(model, x, torch.tensor([0, 0]), seed=7)
    >>> bool(((adv - x).flatten(1).norm(dim=1) < 0.45).all())  # 0.4 is the least
    True
    """

    name: ClassVar[str] = "hopskipjump"
    title: ClassVar[str] = "HopSkipJump"
    paper: ClassVar[str] = "Chen et al. 2020, arXiv 1904.02144"
    norms: ClassVar[tuple[str, ...]] = ("l2", "linf")
    minimum_norm: ClassVar[bool] = True
    access: ClassVar[str] = "labels"
    needs_start: ClassVar[bool] = True

    norm: str = "l2"
    queries: int = 5000
    probes: int = 100

    def __post_init__(self) -> None:
        self.check_norm()
        self.check_counts("queries", "probes")
        least = 2 + self.probes + _RESERVE  # the picture and a start are looked at before
        require(
            self.probes == HopSkipJump.probes or least <= self.queries,
            f"an estimate of {self.probes} probes needs {least} queries, there are {self.queries}: "
            "give more queries or fewer probes",
        )

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        norm = norms.get(self.norm)
        values = problem.x[0].numel()
        # A probe moves along the normal by its reach over the root of the dimension: the edge must be known better.
        boundary = BoundarySearch(norm, min(_STARTS, 1 + self.queries // 50), 0.5 * _REACH / math.sqrt(values))
        return boundary_points(model, problem, _HopSkipJump(norm, self.queries, self.probes, boundary), self.queries)
