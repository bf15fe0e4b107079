"""Carlini and Wagner's L2 attack: Adam on a penalised margin, in a space where the box is no bound."""

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
from ..core.validation import check_from_zero, check_optional, check_positive
from ..geometry import norms
from ..model.classifier import Classifier
from .boundary_walk import steps_from_picture, tangent_steps
from .line_search import shorten
from .penalty_search import PenaltySearch

_FACTOR = 10.0  # between constants until success and failure bracket the answer
_CLOSE = 1.02  # ratio of the brackets at which a row's search ends
_LOOKS = 10  # at the progress of a solve
_PROGRESS = 1e-4  # share of the objective that must be gained from one look to the next
_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8  # Adam's
_FADE = 0.99  # share of the step that is gone at the end of a solve
# Black and white lie at infinity, where nothing moves: 0 and 1 are put this share inwards. With the 1e-6 of the
# authors' code the black pixels of a digit hardly move in 100 steps.
_INSET = 0.2
_EDGE = math.atanh(1 - _INSET)

_OPENINGS = 3  # gradients of the walk that look towards other classes first


@dataclass
class _CarliniWagnerState(State):
    goal: Goal
    penalty: PenaltySearch
    w: Tensor  # [B, n] the point in the unbounded space
    mean: Tensor  # [B, n] of the gradient, Adam's
    square: Tensor  # [B, n] mean of its square
    spent: Tensor  # int64 [B] gradients in the current solve
    mark: Tensor  # [B] the objective at the last look
    held: Tensor  # bool [B] the current solve has reached the goal
    best: Tensor  # [B] size of the smallest perturbation that did, inf where none did
    reach: Tensor  # [B] size that is looked for, which limits the step
    start: Tensor  # [B, n] where the next solve starts, in the unbounded space
    slope: Tensor  # [B, n] the gradient of the loss there: a new constant costs no query


@dataclass(frozen=True)
class _CarliniWagner(Method[_CarliniWagnerState]):
    """Adam on `c * |r|^2 + max(margin, -confidence)`; see `search.Method`."""

    steps: int
    searches: int
    step_size: float
    constant: float | None
    confidence: float

    def begin(self, problem: Problem) -> _CarliniWagnerState:
        x = problem.x.flatten(1)
        zeros, w = x.new_zeros(len(x)), torch.atanh((2 * x - 1) * (1 - _INSET))
        return _CarliniWagnerState(
            point=problem.x.clone(),
            done=zeros.bool(),
            goal=problem.goal,
            penalty=PenaltySearch.start(zeros),
            w=w,
            mean=torch.zeros_like(x),
            square=torch.zeros_like(x),
            spent=zeros.long(),
            mark=zeros + torch.inf,
            held=zeros.bool(),
            best=zeros + torch.inf,
            reach=zeros,
            start=w,
            slope=torch.zeros_like(x),
        )

    def objective(self, state: _CarliniWagnerState, logits: Tensor) -> Tensor:
        return state.goal.margin(logits).clamp(min=-self.confidence)

    def score(self, problem: Problem, state: _CarliniWagnerState, margin: Tensor) -> Tensor:
        size = norms.get("l2").size(state.point - problem.x)
        # A picture that is there from the start is left alone, however close to the boundary.
        answer = (margin < -self.confidence) | ((margin < 0) & (size == 0))
        return torch.where(answer, size, torch.inf)

    def advance(self, problem: Problem, state: _CarliniWagnerState, seen: Evaluation) -> None:
        x, z, slope = problem.x.flatten(1), state.point.flatten(1), seen.gradient.flatten(1)
        size, penalty = (z - x).norm(dim=1), state.penalty
        hit = seen.margin < -self.confidence
        fresh = penalty.c == 0
        self._guess(state, seen.margin, slope, fresh)
        better = hit & (size < state.best)
        state.best = torch.where(better, size, state.best)
        state.reach = torch.where(better, size, state.reach)
        state.start = torch.where(better[:, None], state.w, state.start)
        state.slope = torch.where((better | fresh)[:, None], slope, state.slope)

        state.held = state.held | hit
        state.spent = state.spent + 1
        value = penalty.c * size.square() + seen.value
        look = state.spent % max(1, self.steps // _LOOKS) == 0
        stalled = look & (value > (1 - _PROGRESS) * state.mark)
        state.mark = torch.where(look, value, state.mark)
        ended = stalled | (state.spent >= self.steps)
        penalty.update(ended, state.held, _FACTOR)
        # The smaller constant that follows a failure lets the perturbation grow by as much.
        state.reach = torch.where(ended & torch.isinf(state.best), _FACTOR * state.reach, state.reach)
        close = penalty.high < _CLOSE * penalty.low
        there = (seen.margin < 0) & (size == 0)
        state.done = there | close | (penalty.tried >= self.searches)

        again = ended[:, None]
        state.w = torch.where(again, state.start, state.w)
        state.mean, state.square = state.mean.masked_fill(again, 0), state.square.masked_fill(again, 0)
        state.spent = state.spent.masked_fill(ended, 0)
        state.mark = state.mark.masked_fill(ended, torch.inf)
        state.held = state.held & ~ended
        self._step(x, state, torch.where(again, state.slope, slope))

    def _guess(self, state: _CarliniWagnerState, margin: Tensor, slope: Tensor, fresh: Tensor) -> None:
        """The first c, above which the linearised loss does not pay for its perturbation, and how far to look."""
        steepness = slope.norm(dim=1)
        # Of a tie, as if the boundary were a little farther; of no slope, any.
        distance = ((margin + self.confidence) / steepness).clamp(min=1e-4)
        c = torch.nan_to_num(steepness / (2 * distance), nan=1.0).clamp(min=1e-30)
        c = c if self.constant is None else torch.full_like(c, self.constant)
        state.penalty.c = torch.where(fresh, c, state.penalty.c)
        state.reach = torch.where(fresh, _FACTOR * torch.nan_to_num(distance, nan=1.0), state.reach)

    def _step(self, x: Tensor, state: _CarliniWagnerState, slope: Tensor) -> None:
        t = torch.tanh(state.w)
        g = (slope + 2 * state.penalty.c[:, None] * (_boxed(t) - x)) * (1 - t.square())
        # Adam takes any scale, so long as its own tiny number and the squares' underflow are out of sight.
        g = g / g.abs().amax(1, keepdim=True).clamp(min=torch.finfo(g.dtype).tiny)
        state.mean = torch.lerp(g, state.mean, _FIRST)
        state.square = torch.lerp(g.square(), state.square, _SECOND)
        turn = (state.spent + 1)[:, None].to(g.dtype)
        mean, square = state.mean / (1 - _FIRST**turn), state.square / (1 - _SECOND**turn)
        # A step moves each pixel by up to half its length: together by half of what is looked for.
        longest = (state.reach / x.shape[1] ** 0.5).clamp(max=self.step_size)
        length = longest * (1 - _FADE * state.spent / self.steps)
        moved = state.w - length[:, None] * mean / (square.sqrt() + _TINY)
        state.w = moved.clamp_(-_EDGE, _EDGE)
        state.point = _boxed(torch.tanh(state.w)).view_as(state.point)


def _boxed(t: Tensor) -> Tensor:
    return ((t / (1 - _INSET) + 1) / 2).clamp_(0, 1)


@dataclass(frozen=True)
class CarliniWagner(Attack):
    """C&W: the smallest L2 perturbation whose margin is that of a wrong class, by Adam on a tanh change of variables.

    Carlini & Wagner 2017, arXiv 1608.04644: minimise `c * |r|^2 + max(margin, -confidence)`. Here c stands on the size,
    not on the margin as in the paper, so the largest c that still succeeds is sought, per row: this c is the inverse of
    the paper's. A minimum-norm attack: it has no eps, and a row it cannot fool comes back unchanged.

    It differs from the paper in this: every solve starts from the smallest adversarial point so far, not from the
    picture; the first constant comes from the slope of the margin; the step is no longer than half the perturbation and
    fades to a hundredth over a solve; black and white are not at infinity but a fifth of the way in, so that they can
    be left in a few steps; the scale of the gradient is taken out. Unless a confidence is asked for, a third of the
    searches is left out, and their gradients step towards the likeliest classes, `boundary_walk.steps_from_picture`,
    and from the smallest perturbation along the linearised boundary, `boundary_walk.tangent_steps`; at the end it is
    shortened, without gradients.

    Args:
        norm: "l2".
        steps: gradients per row in the solve for one c; one that makes no progress in a tenth of them ends.
        searches: values of c tried per row; of three, the gradients of one are for the walk.
        step_size: longest step of Adam, in the space of the change of variables.
        constant: the first c; without it, a guess from the gradient at the picture.
        confidence: margin in logits by which the goal must be passed, at least 0.

    Raises:
        ValueError: a parameter out of range; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[3.0, 4.0], [-3.0, -4.0]]))
    >>> _ = net[1].bias.data.copy_(torch.tensor([-2.0, 2.0]))
    >>> x = torch.tensor([[[[0.5, 0.5]]]])  # logits 1.5 and -1.5, slope 5: 0.3 away from the boundary
    >>> adv = CarliniWagner()(net, x, torch.tensor([0]))
    >>> round(float((adv - x).norm()), 2)
    0.3
    """

    name: ClassVar[str] = "cw"
    title: ClassVar[str] = "C&W"
    paper: ClassVar[str] = "Carlini & Wagner 2017, arXiv 1608.04644"
    norms: ClassVar[tuple[str, ...]] = ("l2",)
    minimum_norm: ClassVar[bool] = True

    norm: str = "l2"
    steps: int = 100
    searches: int = 9
    step_size: float = 0.3
    constant: float | None = None
    confidence: float = 0.0

    def __post_init__(self) -> None:
        self.check_norm()
        self.check_counts("steps", "searches")
        check_positive("step_size", self.step_size)
        check_optional("constant", self.constant)
        check_from_zero("confidence", self.confidence)

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        norm = norms.get("l2")
        # Walked on or shortened, it would lie at the boundary itself.
        walks = 0 if self.confidence > 0 else self.searches // 3
        solves = self.searches - walks
        method = _CarliniWagner(self.steps, solves, self.step_size, self.constant, self.confidence)
        found = search(model, problem, method, self.steps * solves)
        if self.confidence > 0:
            return found.point
        walk = self.steps * walks
        first = 0 if problem.goal.targeted else min(_OPENINGS, walk)
        found = steps_from_picture(model, problem, found, norm, first)
        found = tangent_steps(model, problem, found, Aim(problem.goal, "margin"), norm, steps=walk - first)
        return shorten(model, problem, found, norm).point
