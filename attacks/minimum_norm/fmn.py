"""Fast minimum norm: gradient steps, projected onto a ball that shrinks at success and grows else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.attack import Attack
from ..core.goal import Goal
from ..core.losses import Aim
from ..core.method import Evaluation, Method, State
from ..core.problem import Problem
from ..core.search import search
from ..core.validation import check_count, check_optional, check_positive
from ..geometry import norms
from ..model.classifier import Classifier
from .boundary_walk import tangent_steps
from .line_search import shorten

_DUAL = {"linf": 1.0, "l2": 2.0, "l1": math.inf}
_STEP = {"linf": 0.2, "l2": 2.0, "l1": 3.0}  # first step by default: the best of those tried on two MNIST networks
_LAST = 0.01  # share of the first step that the last one has
_FINEST = 1e-3  # share by which the radius changes at the end
_WALK = 0.4  # share of the gradients that go to tangent steps in L2 and L1
_GROWTH = 1.1  # of the radius, at least, until the boundary is first crossed


@dataclass
class _FmnState(State):
    goal: Goal
    radius: Tensor  # [B] of the ball
    best: Tensor  # [B] size of the smallest perturbation that reached the goal, inf where none did
    turn: int


@dataclass(frozen=True)
class _Fmn(Method[_FmnState]):
    """See `search.Method`."""

    norm: norms.Norm
    steps: int
    step_size: float
    gamma: float

    def begin(self, problem: Problem) -> _FmnState:
        x = problem.x
        nothing = x.new_zeros(len(x))
        return _FmnState(x.clone(), nothing.bool(), problem.goal, radius=nothing, best=nothing + torch.inf, turn=0)

    def objective(self, state: _FmnState, logits: Tensor) -> Tensor:
        loss = state.goal.loss(logits)
        if self.norm.name != "linf":
            return loss  # tangent steps follow, by the margin
        # Where the classes are about as likely the loss leads towards a mixture of them: enough to get across, but the
        # boundary is with one of them.
        return torch.where(torch.isinf(state.best), loss, -state.goal.margin(logits))

    def score(self, problem: Problem, state: _FmnState, margin: Tensor) -> Tensor:
        return torch.where(margin < 0, self.norm.size(state.point - problem.x), torch.inf)

    def advance(self, problem: Problem, state: _FmnState, seen: Evaluation) -> None:
        x, z, uphill = problem.x, state.point, seen.gradient
        size, hit = self.norm.size(z - x), seen.margin < 0
        state.done = hit & (size == 0)  # there already: nothing to change
        state.best = torch.where(hit, size.minimum(state.best), state.best)
        fade = (1 + math.cos(math.pi * state.turn / self.steps)) / 2
        gamma = _FINEST + (self.gamma - _FINEST) * fade
        # How far the boundary is by the slope, until it has been crossed. Where the slope is none, it is anywhere.
        slope = torch.linalg.vector_norm(uphill.flatten(1), _DUAL[self.norm.name], dim=1)
        guess = torch.nan_to_num(size + (1 + gamma) * seen.margin / slope, nan=torch.inf)
        outside = torch.where(
            torch.isinf(state.best), guess.maximum(_GROWTH * state.radius), (1 + gamma) * state.radius
        )
        state.radius = torch.where(hit, state.best.minimum((1 - gamma) * state.radius), outside)
        length = self.step_size * (_LAST + (1 - _LAST) * fade)
        step = uphill.sign() if self.norm.name == "linf" else norms.unit(uphill)
        state.point = self.norm.point(x, z + length * step - x, state.radius)
        state.turn += 1


@dataclass(frozen=True)
class FMN(Attack):
    """Fast minimum norm: steps up the gradient within a ball whose radius follows success.

    Pintor et al. 2021, arXiv 2102.12827. A minimum-norm attack: it has no eps, and a row it cannot fool comes back
    unchanged. Until the boundary is first crossed the radius is its distance by the slope of the loss; then it shrinks
    by gamma where the goal is reached and grows by gamma where not, and step and gamma fade to 1/100 and 0.001 along a
    cosine.

    It differs from the paper in this: the projection is the exact one onto ball and box; in L∞ a step follows the sign
    of the gradient; the loss is the cross-entropy without its saturation instead of the margin, in L∞ until the
    boundary has been crossed; before the first crossing the radius grows by a tenth at least; in L2 and L1 two fifths
    of the gradients go to steps onto the tangent plane of the boundary, as in FAB; the smallest perturbation is
    shortened at the end, without gradients.

    It follows the likeliest of the wrong classes, which need not be the nearest: of several on a linear model most rows
    come out at the optimum, a few in L∞ up to a tenth larger and in L1 up to twice as large.

    Args:
        norm: "linf", "l2" or "l1".
        steps: gradients per row.
        step_size: length of the first step, in pixel units of [0,1]: of each pixel in linf, in L2 else. By default 0.2
            in linf, 2 in l2 and 3 in l1.
        gamma: share by which the radius changes at first, at most 0.5.

    Raises:
        ValueError: a parameter out of range; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[3.0, 4.0], [-3.0, -4.0]]))
    >>> _ = net[1].bias.data.copy_(torch.tensor([-2.0, 2.0]))
    >>> x = torch.tensor([[[[0.5, 0.5]]]])  # logits 1.5 and -1.5; in linf a change of 0.21 reaches the boundary
    >>> adv = FMN(norm="linf")(net, x, torch.tensor([0]))
    >>> round(float((adv - x).abs().max()), 2)
    0.21
    """

    name: ClassVar[str] = "fmn"
    title: ClassVar[str] = "FMN"
    paper: ClassVar[str] = "Pintor et al. 2021, arXiv 2102.12827"
    minimum_norm: ClassVar[bool] = True

    norm: str = "linf"
    steps: int = 100
    step_size: float | None = None
    gamma: float = 0.2

    def __post_init__(self) -> None:
        self.check_norm()
        check_count("steps", self.steps)
        check_optional("step_size", self.step_size)
        check_positive("gamma", self.gamma, most=0.5)

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        norm = norms.get(self.norm)
        walk = 0 if self.norm == "linf" else int(_WALK * self.steps)
        steps = self.steps - walk
        method = _Fmn(norm, steps, self.step_size or _STEP[self.norm], self.gamma)
        found = search(model, problem, method, steps)
        found = tangent_steps(model, problem, found, Aim(problem.goal, "margin"), norm, steps=walk)
        return shorten(model, problem, found, norm).point
