"""Bisection along a perturbation's own direction, as far as it still reaches the goal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.method import Best, Evaluation, Method, State
from ..core.problem import Problem
from ..core.search import search
from ..geometry import norms
from ..model.classifier import Classifier

_SLACK = 1e-4  # relative, beyond what rounding makes of a size
_ROUNDS = 8  # halvings: the length is then known to 1/256


@dataclass
class _Bracket(State):
    move: Tensor  # [B, ...] the perturbation at full length
    needed: Tensor  # [B] share of it that is as long as the limit
    fails: Tensor  # [B] share of it that is too short
    holds: Tensor  # [B] share of it that reaches the goal


@dataclass(frozen=True)
class _Halving(Method[_Bracket]):
    """Bisection between the picture and the point; see `search.Method`."""

    points: Tensor
    norm: norms.Norm
    limit: Tensor | None  # [B]
    blind: bool = True

    def begin(self, problem: Problem) -> _Bracket:
        move = self.points - problem.x
        size, zeros = self.norm.size(move), problem.x.new_zeros(len(move))
        needed = zeros + torch.inf if self.limit is None else (1 + _SLACK) * self.limit / size
        return _Bracket(
            point=problem.x + move / 2,
            done=size == 0,
            move=move,
            needed=needed,
            fails=zeros,
            holds=torch.ones_like(zeros),
        )

    def score(self, problem: Problem, state: _Bracket, margin: Tensor) -> Tensor:
        return torch.where(margin < 0, self.norm.size(state.point - problem.x), torch.inf)

    def advance(self, problem: Problem, state: _Bracket, seen: Evaluation) -> None:
        middle = (state.fails + state.holds) / 2
        state.holds = torch.where(seen.margin < 0, middle, state.holds)
        state.fails = torch.where(seen.margin < 0, state.fails, middle)
        state.done = state.done | (state.fails > state.needed)
        share = ((state.fails + state.holds) / 2).view(-1, *[1] * (state.move.dim() - 1))
        state.point = problem.x + share * state.move


def shorten(
    model: Classifier,
    problem: Problem,
    found: Best,
    norm: norms.Norm,
    rounds: int = _ROUNDS,
    limit: Tensor | None = None,
) -> Best:
    """The points found, or shorter ones on the way to them; costs `rounds` forwards a row and no gradient.

    A row that cannot come out below `limit` [B] any more is left as it is then: its forwards are saved, and one that
    does comes out as without it.
    """
    better = search(model, problem, _Halving(found.point, norm, limit), rounds - 1)
    found.offer(torch.arange(len(found.score), device=found.score.device), better.point, better.score)
    return found
