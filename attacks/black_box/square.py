"""Square: random search with squares that shrink, on the model's scores alone, in L∞, L2 and L1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.attack import Attack
from ..core.losses import Aim
from ..core.method import Best, Evaluation, Method, State
from ..core.problem import Problem
from ..core.random_draws import Draws, row_generator
from ..core.restarts import best_of_starts
from ..core.search import search
from ..core.validation import check_choice, check_count, check_eps, check_flag, check_positive, require
from ..geometry import norms
from ..model.classifier import Classifier
from .square_windows import Frame, Window, bumps

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries: the share of pixels halves after each
_TILES = 5  # a side, in the first perturbation in L2 and L1
_FILLINGS = 2
_LOSSES = ("margin", "ce")


@dataclass
class _SquareState(State):
    aim: Aim
    dice: Draws
    turn: int
    kept: Tensor  # the point of the highest value so far
    value: Tensor  # [B] there
    window: Window | None  # its size, and what goes with it; shared by all rows


@dataclass(frozen=True)
class _Square(Method[_SquareState]):
    """See `search.Method`; algorithms 1 to 3 of the paper."""

    norm: norms.Norm
    eps: float
    queries: int
    p_init: float
    loss: str
    starts: Tensor  # int64 [B] on the CPU, numbers of the random starts
    early_stop: bool
    blind: bool = True

    def begin(self, problem: Problem) -> _SquareState:
        x, frame = problem.x, Frame.of(problem.x)
        rows = len(x)
        names = zip(problem.ids.tolist(), (2 * self.starts).tolist(), strict=True)
        first = [row_generator(problem.seed, *name) for name in names]
        start = self._stripes(x, frame, first) if self.norm.name == "linf" else self._tiles(x, frame, first)
        return _SquareState(
            point=start,
            done=torch.zeros(rows, dtype=torch.bool, device=x.device),
            aim=Aim(problem.goal, self.loss),
            dice=Draws.of(problem, (5 + frame.channels,), 2 * self.starts + 1, uniform=True),
            turn=0,
            kept=start,
            value=x.new_full((rows,), -torch.inf),
            window=None,
        )

    def score(self, problem: Problem, state: _SquareState, margin: Tensor) -> Tensor:
        return margin

    def advance(self, problem: Problem, state: _SquareState, seen: Evaluation) -> None:
        if self.early_stop:
            state.done = problem.shared(seen.margin < 0)
        value = -seen.margin if self.loss == "margin" else state.aim(seen.logits)
        higher = value > state.value
        state.value = torch.where(higher, value, state.value)
        state.kept = torch.where(higher.view(-1, *[1] * (state.point.dim() - 1)), state.point, state.kept)
        x, frame = problem.x, Frame.of(problem.x)
        sparse = self.norm.name != "linf"
        size = frame.window(self._share(state.turn), 3 if sparse else 1)
        if state.window is None or state.window[:2] != size:
            state.window = Window.of(frame, size, self.norm, x)
        state.turn += 1
        numbers = state.dice.roll()
        signs = _signs(numbers[:, 5:])[:, :, None].to(x.dtype)
        move = self._bumped if sparse else self._flat
        state.point = move(x, frame, state.kept, window=state.window, numbers=numbers, signs=signs)

    def _share(self, turn: int) -> float:
        """Of the pixels in the window: the paper's schedule for 10,000 queries, stretched to the budget."""
        passed = int(turn / self.queries * 10_000)
        return self.p_init * 0.5 ** sum(passed > mark for mark in _HALVINGS)

    def _flat(self, x: Tensor, frame: Frame, kept: Tensor, window: Window, numbers: Tensor, signs: Tensor) -> Tensor:
        """L∞: a window where every channel goes all the way up or down."""
        at = window.places(numbers[:, :2], frame.channels)
        inside = _by_channel(x, frame).gather(2, at)
        inside = self.norm.point(inside, (self.eps * signs).expand_as(inside), self.eps)
        return _by_channel(kept, frame).scatter(2, at, inside).view_as(x)

    def _bumped(self, x: Tensor, frame: Frame, kept: Tensor, window: Window, numbers: Tensor, signs: Tensor) -> Tensor:
        """L2 and L1: a window gets what the budget leaves, and what a second window gives up."""
        at, emptied = (window.places(numbers[:, i : i + 2], frame.channels) for i in (0, 2))
        move = _by_channel(kept - x, frame)
        old = move.gather(2, at)
        outside = move.scatter(2, at, 0.0).scatter_(2, emptied, 0.0)
        power = self.norm.power
        whole, rest = self._sizes(move) ** power, self._sizes(outside) ** power
        unused = (self.eps**power - whole.sum(1, keepdim=True)).clamp(min=0)
        budget = (whole - rest + unused / frame.channels).clamp(min=0) ** (1 / power)
        bump = torch.where(numbers[:, 4, None, None] < 0.5, window.bumps[0], window.bumps[1]) * signs
        tiny = torch.finfo(x.dtype).tiny
        inside = bump + old / self._sizes(old).clamp(min=tiny)
        inside = inside * (budget / self._sizes(inside).clamp(min=tiny))
        return self._filling(x, outside.scatter(2, at, inside).view_as(x))

    def _filling(self, x: Tensor, move: Tensor) -> Tensor:
        """The point of a move that is brought to the length that is allowed, box included. The paper scales it and
        lets the box cut it short: in L2 with 1,000 queries, 106 of 200 digits survive that, and 68 this.

        What the box cuts off goes to the pixels that have room, twice: what is left then, the next turn fills.
        """
        low, high, power = -x, 1 - x, self.norm.power
        budget = ((1 - 1e-6) * self.eps) ** power
        stuck = torch.zeros_like(move)  # 1 or 0, as truth values are not vectorised
        ahead, inside = move, move.clamp(low, high)
        for _ in range(_FILLINGS):
            stuck = stuck.maximum(torch.ne(inside, ahead, out=torch.empty_like(move)))
            held = self.norm.size(inside * stuck) ** power
            free = (self.norm.size(inside) ** power - held).clamp_(min=torch.finfo(x.dtype).tiny)
            growth = (((budget - held).clamp_(min=0) / free) ** (1 / power)).clamp_(max=1e6)  # nothing stays nothing
            ahead = inside * (stuck + (1 - stuck) * growth.view(-1, *[1] * (x.dim() - 1)))
            inside = ahead.clamp(low, high)
        return self.norm.rounded(x, inside, self.eps)

    def _sizes(self, move: Tensor) -> Tensor:
        """Of each channel, [B, C, 1]."""
        return self.norm.size(move.flatten(0, 1)).view(*move.shape[:2], 1)

    def _stripes(self, x: Tensor, frame: Frame, generators: list[torch.Generator]) -> Tensor:
        """L∞: every column of every channel all the way up or down."""
        shape = (frame.channels, 1, frame.width)
        drawn = torch.stack([_signs(torch.rand(shape, generator=generator)) for generator in generators])
        stripes = drawn.to(x).expand(-1, -1, frame.height, -1)
        return self.norm.point(x, self.eps * stripes.reshape(x.shape), self.eps)

    def _tiles(self, x: Tensor, frame: Frame, generators: list[torch.Generator]) -> Tensor:
        """L2 and L1: bumps of random signs side by side."""
        down, across = min(_TILES, frame.height), min(_TILES, frame.width)
        tile = (frame.height // down, frame.width // across)
        top, left = (frame.height - tile[0] * down) // 2, (frame.width - tile[1] * across) // 2
        drawn = [torch.rand(frame.channels * down * across + 1, generator=generator) for generator in generators]
        numbers = torch.stack(drawn).to(x)
        signs = _signs(numbers[:, 1:]).view(-1, frame.channels, down, 1, across, 1)
        patterns = [bump.view(tile[0], 1, tile[1]) for bump in bumps(tile, self.norm, x)]
        chosen = torch.where(numbers[:, 0].view(-1, 1, 1, 1, 1, 1) < 0.5, patterns[0], patterns[1])
        move = x.new_zeros(len(x), *frame)
        move[:, :, top : top + tile[0] * down, left : left + tile[1] * across] = (signs * chosen).reshape(
            len(x), frame.channels, tile[0] * down, tile[1] * across
        )
        return self._filling(x, move.view_as(x))


def _signs(numbers: Tensor) -> Tensor:
    return torch.where(numbers < 0.5, -1.0, 1.0)


def _by_channel(x: Tensor, frame: Frame) -> Tensor:
    """[B, C, H * W]."""
    return x.reshape(len(x), frame.channels, frame.height * frame.width)


@dataclass(frozen=True)
class Square(Attack):
    """Square attack: change a random square of the picture, keep it if the score got worse; no gradient.

    Andriushchenko et al. 2020, arXiv 1912.00049; in L1 as in Croce & Hein 2021, arXiv 2103.01208. Unlike theirs,
    every row has a square of its own in each turn, and the budget counts the first look as well.

    Args:
        norm: "linf", "l2" or "l1".
        eps: radius of the ball, in pixel units of [0,1].
        queries: evaluations of the model per row, in all; the starts share them.
        restarts: random starts per row, of the first and of the others side by side; each draws from (seed, sample id,
            restart).
        p_init: share of the pixels in the first squares, at most 1; it falls on the paper's schedule, stretched to
            the budget.
        loss: "margin" or "ce" (cross-entropy).
        early_stop: let a row go once it is fooled. Off, all queries are made and the point with the best margin
            is returned.

    Raises:
        ValueError: a parameter out of range; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    >>> x = torch.full((3, 1, 4, 4), 0.5)
    >>> adv = Square(eps=0.1, queries=50)(lambda x: net(x).detach(), x, torch.tensor([0, 1, 0]), seed=7)
    >>> bool(((adv - x).abs() <= 0.1 + 1e-6).all())
    True
    """

    name: ClassVar[str] = "square"
    title: ClassVar[str] = "Square"
    paper: ClassVar[str] = "Andriushchenko et al. 2020, arXiv 1912.00049"
    access: ClassVar[str] = "scores"

    norm: str = "linf"
    eps: float = 8 / 255
    queries: int = 5000
    restarts: int = 1
    p_init: float = 0.8
    loss: str = "margin"
    early_stop: bool = True

    def __post_init__(self) -> None:
        check_eps(self.norm, self.eps)
        check_count("queries", self.queries)
        check_count("restarts", self.restarts)
        require(self.restarts <= self.queries, f"{self.restarts} restarts need at least as many queries")
        check_positive("p_init", self.p_init, 1)
        check_choice("loss", self.loss, _LOSSES)
        check_flag("early_stop", self.early_stop)

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        return self.best(model, problem).point

    def best(self, model: Classifier, problem: Problem) -> Best:
        """The best points, and their margins for a score."""

        def walk(rows: Problem, starts: Tensor, _: Tensor) -> Best:
            queries = self.queries // self.restarts
            if not starts.any():
                queries += self.queries % self.restarts  # the first start is made by itself
            method = _Square(
                norms.get(self.norm),
                self.eps,
                queries,
                p_init=self.p_init,
                loss=self.loss,
                starts=starts,
                early_stop=self.early_stop,
            )
            return search(model, rows, method, queries - 1)

        return best_of_starts(problem, self.restarts, self.early_stop, walk)
