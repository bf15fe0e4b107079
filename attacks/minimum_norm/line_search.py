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

_ROUNDS = 8  # halvings: the length is then known to 1/256


@dataclass
class _Bracket(State):
    move: Tensor  # [B, ...] the perturbation at full length
    fails: Tensor  # [B] share of it that is too short
    holds: Tensor  # [B] share of it that reaches the goal


@dataclass(frozen=True)
class _Halving(Method[_Bracket]):
    """Bisection between the picture and the point; see `search.Method`."""

    points: Tensor
    norm: norms.Norm
    blind: bool = True

    def begin(self, problem: Problem) -> _Bracket:
        move = self.points - problem.x
        zeros = problem.x.new_zeros(len(move))
        return _Bracket(problem.x + move / 2, self.norm.size(move) == 0, move, zeros, torch.ones_like(zeros))

    def score(self, problem: Problem, state: _Bracket, margin: Tensor) -> Tensor:
        return torch.where(margin < 0, self.norm.size(state.point - problem.x), torch.inf)

    def advance(self, problem: Problem, state: _Bracket, seen: Evaluation) -> None:
        middle = (state.fails + state.holds) / 2
        state.holds = torch.where(seen.margin < 0, middle, state.holds)
        state.fails = torch.where(seen.margin < 0, state.fails, middle)
        share = ((state.fails + state.holds) / 2).view(-1, *[1] * (state.move.dim() - 1))
        state.point = problem.x + share * state.move


def shorten(model: Classifier, problem: Problem, found: Best, norm: norms.Norm, rounds: int = _ROUNDS) -> Best:
    """The points found, or shorter ones on the way to them; costs `rounds` forwards a row and no gradient."""
    better = search(model, problem, _Halving(found.point, norm), rounds - 1)
    found.offer(torch.arange(len(found.score), device=found.score.device), better.point, better.score)
    return found
