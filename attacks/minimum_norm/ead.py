"""Elastic-net attack: the smallest L1 perturbation by proximal steps, which draw every pixel back to the picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..core.attack import Attack
from ..core.losses import Aim, towards
from ..core.method import Best, Evaluation, Method, State
from ..core.problem import Problem
from ..core.search import search
from ..core.validation import check_positive
from ..geometry import norms
from ..model.classifier import Classifier
from .boundary_walk import tangent_steps
from .line_search import shorten
from .penalty_search import PenaltySearch

_FACTOR = 4.0  # between constants until success and failure bracket the answer
_CLOSE = 1.02  # ratio of the brackets at which a row's search ends
_LOOKS = 10  # at the progress of a solve
_PROGRESS = 1e-4  # share of the objective that must be gained from one look to the next
_START = 5.0  # times smaller than the constant at which no pixel would move is the first one
_SHARE = 0.4  # of the gradients, for the solves towards a class, and for the walk towards it
_PULL = 0.05  # in the last walk


@dataclass
class _EadState(State):
    aim: Aim
    penalty: PenaltySearch
    last: Tensor  # [B, n] where the latest step ended, before it was carried on by momentum
    spent: Tensor  # int64 [B] gradients in the current solve
    mark: Tensor  # [B] the objective at the last look
    held: Tensor  # bool [B] the current solve has reached the goal
    best: Tensor  # [B] size of the smallest perturbation that did, inf where none did
    start: Tensor  # [B, n] where the next solve starts
    slope: Tensor  # [B, n] the gradient of the loss there: a new constant costs no query


@dataclass(frozen=True)
class _Ead(Method[_EadState]):
    """FISTA on `c * (beta * |r|_1 + |r|_2^2) + loss` in the box; see `search.Method`."""

    aim: Aim
    steps: int
    searches: int
    step_size: float
    beta: float

    def begin(self, problem: Problem) -> _EadState:
        x = problem.x.flatten(1)
        zeros = x.new_zeros(len(x))
        return _EadState(
            point=problem.x.clone(),
            done=zeros.bool(),
            aim=self.aim,
            penalty=PenaltySearch.start(zeros),
            last=x,
            spent=zeros.long(),
            mark=zeros + torch.inf,
            held=zeros.bool(),
            best=zeros + torch.inf,
            start=x,
            slope=torch.zeros_like(x),
        )

    def objective(self, state: _EadState, logits: Tensor) -> Tensor:
        return -state.aim(logits)

    def score(self, problem: Problem, state: _EadState, margin: Tensor) -> Tensor:
        return torch.where(margin < 0, norms.get("l1").size(state.point - problem.x), torch.inf)

    def advance(self, problem: Problem, state: _EadState, seen: Evaluation) -> None:
        x, z, slope = problem.x.flatten(1), state.point.flatten(1), seen.gradient.flatten(1)
        r, hit, penalty = z - x, seen.margin < 0, state.penalty
        size = r.abs().sum(1)
        fresh = penalty.c == 0
        guess = (slope.abs().amax(1) / (_START * self.beta)).clamp(min=1e-30)
        penalty.c = torch.where(fresh, guess, penalty.c)
        better = hit & (size < state.best)
        state.best = torch.where(better, size, state.best)
        state.start = torch.where(better[:, None], z, state.start)
        state.slope = torch.where((better | fresh)[:, None], slope, state.slope)

        state.held = state.held | hit
        state.spent = state.spent + 1
        value = penalty.c * (self.beta * size + r.square().sum(1)) + seen.value
        look = state.spent % max(1, self.steps // _LOOKS) == 0
        stalled = look & (state.mark - value < _PROGRESS * state.mark.abs())
        state.mark = torch.where(look, value, state.mark)
        ended = stalled | (state.spent >= self.steps)
        penalty.update(ended, state.held, _FACTOR)
        close = penalty.high < _CLOSE * penalty.low
        state.done = (hit & (size == 0)) | close | (penalty.tried >= self.searches)

        again = ended[:, None]
        z = torch.where(again, state.start, z)
        state.last = torch.where(again, state.start, state.last)
        state.spent = state.spent.masked_fill(ended, 0)
        state.mark = state.mark.masked_fill(ended, torch.inf)
        state.held = state.held & ~ended
        self._step(x, state, z, torch.where(again, state.slope, slope))

    def _step(self, x: Tensor, state: _EadState, z: Tensor, slope: Tensor) -> None:
        c, r = state.penalty.c[:, None], z - x
        # So long that the loss alone moves the pixel it depends on most by the step size.
        longest = slope.abs().amax(1).clamp(min=torch.finfo(r.dtype).tiny)
        length = (self.step_size * (1 - state.spent / self.steps).sqrt() / longest)[:, None]
        moved = r - length * (slope + 2 * c * r)
        drawn = (moved.abs() - length * c * self.beta).clamp_(min=0) * moved.sign()
        ahead = (x + drawn).clamp_(0, 1)
        turn = state.spent[:, None]
        state.point = (ahead + turn / (turn + 3) * (ahead - state.last)).clamp_(0, 1).view_as(state.point)
        state.last = ahead


@dataclass(frozen=True)
class EAD(Attack):
    """Elastic-net attack: the smallest L1 perturbation, by gradient steps followed by a shrinkage of every pixel.

    Chen et al. 2018, arXiv 1709.04114: minimise `c * (beta * |r|_1 + |r|_2^2) + loss` by FISTA. Here c stands on the
    size, not on the loss as in the paper, so the largest c that still succeeds is sought, per row: this c is the
    inverse of the paper's. Of all points seen the smallest in L1 wins. A minimum-norm attack: it has no eps, and a row
    it cannot fool comes back unchanged.

    It differs from the paper in this: untargeted, it solves towards each of the likeliest wrong classes in turn; the
    loss is the cross-entropy of the two classes without its saturation instead of the margin; the shrinkage is by the
    length of the step times beta, as for the objective it must be, and not by beta; that length is measured by the
    gradient, so that the scale of the logits does not matter; every solve starts from the smallest adversarial point so
    far; the points of the momentum are the ones judged.

    What is added: two fifths of the gradients solve for the elastic net, the others walk from the smallest point along
    the linearised boundary, two fifths towards each class in turn, the rest towards the likeliest; see
    `boundary_walk.tangent_steps`. At the end the smallest perturbation is shortened, without gradients.

    Args:
        norm: "l1".
        steps: gradients per row and class.
        searches: values of c tried per row and class; a solve that makes no progress in a tenth of its steps ends.
        step_size: how far the first step of a solve moves the steepest pixel, in pixel units of [0,1].
        beta: weight of the L1 norm against the squared L2 norm.
        targets: untargeted, the number of likeliest wrong classes to solve for; the default is cut where there are
            fewer.

    Raises:
        ValueError: a parameter out of range; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[3.0, 4.0], [-3.0, -4.0]]))
    >>> _ = net[1].bias.data.copy_(torch.tensor([-2.0, 2.0]))
    >>> x = torch.tensor([[[[0.5, 0.5]]]])  # logits 1.5 and -1.5: the second pixel must fall by 0.375
    >>> adv = EAD()(net, x, torch.tensor([0]))
    >>> round(float((adv - x).abs().sum()), 2)
    0.38
    """

    name: ClassVar[str] = "ead"
    title: ClassVar[str] = "EAD"
    paper: ClassVar[str] = "Chen et al. 2018, arXiv 1709.04114"
    norms: ClassVar[tuple[str, ...]] = ("l1",)
    minimum_norm: ClassVar[bool] = True

    norm: str = "l1"
    steps: int = 100
    searches: int = 2
    step_size: float = 0.3
    beta: float = 10.0
    targets: int = 9

    def __post_init__(self) -> None:
        self.check_norm()
        self.check_counts("steps", "searches", "targets")
        check_positive("step_size", self.step_size)
        check_positive("beta", self.beta)

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        norm = norms.get("l1")
        if problem.logits is None and not problem.goal.targeted:
            problem.spend(1)
            problem = replace(problem, logits=model.logits(problem.x))
        wrong = self.targets if problem.logits is None else min(self.targets, problem.logits.shape[1] - 1)
        classes = 1 if problem.goal.targeted else wrong
        solve = max(1, int(_SHARE * self.steps / self.searches))
        walk = min(int(_SHARE * self.steps), max(0, self.steps - solve * self.searches))
        left = max(0, self.steps - solve * self.searches - walk)

        def climb(rows: Problem, _: Tensor, runner_up: Tensor | None) -> Best:
            method = _Ead(Aim(rows.goal, "ce", runner_up), solve, self.searches, self.step_size, self.beta)
            found = search(model, rows, method, min(self.steps, solve * self.searches))
            return tangent_steps(model, rows, found, Aim(rows.goal, "margin", runner_up), norm, steps=walk)

        found = towards(model, problem, climb, targets=self.targets)
        found = tangent_steps(
            model, problem, found, Aim(problem.goal, "margin"), norm, steps=left * classes, pull=_PULL
        )
        return shorten(model, problem, found, norm).point
