"""Auto-PGD: projected ascent that chooses its own step length, in L∞, L2 and L1."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from ..core.attack import Attack
from ..core.losses import Aim, check_loss, towards
from ..core.method import Best, Evaluation, Method, State
from ..core.problem import Problem
from ..core.random_draws import row_generator
from ..core.search import search
from ..core.validation import check_count, check_eps, check_flag
from ..geometry import norms
from ..model.classifier import Classifier

_MOMENTUM = 0.75
_RISES = 0.75  # share of the steps that must raise the loss, or the step is halved
_DENSE = 0.2  # share of the pixels in the first steps in L1
_THINNER = 1.5  # how fast that share, and the step in L1, shrink
_SHORTEST = 10  # times shorter than the first at most, in L1


@dataclass
class _ApgdState(State):
    aim: Aim
    turn: int
    checked: int  # the turn of the latest checkpoint
    period: int  # turns to the next one
    previous: Tensor  # the point before
    loss: Tensor  # [B] there
    top: Tensor  # the point of the highest loss so far
    top_loss: Tensor
    top_slope: Tensor  # its gradient
    rises: Tensor  # [B] steps since the checkpoint that raised the loss
    length: Tensor  # [B] of the step
    halved: Tensor  # bool [B], at the latest checkpoint
    mark: Tensor  # [B] highest loss at the latest checkpoint
    share: Tensor  # [B] of the pixels that a step in L1 moves
    changed: Tensor  # [B] pixels of the best point that differ from x, at the latest checkpoint


@dataclass(frozen=True)
class _Apgd(Method[_ApgdState]):
    """See `search.Method`; the schedule is the paper's, section 3."""

    norm: norms.Norm
    eps: float
    steps: int
    loss: str
    starts: Tensor  # int64 [B] on the CPU, numbers of the random starts
    early_stop: bool
    runner_up: Tensor | None = None  # int64 [B], the class to go towards
    start: Tensor | None = None  # like x; else a random point on the sphere
    draws: int = 1

    deepens = True

    def begin(self, problem: Problem) -> _ApgdState:
        x = problem.x
        rows, n = len(x), x[0].numel()
        if self.start is not None:
            point = self.norm.point(x, self.start - x, self.eps)
        else:
            names = zip(problem.ids.tolist(), self.starts.tolist(), strict=True)
            draws = [self._draw(x.shape[1:], row_generator(problem.seed, *name)) for name in names]
            point = self.norm.point(x, torch.stack(draws).to(x), self.eps)
        zeros, flags = x.new_zeros(rows), torch.zeros(rows, dtype=torch.bool, device=x.device)
        low = torch.full_like(zeros, -torch.inf)
        sparse = self.norm.name == "l1"
        return _ApgdState(
            point=point,
            done=flags,
            aim=Aim(problem.goal, self.loss, self.runner_up),
            turn=0,
            checked=0,
            period=max(1, int((0.04 if sparse else 0.22) * self.steps)),
            previous=point,
            loss=low,
            top=point.clone(),
            top_loss=low,
            top_slope=torch.zeros_like(x),
            rises=zeros,
            length=torch.full_like(zeros, (1 if sparse else 2) * self.eps),
            halved=~flags,
            mark=low,
            share=torch.full_like(zeros, _DENSE),
            changed=torch.full_like(zeros, _DENSE * n),
        )

    def _draw(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        draw = torch.empty(shape).uniform_(-1, 1, generator=generator)
        if self.norm.name != "linf":
            draw = torch.randn(shape, generator=generator)
        if self.norm.name == "l1":
            return draw  # what the ball leaves of it is its largest entries, as sparse as what is sought
        return draw * (self.eps / self.norm.size(draw[None])[0])

    def objective(self, state: _ApgdState, logits: Tensor) -> Tensor:
        return state.aim(logits)

    def score(self, problem: Problem, state: _ApgdState, margin: Tensor) -> Tensor:
        return margin

    def advance(self, problem: Problem, state: _ApgdState, seen: Evaluation) -> None:
        if self.early_stop:
            state.done = problem.shared(seen.margin < 0)
        higher = seen.value > state.top_loss
        state.top[higher], state.top_slope[higher] = state.point[higher], seen.gradient[higher]
        state.top_loss = torch.where(higher, seen.value, state.top_loss)
        state.rises = state.rises + (seen.value > state.loss)
        state.loss = seen.value
        if state.turn == 0:
            state.mark = state.top_loss
            state.rises = torch.zeros_like(state.rises)
        slope = seen.gradient
        if state.turn - state.checked == state.period:
            back = self._checkpoint(problem, state)
            state.checked, state.rises = state.turn, torch.zeros_like(state.rises)
            column = back.view(-1, *[1] * (slope.dim() - 1))
            slope = torch.where(column, state.top_slope, slope)
            state.point = torch.where(column, state.top, state.point)
        state.turn += 1
        z = self._step(problem.x, state, slope)
        state.previous, state.point = state.point, z

    def _checkpoint(self, problem: Problem, state: _ApgdState) -> Tensor:
        """Shorten the steps of the rows that make no progress; returns those that go back to their best point."""
        if self.norm.name == "l1":
            n = problem.x[0].numel()
            changed = (state.top != problem.x).flatten(1).sum(1).to(state.changed)
            thinner = changed < 0.95 * state.changed
            state.share = changed / n / _THINNER
            shorter = torch.where(thinner, self.eps, state.length / _THINNER)
            state.length = shorter.clamp(self.eps / _SHORTEST, self.eps)
            state.changed = changed
            return thinner
        stalled = ~state.halved & (state.mark >= state.top_loss)
        halve = (state.rises <= _RISES * state.period) | stalled
        state.length = torch.where(halve, state.length / 2, state.length)
        state.halved, state.mark = halve, state.top_loss
        state.period = max(state.period - max(1, int(0.03 * self.steps)), max(1, int(0.06 * self.steps)))
        return halve

    def _step(self, x: Tensor, state: _ApgdState, slope: Tensor) -> Tensor:
        z = state.point
        length = state.length.view(-1, *[1] * (z.dim() - 1))
        if self.norm.name == "l1":
            size = slope.flatten(1).abs()
            k = (state.share * size.shape[1]).long().clamp(1, size.shape[1])
            least = size.topk(int(k.max()), dim=1).values.gather(1, k[:, None] - 1)
            sign = (slope.flatten(1).sign() * (size >= least)).view_as(slope)
            count = sign.flatten(1).abs().sum(1).clamp(min=1).view_as(length)
            return self.norm.point(x, z + sign * (length / count) - x, self.eps)
        uphill = slope.sign() if self.norm.name == "linf" else norms.unit(slope)
        ahead = self.norm.point(x, z + length * uphill - x, self.eps)
        if state.turn == 1:
            return ahead
        return self.norm.point(x, z + _MOMENTUM * (ahead - z) + (1 - _MOMENTUM) * (z - state.previous) - x, self.eps)


@dataclass(frozen=True)
class APGD(Attack):
    """Auto-PGD: ascent with momentum that halves its step where the loss stops rising, and goes back to its best point.

    Croce & Hein 2020, arXiv 2003.01690; in L1 with the sparse steps of Croce & Hein 2021, arXiv 2103.01208, the last
    40 % of them at eps and the ones before in balls of three and two times that radius. The only setting that counts
    is the number of steps. What the first start does not fool meets the others side by side until one of them does. A
    random start in L1 is as sparse as the perturbation that is sought.

    Args:
        norm: "linf", "l2" or "l1".
        eps: radius of the ball, in pixel units of [0,1].
        steps: gradients per row and start.
        restarts: random starts per row; each draws from (seed, sample id, restart).
        loss: "ce" (cross-entropy), "margin" or "dlr" (difference-of-logits ratio; needs three classes, four if
            targeted).
        targets: untargeted, climb towards each of that many most likely wrong classes, every one with all
            restarts; 0 climbs away from the label.
        eot: queries averaged for each gradient, for a model that answers at random (Athalye et al. 2018).
        early_stop: let a row go once it is fooled. Off, all steps are made and the point with the best margin
            is returned.

    Raises:
        ValueError: a parameter out of range, too few classes for the loss; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    >>> x = torch.full((3, 1, 2, 2), 0.5)
    >>> adv = APGD(norm="l2", eps=0.1, steps=10, loss="dlr")(net, x, torch.tensor([0, 1, 2]), seed=7)
    >>> bool(((adv - x).flatten(1).norm(dim=1) <= 0.1 + 1e-6).all())
    True
    """

    name: ClassVar[str] = "apgd"
    title: ClassVar[str] = "APGD"
    paper: ClassVar[str] = "Croce & Hein 2020, arXiv 2003.01690"

    norm: str = "linf"
    eps: float = 8 / 255
    steps: int = 100
    restarts: int = 1
    loss: str = "ce"
    targets: int = 0
    eot: int = 1
    early_stop: bool = True

    def __post_init__(self) -> None:
        check_eps(self.norm, self.eps)
        self.check_counts("steps", "restarts", "eot")
        check_count("targets", self.targets, 0)
        check_flag("early_stop", self.early_stop)
        check_loss(self.loss)

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        return self.best(model, problem).point

    def best(self, model: Classifier, problem: Problem) -> Best:
        """The best points, and their margins for a score."""
        climb = partial(self._climb, model)
        return towards(model, problem, climb, targets=self.targets, restarts=self.restarts, early_stop=self.early_stop)

    def _climb(self, model: Classifier, problem: Problem, starts: Tensor, runner_up: Tensor | None) -> Best:
        norm, start = norms.get(self.norm), None
        method = partial(_Apgd, norm, loss=self.loss, starts=starts, runner_up=runner_up, draws=self.eot)
        if self.norm == "l1" and self.steps >= 10:
            for factor in (3, 2):
                wide = method(factor * self.eps, int(0.3 * self.steps), early_stop=False, start=start)
                start = search(model, problem, wide, wide.steps).point
        steps = self.steps if start is None else self.steps - 2 * int(0.3 * self.steps)
        return search(model, problem, method(self.eps, steps, early_stop=self.early_stop, start=start), steps)
