"""Tangent steps: a perturbation is shortened by projections onto the linearised decision boundary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.losses import Aim, runners_up
from ..core.method import Best, Evaluation, Method, State
from ..core.problem import Problem
from ..core.search import search
from ..geometry.norms import Norm, column
from ..model.classifier import Classifier
from .linearised_boundary import across

_OVERSHOOT = 1.05  # how far across the plane
_BACK = 0.8  # share of the way from the picture that an adversarial point keeps


@dataclass
class _TangentState(State):
    aim: Aim
    turn: int


@dataclass(frozen=True)
class _TangentSteps(Method[_TangentState]):
    """See `search.Method`."""

    aim: Aim
    norm: Norm
    start: Tensor  # like x
    pull: float
    exact: bool = True  # where the plane lies depends on small values

    def begin(self, problem: Problem) -> _TangentState:
        done = torch.zeros(len(problem.x), dtype=torch.bool, device=problem.x.device)
        return _TangentState(self.start, done, self.aim, 0)

    def objective(self, state: _TangentState, logits: Tensor) -> Tensor:
        return state.aim(logits)

    def score(self, problem: Problem, state: _TangentState, margin: Tensor) -> Tensor:
        return torch.where(margin < 0, self.norm.size(state.point - problem.x), torch.inf)

    def advance(self, problem: Problem, state: _TangentState, seen: Evaluation) -> None:
        x, z, w = problem.x, state.point, seen.gradient
        hit = seen.margin < 0
        # Without a gradient no step leads anywhere.
        state.done = (w == 0).flatten(1).all(1) | (hit & (self.norm.size(z - x) == 0))
        back = torch.where(column(hit, x), x + _BACK * (z - x), z)
        # The plane stays where it is, whatever point it is seen from.
        near, far = (
            self.norm.onto_plane(w, ((z - at) * w).flatten(1).sum(1) - seen.value, -at, 1 - at) for at in (back, x)
        )
        size, size_x = self.norm.size(near), self.norm.size(far)
        share = (size / (size + size_x).clamp(min=torch.finfo(x.dtype).tiny)).clamp(max=self.pull)
        # The first step is the whole way: on a linear model it ends at the optimum.
        share = column(share if state.turn else torch.ones_like(share), x)
        point = ((1 - share) * (back + _OVERSHOOT * near) + share * (x + _OVERSHOOT * far)).clamp_(0, 1)
        state.point = across(self.norm, w, -seen.value, x=x, z=z, point=point)
        state.turn += 1


def tangent_steps(
    model: Classifier, problem: Problem, found: Best, aim: Aim, norm: Norm, *, steps: int, pull: float = 0.1
) -> Best:
    """Shorten the points found, for so many gradients a row; a row without one starts at its picture.

    As in FAB (Croce & Hein 2020, arXiv 1907.02044), a step mixes the smallest moves onto the plane, exact within the
    box, from the current point and from the picture, and an adversarial point is first drawn back to the picture.

    Args:
        aim: loss whose level 0 is the boundary.
        pull: largest share of the step that starts at the picture.
    """
    if steps > 0:
        smaller = search(model, problem, _TangentSteps(aim, norm, found.point.clone(), pull), steps)
        found.offer(torch.arange(len(found.score), device=found.score.device), smaller.point, smaller.score)
    return found


def steps_from_picture(model: Classifier, problem: Problem, found: Best, norm: Norm, count: int) -> Best:
    """Step once from the picture towards each of the `count` likeliest wrong classes, and keep the smallest points.

    It takes a gradient each: the likeliest class, which an attack follows, need not be the nearest. A targeted goal has
    its one class already, and is left as it was.
    """
    if problem.goal.targeted or count < 1:
        return found
    everyone = torch.arange(len(found.score), device=found.score.device)
    for runner_up in runners_up(model, problem, count).unbind(1):
        none = Best(problem.x.clone(), torch.full_like(found.score, torch.inf))
        near = tangent_steps(model, problem, none, Aim(problem.goal, "margin", runner_up), norm, steps=1)
        found.offer(everyone, near.point, near.score)
    return found
