"""SimBA: one direction of a fixed basis after the other, forwards or backwards, kept if the score got worse."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.attack import Attack
from ..core.losses import Aim, check_loss
from ..core.method import Evaluation, Method, State
from ..core.problem import Problem
from ..core.random_draws import row_generator
from ..core.search import search
from ..core.validation import check_choice, check_count, check_eps, check_flag, check_positive
from ..geometry import norms
from ..geometry.norms import column
from ..model.classifier import Classifier

_BASES = ("pixel", "dct")
_LOWEST, _WIDER = 1 / 8, 1 / 32  # share of the frequencies a side that come first, and what each later group adds


@dataclass
class _SimbaState(State):
    aim: Aim
    order: Tensor  # int64 [B, n], of the directions
    place: Tensor  # int64 [B] in the order
    sign: Tensor  # [B] 1 or -1
    kept: Tensor  # like x
    value: Tensor  # [B] there
    first: bool  # whether the current points are the pictures themselves


@dataclass(frozen=True)
class _Simba(Method[_SimbaState]):
    """See `search.Method`; algorithm 1 of the paper, a query a turn."""

    norm: norms.Norm
    eps: float
    step: float
    basis: str
    loss: str
    early_stop: bool
    blind: bool = True

    def begin(self, problem: Problem) -> _SimbaState:
        x = problem.x
        zeros = x.new_zeros(len(x))
        values = x[0].numel()
        group = self._groups(_frame(x)) if self.basis == "dct" else torch.zeros(values)
        keys = [group + torch.rand(values, generator=row_generator(problem.seed, int(i), 0)) for i in problem.ids]
        return _SimbaState(
            point=x.clone(),
            done=torch.zeros_like(zeros, dtype=torch.bool),
            aim=Aim(problem.goal, self.loss),
            order=torch.stack([key.argsort() for key in keys]).to(x.device),
            place=torch.zeros_like(zeros, dtype=torch.int64),
            sign=torch.ones_like(zeros),
            kept=x,
            value=zeros,
            first=True,
        )

    def score(self, problem: Problem, state: _SimbaState, margin: Tensor) -> Tensor:
        return margin

    def advance(self, problem: Problem, state: _SimbaState, seen: Evaluation) -> None:
        x, value = problem.x, state.aim(seen.logits)
        if self.early_stop:
            state.done = seen.margin < 0
        if state.first:
            state.value, state.first = value, False
        else:
            better = value > state.value
            state.kept = torch.where(column(better, x), state.point, state.kept)
            state.value = torch.where(better, value, state.value)
            over = better | (state.sign < 0)
            state.place = (state.place + over) % state.order.shape[1]
            state.sign = torch.where(over, 1, -1).to(x)
        chosen = state.order.gather(1, state.place[:, None]).squeeze(1)
        move = column(self.step * state.sign, x) * self._direction(x, chosen)
        state.point = self.norm.point(x, state.kept + move - x, self.eps)

    def _direction(self, x: Tensor, chosen: Tensor) -> Tensor:
        """The chosen vectors [B] of the basis, like x."""
        if self.basis == "pixel":
            return torch.zeros_like(x).flatten(1).scatter_(1, chosen[:, None], 1.0).view_as(x)
        channels, height, width = _frame(x)
        down = _cosines(height, chosen // width % height, x)
        across = _cosines(width, chosen % width, x)
        channel = torch.nn.functional.one_hot(chosen // (height * width), channels).to(x)
        return (channel[:, :, None, None] * down[:, None, :, None] * across[:, None, None, :]).view_as(x)

    @staticmethod
    def _groups(frame: tuple[int, int, int]) -> Tensor:
        """Rank the directions [n] by their turn: low frequencies first."""
        channels, height, width = frame
        down, across = torch.arange(height) / height, torch.arange(width) / width
        level = torch.maximum(down[:, None], across)
        group = torch.where(level < _LOWEST, 0, 1 + ((level - _LOWEST) / _WIDER).floor())
        return group.flatten().repeat(channels)


def _frame(x: Tensor) -> tuple[int, int, int]:
    """Channels, height and width; a row of numbers is a picture of height 1."""
    return (x.shape[1], x.shape[2], x.shape[3]) if x.dim() == 4 else (1, 1, x.shape[1])


def _cosines(size: int, frequency: Tensor, like: Tensor) -> Tensor:
    """Rows of the orthonormal cosine transform, [B, size]."""
    at = torch.arange(size, device=like.device).to(like) + 0.5
    waves = (math.pi / size * at * frequency[:, None].to(like)).cos()
    return norms.unit(waves)


@dataclass(frozen=True)
class SimBA(Attack):
    """SimBA: step along a random direction of an orthonormal basis, forwards or backwards, if the score gets worse.

    Guo et al. 2019, arXiv 1905.07121. Steps that would leave the ball are projected back into it. After the last
    direction the first comes again. A row that is wrong already costs one query.

    Args:
        norm: "l2" or "linf".
        eps: radius of the ball, in pixel units of [0,1].
        queries: evaluations of the model per row, in all.
        basis: "pixel", or "dct": cosine waves, those of low frequency first.
        step_size: length of a step in L2, in pixel units.
        loss: "ce" (cross-entropy, the paper's probability), "margin" or "dlr"; see `losses.Aim`.
        early_stop: let a row go once it is fooled. Off, all queries are made and the point with the best margin
            is returned.

    Raises:
        ValueError: a parameter out of range; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    >>> x = torch.full((3, 1, 4, 4), 0.5)
    >>> adv = SimBA(eps=0.5, queries=50)(lambda x: net(x).detach(), x, torch.tensor([0, 1, 0]), seed=7)
    >>> bool(((adv - x).flatten(1).norm(dim=1) <= 0.5 + 1e-6).all())
    True
    """

    name: ClassVar[str] = "simba"
    title: ClassVar[str] = "SimBA"
    paper: ClassVar[str] = "Guo et al. 2019, arXiv 1905.07121"
    norms: ClassVar[tuple[str, ...]] = ("l2", "linf")
    access: ClassVar[str] = "scores"

    norm: str = "l2"
    eps: float = 1.0
    queries: int = 5000
    basis: str = "dct"
    step_size: float = 0.2
    loss: str = "ce"
    early_stop: bool = True

    def __post_init__(self) -> None:
        self.check_norm()
        check_eps(self.norm, self.eps)
        check_count("queries", self.queries)
        check_choice("basis", self.basis, _BASES)
        check_positive("step_size", self.step_size)
        check_loss(self.loss)
        check_flag("early_stop", self.early_stop)

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        method = _Simba(
            norms.get(self.norm), self.eps, self.step_size, basis=self.basis, loss=self.loss, early_stop=self.early_stop
        )
        return search(model, problem, method, self.queries - 1).point
