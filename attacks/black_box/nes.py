"""NES: projected ascent on a gradient that is estimated from scores around each point, in L∞ and L2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.attack import Attack
from ..core.losses import Aim, check_loss
from ..core.method import Evaluation, Method, State
from ..core.problem import Problem
from ..core.random_draws import Draws
from ..core.search import search
from ..core.validation import check_count, check_eps, check_flag, check_optional, check_positive, require
from ..geometry import norms
from ..geometry.norms import column
from ..model.classifier import Classifier

_MOMENTUM = 0.9


@dataclass
class _NesState(State):
    aim: Aim
    noise: Draws
    turn: int  # evaluations so far
    asked: int  # probes so far around the present place; 0: the current point is a place, not a probe
    planned: int  # probes around it
    here: Tensor  # like x, the place
    value: Tensor  # [B] there
    direction: Tensor  # like x, of the latest probe
    mate: Tensor  # like x, the latest probe
    answer: Tensor  # [B] there
    slope: Tensor  # like x, the estimate
    uphill: Tensor  # like x, the mean of the estimates so far, the latest ones weighing more


@dataclass(frozen=True)
class _Nes(Method[_NesState]):
    """See `search.Method`; probes in pairs of opposite sign around a place, then a step to the next."""

    norm: norms.Norm
    eps: float
    step: float
    queries: int
    samples: int
    sigma: float
    loss: str
    early_stop: bool
    blind: bool = True

    def begin(self, problem: Problem) -> _NesState:
        x = problem.x
        zeros, none = x.new_zeros(len(x)), torch.zeros_like(x)
        return _NesState(
            point=x.clone(),
            done=torch.zeros_like(zeros, dtype=torch.bool),
            aim=Aim(problem.goal, self.loss),
            noise=Draws.of(problem, x.shape[1:], 0),
            turn=0,
            asked=0,
            planned=0,
            here=x,
            value=zeros,
            direction=none,
            mate=x,
            answer=zeros,
            slope=none,
            uphill=none,
        )

    def score(self, problem: Problem, state: _NesState, margin: Tensor) -> Tensor:
        # A probe may lie outside the ball.
        return margin if state.asked == 0 else torch.full_like(margin, torch.inf)

    def advance(self, problem: Problem, state: _NesState, seen: Evaluation) -> None:
        x, value = problem.x, state.aim(seen.logits)
        state.turn += 1
        if state.asked == 0:
            if self.early_stop:
                state.done = seen.margin < 0
            state.here, state.value, state.slope = state.point, value, torch.zeros_like(x)
            # One query is kept for the next place. A probe without its opposite is better than none.
            probes = min(self.samples, self.queries - state.turn - 1)
            state.planned = max(0, probes - (probes % 2 if probes > 1 else 0))
        else:
            # Between the two of a pair, as they were asked: where the box cuts one short, as at every black pixel, each
            # by itself has a mean of its own, which would drown the rest.
            other, there = (state.mate, state.answer) if state.asked % 2 == 0 else (state.here, state.value)
            if state.asked % 2 == 0 or state.planned == 1:
                state.slope = state.slope + column(value - there, x) * (state.point - other)
            state.mate, state.answer = state.point, value
        if state.asked < state.planned:
            state.asked += 1
            state.direction = state.noise.roll() if state.asked % 2 else -state.direction
            state.point = (state.here + self.sigma * state.direction).clamp_(0, 1)
        else:
            # With a last query alone there is no estimate: anywhere.
            slope = state.slope if state.planned else state.noise.roll()
            state.asked = 0
            state.uphill = _MOMENTUM * state.uphill + (1 - _MOMENTUM) * slope
            state.point = self.norm.climb(x, state.here, state.uphill, self.step, self.eps)


@dataclass(frozen=True)
class NES(Attack):
    """Natural evolution strategies: PGD whose gradient is estimated from the scores of random probes around the point.

    Ilyas et al. 2018, arXiv 1804.08598. Probes come in pairs of opposite sign. A row that is wrong already costs one
    query.

    Args:
        norm: "linf" or "l2".
        eps: radius of the ball, in pixel units of [0,1].
        queries: evaluations of the model per row, in all.
        samples: probes for each step; at their default, as many of them as the queries allow.
        sigma: standard deviation of a probe, per value of the picture.
        step_size: length of a step in the same norm; by default 2.5 * eps over the number of steps that the queries
            allow, and at most eps.
        loss: "ce" (cross-entropy), "margin" or "dlr"; see `losses.Aim`.
        early_stop: let a row go once it is fooled. Off, all queries are made and the point with the best margin
            is returned.

    Raises:
        ValueError: a parameter out of range; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    >>> x = torch.full((3, 1, 4, 4), 0.5)
    >>> adv = NES(eps=0.1, queries=50, samples=10)(lambda x: net(x).detach(), x, torch.tensor([0, 1, 0]), seed=7)
    >>> bool(((adv - x).abs() <= 0.1 + 1e-6).all())
    True
    """

    name: ClassVar[str] = "nes"
    title: ClassVar[str] = "NES"
    paper: ClassVar[str] = "Ilyas et al. 2018, arXiv 1804.08598"
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2")
    access: ClassVar[str] = "scores"

    norm: str = "linf"
    eps: float = 8 / 255
    queries: int = 5000
    samples: int = 50
    sigma: float = 0.001
    step_size: float | None = None
    loss: str = "margin"
    early_stop: bool = True

    def __post_init__(self) -> None:
        self.check_norm()
        check_eps(self.norm, self.eps)
        check_count("queries", self.queries)
        check_count("samples", self.samples, 2)
        require(
            self.samples == NES.samples or self.samples + 2 <= self.queries,
            f"a step of {self.samples} samples needs {self.samples + 2} queries, there are {self.queries}: "
            "give more queries or fewer samples",
        )
        check_positive("sigma", self.sigma, 1)
        check_optional("step_size", self.step_size)
        check_loss(self.loss)
        check_flag("early_stop", self.early_stop)

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        steps = max(1, (self.queries - 1) // (self.samples + 1))
        step = self.step_size or min(self.eps, 2.5 * self.eps / steps)
        method = _Nes(
            norm=norms.get(self.norm),
            eps=self.eps,
            step=step,
            queries=self.queries,
            samples=self.samples,
            sigma=self.sigma,
            loss=self.loss,
            early_stop=self.early_stop,
        )
        return search(model, problem, method, self.queries - 1).point
