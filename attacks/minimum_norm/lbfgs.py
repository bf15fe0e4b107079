"""The first attack on deep networks: Szegedy et al.'s box-constrained L-BFGS, for a whole batch at once.

Every row is a problem of its own: its history, step length, penalty constant and stop tests. Rows do not wait
for each other: in one and the same round of the loop one row may shorten its step while another starts on its
next constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.attack import Attack
from ..core.goal import Goal
from ..core.losses import Aim, runners_up
from ..core.method import Best, Evaluation, Method, State
from ..core.problem import Problem
from ..core.search import search
from ..geometry import norms
from ..model.classifier import Classifier
from .boundary_walk import steps_from_picture, tangent_steps
from .lbfgs_memory import Curvature
from .lbfgs_stages import Stages, nothing
from .line_search import shorten
from .penalty_search import PenaltySearch

_ARMIJO = 1e-4  # share of the predicted decrease that a step must bring
_SHORTENINGS = 6  # of a step, before its direction is given up
_FACTOR = 4.0  # between constants until success and failure bracket the answer
_BEHIND = 1.1  # times the best size after as many solves: a class that is still farther is given up
_CLOSE = 1.1  # ratio of the brackets at which a row's search ends
_OPENINGS, _TANGENTS = 3, 10  # gradients of the walk at the end


@dataclass
class _LbfgsState(State):
    aim: Goal  # the class whose cross-entropy is lowered; what counts as reached is the problem's own goal
    row: Tensor  # int64 [B], its number among those that the attack began with
    penalty: PenaltySearch
    curvature: Curvature
    base: Tensor  # [B, n] the iterate that the current step starts from
    loss: Tensor  # [B] cross-entropy there, without the penalty: a new constant costs no query
    slope: Tensor  # [B, n] its gradient
    fresh: Tensor  # bool [B], no iterate yet
    move: Tensor  # [B, n] direction
    length: Tensor  # [B] of the step along it
    shortened: Tensor  # int64 [B]
    spent: Tensor  # int64 [B], gradients in the current solve
    held: Tensor  # bool [B], the iterate reaches the goal
    best: Tensor  # [B, n] smallest adversarial point so far, where the next solve starts
    best_size: Tensor  # [B], inf where there is none
    best_loss: Tensor
    best_slope: Tensor


@dataclass(frozen=True)
class _Lbfgs(Method[_LbfgsState]):
    """Projected L-BFGS on `c * |r|^2 + cross-entropy(x + r, target)` within the box; see `search.Method`."""

    steps: int
    searches: int
    memory: int
    aim: Tensor  # int64 [B]
    stages: Stages
    exact: bool = True  # bf16 values are too coarse for the line search: distances came out a tenth larger

    def begin(self, problem: Problem) -> _LbfgsState:
        x = problem.x.flatten(1)
        rows = len(x)
        flags, zeros = torch.zeros(rows, dtype=torch.bool, device=x.device), x.new_zeros(rows)
        counts = torch.zeros(rows, dtype=torch.int64, device=x.device)
        return _LbfgsState(
            point=problem.x.clone(),
            done=flags,
            aim=Goal.of(self.aim, True),
            row=torch.arange(rows, device=x.device),
            penalty=PenaltySearch.start(zeros),
            curvature=Curvature.none(x, self.memory),
            base=x,
            loss=zeros,
            slope=x,
            fresh=~flags,
            move=x,
            length=zeros,
            shortened=counts,
            spent=counts,
            held=flags,
            best=x.clone(),
            best_size=torch.full_like(zeros, torch.inf),
            best_loss=zeros,
            best_slope=x.clone(),
        )

    def objective(self, state: _LbfgsState, logits: Tensor) -> Tensor:
        return state.aim.cross_entropy(logits)

    def score(self, problem: Problem, state: _LbfgsState, margin: Tensor) -> Tensor:
        size = (state.point - problem.x).flatten(1).norm(dim=1)
        # On a GPU a row that is done is looked at a few times more: what it comes upon then belongs to no search.
        return torch.where((margin < 0) & ~state.done, size, torch.inf)

    def advance(self, problem: Problem, state: _LbfgsState, seen: Evaluation) -> None:
        x, z, slope = problem.x.flatten(1), state.point.flatten(1), seen.gradient.flatten(1)
        size = (z - x).norm(dim=1)
        hit = seen.margin < 0
        self.stages.spent[state.row] += (~state.done).long()
        state.done = state.done | (hit & (size == 0))  # nothing to do: the picture is there already
        self._note_best(state, size, seen)

        c = state.penalty.c
        begun = c > 0
        c = torch.where(begun, c, _first_guess(seen.value, slope))
        state.penalty.c = c

        # Armijo's condition along the projected arc. A fresh solve takes its first point as it is.
        step = z - state.base
        shift = state.base - x
        before = c * shift.square().sum(1) + state.loss
        after = c * size.square() + seen.value
        drop = torch.linalg.vecdot(state.slope, step) + 2 * c * torch.linalg.vecdot(shift, step)
        accepted = state.fresh | (after <= before + _ARMIJO * drop)
        state.curvature.push(step, slope - state.slope, accepted & ~state.fresh)
        little = ~state.fresh & accepted & (before - after <= 1e-5 * before.abs())
        state.base = torch.where(accepted[:, None], z, state.base)
        state.slope = torch.where(accepted[:, None], slope, state.slope)
        state.loss = torch.where(accepted, seen.value, state.loss)
        state.held = torch.where(accepted, hit, state.held)
        state.fresh = state.fresh & ~accepted
        state.spent = state.spent + 1
        state.shortened = torch.where(accepted, 0, state.shortened + 1)
        stuck = state.shortened > _SHORTENINGS

        ended = stuck | little | (state.spent >= self.steps)
        self._next_constant(state, ended)
        self._aim(x, state, accepted | ended)
        z = (state.base + state.length[:, None] * state.move).clamp_(0, 1)
        state.point = z.view_as(state.point)

    def _note_best(self, state: _LbfgsState, size: Tensor, seen: Evaluation) -> None:
        z, slope = state.point.flatten(1), seen.gradient.flatten(1)
        better = (seen.margin < 0) & (size < state.best_size)
        rows = better.nonzero().squeeze(1)
        state.best[rows], state.best_slope[rows] = z[rows], slope[rows]
        state.best_loss = torch.where(better, seen.value, state.best_loss)
        state.best_size = torch.where(better, size, state.best_size)

    def _next_constant(self, state: _LbfgsState, ended: Tensor) -> None:
        penalty = state.penalty
        penalty.update(ended, state.held, _FACTOR)
        close = penalty.high < _CLOSE * penalty.low
        over = ended & ~state.done
        self.stages.note(state.row[over], penalty.tried[over], state.best[over], state.best_size[over])
        behind = ended & (state.best_size > _BEHIND * self.stages.reached(state.row, penalty.tried))
        state.done = state.done | (penalty.tried >= self.searches) | close | behind
        # The next solve starts from the smallest adversarial point so far, or goes on where this one ended.
        again = ended & torch.isfinite(state.best_size)
        state.base = torch.where(again[:, None], state.best, state.base)
        state.slope = torch.where(again[:, None], state.best_slope, state.slope)
        state.loss = torch.where(again, state.best_loss, state.loss)
        state.spent = torch.where(ended, 0, state.spent)
        state.shortened = torch.where(ended, 0, state.shortened)
        state.held = state.held | again

    def _aim(self, x: Tensor, state: _LbfgsState, turned: Tensor) -> None:
        """A new direction where `turned`, half the step along the old one elsewhere."""
        c = state.penalty.c
        g = torch.addcmul(state.slope, 2 * c[:, None], state.base - x)
        # A coordinate at a bound whose gradient points out of the box stays there.
        free = ((state.base > 0) | (g < 0)) & ((state.base < 1) | (g > 0))
        g *= free
        move = state.curvature.descent(g, c).mul_(free)
        flat = torch.linalg.vecdot(move, g) > -1e-4 * move.norm(dim=1) * g.norm(dim=1)
        state.curvature.forget(flat & turned)
        move = torch.where(flat[:, None], g / (-2 * c[:, None]), move)
        # A gradient of zero makes c zero and the scale infinite, a huge one overflows: stay rather than be lost.
        move = torch.nan_to_num(move, nan=0.0)
        state.move = torch.where(turned[:, None], move, state.move)
        state.length = torch.where(turned, 1.0, state.length / 2)


def _first_guess(loss: Tensor, slope: Tensor) -> Tensor:
    """The c at which the minimum lies about where the linearised loss falls to log 2, the boundary of two classes."""
    steepness = slope.square().sum(1)
    return steepness / (4 * (loss - 0.69).clamp(min=0.1))


@dataclass(frozen=True)
class LBFGS(Attack):
    """Box-constrained L-BFGS: the smallest L2 perturbation that reaches a class.

    Szegedy et al. 2014, arXiv 1312.6199: minimise `c * |r|^2 + cross-entropy(x + r, t)` over `x + r` in [0,1]. Here
    c stands on the size, as in the paper, so the largest c that still succeeds is sought, per row, and each solve
    starts from the smallest adversarial point so far. Untargeted, t runs over the most likely wrong classes and
    the smallest perturbation wins; there, any class but the label counts as reached. At the end each perturbation is
    shortened along its own direction as far as it still reaches the class.

    Where the classes are about as likely the cross-entropy pulls towards a mixture of them, and its minima lie on the
    boundary at a point that is not the nearest. So, unlike in the paper, a row whose searches leave 13 of their
    gradients, or 10 if targeted, spends those on `boundary_walk.steps_from_picture` and, from where its first search
    ended, on `boundary_walk.tangent_steps`; the smaller perturbation wins.

    More searches never end farther. A search depends on those before it alone, also in which classes are given up, so
    many searches pass through all that fewer find; the walk is the same for any number of them; and what fewer would
    have ended with is shortened too, unless it cannot come out the smallest any more. This holds to the last bit for a
    model whose answer to a picture does not depend on the others in the batch, and to rounding for one whose kernels
    change with the size of the batch.

    A minimum-norm attack: it has no eps, and a row it cannot fool comes back unchanged, as does one that is
    where it should be from the start.

    Args:
        norm: "l2"; the paper's objective has no other.
        steps: gradients per row in the solve for one c.
        searches: values of c tried per row and class.
        memory: pairs kept per row to approximate the Hessian.
        candidates: untargeted, how many of the most likely wrong classes are tried. A class that after a
            solve is clearly farther than the classes before it were after as many is given up.

    Raises:
        ValueError: a parameter out of range; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[3.0, 4.0], [-3.0, -4.0]]))
    >>> _ = net[1].bias.data.copy_(torch.tensor([-2.0, 2.0]))
    >>> x = torch.tensor([[[[0.5, 0.5]]]])  # logits 1.5 and -1.5, slope 5: 0.3 away from the boundary
    >>> adv = LBFGS()(net, x, torch.tensor([0]))
    >>> round(float((adv - x).norm()), 2)
    0.3
    """

    name: ClassVar[str] = "lbfgs"
    title: ClassVar[str] = "L-BFGS"
    paper: ClassVar[str] = "Szegedy et al. 2014, arXiv 1312.6199"
    norms: ClassVar[tuple[str, ...]] = ("l2",)
    minimum_norm: ClassVar[bool] = True

    norm: str = "l2"
    steps: int = 15
    searches: int = 6
    memory: int = 10
    candidates: int = 5

    def __post_init__(self) -> None:
        self.check_norm()
        self.check_counts("steps", "searches", "memory", "candidates")

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        goal = problem.goal
        aims = goal.classes[:, None] if goal.targeted else runners_up(model, problem, self.candidates)
        best, stages = nothing(problem.x), Stages(problem.x)
        everyone = torch.arange(len(problem.x), device=problem.x.device)
        for aim in aims.unbind(1):
            method = _Lbfgs(self.steps, self.searches, self.memory, aim, stages)
            found = search(model, problem, method, self.steps * self.searches)
            best.offer(everyone, found.point, found.score)
        norm = norms.get("l2")
        tangents = self._walk(model, problem, stages, self.steps * self.searches * aims.shape[1])
        earlier = [tangents, *stages.earlier(best.score)]
        best = shorten(model, problem, best, norm)
        for rows, points in earlier:
            shorter = shorten(model, problem.take(rows), points, norm, limit=best.score[rows])
            best.offer(rows, shorter.point, shorter.score)
        return best.point

    def _walk(self, model: Classifier, problem: Problem, stages: Stages, budget: int) -> tuple[Tensor, Best]:
        """Rows and points of steps onto the tangent plane, from the picture and from where the first searches ended.

        A row has all of the walk or none of it: one that begins where a single search would have ended, if its searches
        leave the gradients. Each search adds as many to the budget as it may take, so with more of them none is lost.
        """
        first = 0 if problem.goal.targeted else _OPENINGS
        rows = (stages.spent + first + _TANGENTS <= budget).nonzero().squeeze(1)
        norm, some = norms.get("l2"), problem.take(rows)
        start = stages.bests[0] if stages.bests else nothing(problem.x)
        found = Best(start.point[rows], start.score[rows])
        if len(rows):
            found = steps_from_picture(model, some, found, norm, first)
            found = tangent_steps(model, some, found, Aim(some.goal, "margin"), norm, steps=_TANGENTS)
        return rows, found
