"""Decoupled direction and norm: the smallest L2 perturbation by a radius that follows success."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..core.attack import Attack
from ..core.goal import Goal
from ..core.method import Evaluation, Method, State
from ..core.problem import Problem
from ..core.search import search
from ..core.validation import check_count, check_positive
from ..geometry import norms
from ..model.classifier import Classifier
from .boundary_walk import steps_from_picture
from .line_search import shorten

_OPENINGS = 3  # gradients that look towards other classes from the picture, of a tenth of them at most
_CLOSE = 1.0  # margin in logits below which the likeliest class is often not the nearest
_FIRST = 3.0  # times the distance of the boundary by the slope: the first sphere is no larger


@dataclass
class _DdnState(State):
    goal: Goal
    radius: Tensor  # [B]
    crossed: Tensor  # bool [B], the goal has been reached
    back: Tensor  # bool [B], and lost again since: the boundary is close
    turn: int


@dataclass(frozen=True)
class _Ddn(Method[_DdnState]):
    """See `search.Method`."""

    steps: int
    radius: float
    gamma: float

    def begin(self, problem: Problem) -> _DdnState:
        x = problem.x
        done = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        return _DdnState(
            point=x.clone(),
            done=done,
            goal=problem.goal,
            radius=x.new_full((len(x),), self.radius),
            crossed=done,
            back=done,
            turn=0,
        )

    def objective(self, state: _DdnState, logits: Tensor) -> Tensor:
        # Where the classes are about as likely the loss leads towards a mixture of them: enough to get across, but the
        # boundary is with one of them.
        return torch.where(state.back, -state.goal.margin(logits), state.goal.loss(logits))

    def score(self, problem: Problem, state: _DdnState, margin: Tensor) -> Tensor:
        return torch.where(margin < 0, norms.get("l2").size(state.point - problem.x), torch.inf)

    def advance(self, problem: Problem, state: _DdnState, seen: Evaluation) -> None:
        x, z = problem.x, state.point
        hit = seen.margin < 0
        state.back = state.back | (state.crossed & ~hit)
        state.crossed = state.crossed | hit
        if state.turn == 0:
            state.done = hit  # there already: nothing to change
            # Much closer by the slope of the loss than the sphere is large: so that the steps are enough to get there.
            slope = torch.linalg.vector_norm(seen.gradient.flatten(1), dim=1)
            state.radius = state.radius.minimum(torch.nan_to_num(_FIRST * seen.margin / slope, nan=torch.inf))
        else:
            state.radius = state.radius * torch.where(hit, 1 - self.gamma, 1 + self.gamma)
        length = 0.01 + 0.99 * (1 + math.cos(math.pi * state.turn / self.steps)) / 2
        ahead = z + length * norms.unit(seen.gradient) - x
        state.point = (x + norms.get("l2").steepest(ahead, state.radius, -x, 1 - x)).clamp_(0, 1)
        state.turn += 1


@dataclass(frozen=True)
class DDN(Attack):
    """Decoupled direction and norm: gradient steps on a sphere whose radius shrinks at success and grows else.

    Rony et al. 2019, arXiv 1811.09600. A minimum-norm attack: it has no eps, and a row it cannot fool comes back
    unchanged.

    It differs from the paper in this: a point whose pixels the box stops is stretched along the others until it lies on
    the sphere, where the paper cuts it off; the gradient is that of the cross-entropy without its saturation and, once
    the boundary has been crossed both ways, that of the margin; the first sphere is no larger than three times the
    distance of the boundary by the slope of the loss; untargeted, where the classes are about as likely (a margin in
    logits below 1), three of the gradients, or a tenth if that is fewer, step from the picture towards the likeliest
    classes, `boundary_walk.steps_from_picture`; the smallest perturbation is shortened at the end, without gradients;
    pixels are not rounded.

    Args:
        norm: "l2".
        steps: gradients per row.
        radius: of the first sphere at most, in pixel units of [0,1].
        gamma: share by which the radius changes in a step, at most 0.5.

    Raises:
        ValueError: a parameter out of range; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[3.0, 4.0], [-3.0, -4.0]]))
    >>> _ = net[1].bias.data.copy_(torch.tensor([-2.0, 2.0]))
    >>> x = torch.tensor([[[[0.5, 0.5]]]])  # logits 1.5 and -1.5, slope 5: 0.3 away from the boundary
    >>> adv = DDN()(net, x, torch.tensor([0]))
    >>> round(float((adv - x).norm()), 2)
    0.3
    """

    name: ClassVar[str] = "ddn"
    title: ClassVar[str] = "DDN"
    paper: ClassVar[str] = "Rony et al. 2019, arXiv 1811.09600"
    norms: ClassVar[tuple[str, ...]] = ("l2",)
    minimum_norm: ClassVar[bool] = True

    norm: str = "l2"
    steps: int = 100
    radius: float = 1.0
    gamma: float = 0.1

    def __post_init__(self) -> None:
        self.check_norm()
        check_count("steps", self.steps)
        check_positive("radius", self.radius)
        check_positive("gamma", self.gamma, most=0.5)

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        openings = 0 if problem.goal.targeted else min(_OPENINGS, self.steps // 10)
        if openings == 0:
            return self._search(model, problem, 0)
        logits = problem.logits
        if logits is None:
            problem.spend(1)
            logits = model.logits(problem.x)
            problem = replace(problem, logits=logits)
        margin = problem.goal.margin(logits)
        close = (margin >= 0) & (margin < _CLOSE)
        points = problem.x.clone()
        for some, count in ((close, openings), (~close, 0)):
            rows = some.nonzero().squeeze(1)
            if len(rows):
                points[rows] = self._search(model, problem.take(rows), count)
        return points

    def _search(self, model: Classifier, problem: Problem, openings: int) -> Tensor:
        norm, steps = norms.get("l2"), self.steps - openings
        found = search(model, problem, _Ddn(steps, self.radius, self.gamma), steps)
        found = steps_from_picture(model, problem, found, norm, openings)
        return shorten(model, problem, found, norm).point
