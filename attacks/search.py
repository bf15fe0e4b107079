"""The one loop of every attack: evaluate, keep the best point ever seen, drop finished rows, step.

An attack brings a `Method`: what to differentiate, how to score a point, and where to go next. Its state is a
dataclass of tensors with the batch in front, so that it shrinks with the rows.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import torch
from torch import Tensor

from .classifier import Classifier
from .problem import Problem


@dataclass
class State:
    """Where each row stands. Subclasses add tensors [B, ...]; anything else is shared by all rows."""

    point: Tensor  # [B, ...] to evaluate next
    done: Tensor  # bool [B]

    def take(self, keep: Tensor) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                setattr(self, field.name, value[keep])
            elif hasattr(value, "take"):
                setattr(self, field.name, value.take(keep))


@dataclass(frozen=True)
class Evaluation:
    """What the model said of the current points."""

    margin: Tensor  # [B], negative where the goal is reached; full precision wherever a new best is claimed
    value: Tensor  # the objective, [B] or [B, M]
    gradient: Tensor  # of the value, like the points or [B, M, ...]; empty for a blind method
    logits: Tensor  # [B, K]


S = TypeVar("S", bound=State)


class Method(ABC, Generic[S]):
    """What an attack adds to the loop."""

    exact: bool = False  # gradients in full precision, which comparing small differences of values needs
    blind: bool = False  # looks at the model's answers alone and needs no gradient
    draws: int = 1  # queries per evaluation that are averaged, for a model that answers at random
    objectives: int = 1  # columns of the objective, each with a gradient of its own
    deepens: bool = False  # any point that reaches the goal is an answer; a better one is welcome, not needed

    @abstractmethod
    def begin(self, problem: Problem) -> S:
        """The first points."""

    def objective(self, state: S, logits: Tensor) -> Tensor:
        """What is differentiated [B], or [B, `objectives`], each column by itself; a blind method has none."""
        raise NotImplementedError

    @abstractmethod
    def score(self, problem: Problem, state: S, margin: Tensor) -> Tensor:
        """How good each current point is as an answer [B]: smaller is better, inf is no answer."""

    @abstractmethod
    def advance(self, problem: Problem, state: S, seen: Evaluation) -> None:
        """Move `state` on to the next points, and mark rows that are done."""


@dataclass
class Best:
    """The best point ever evaluated, per row."""

    point: Tensor
    score: Tensor  # inf where no point was an answer; such a row holds x

    def offer(self, rows: Tensor, point: Tensor, score: Tensor) -> None:
        better = (score < self.score[rows]).nonzero().squeeze(1)
        if len(better):
            where = rows[better]
            self.point.index_copy_(0, where, point.index_select(0, better))  # at twice the speed of indexing
            self.score[where] = score[better]


class _Claims(Generic[S]):
    """What arithmetic in bf16 says of points, as far as it need not be judged at once.

    A row's first answer is judged in full precision. Of one that has its answer, a method that deepens is believed
    that the next is better, which saves a forward at each step; the last of them is judged at the end, and where it is
    no answer the one before all of them stands.
    """

    def __init__(self, model: Classifier, problem: Problem, method: Method[S], best: Best) -> None:
        self.model, self.problem, self.method, self.best = model, problem, method, best
        self.sure: Best | None = None  # the judged answers of rows that have others by now
        self.open = torch.zeros_like(best.score, dtype=torch.bool)

    def judge(self, problem: Problem, rows: Tensor, state: S, margin: Tensor, score: Tensor, exact: bool) -> Tensor:
        """The scores, those of new answers from margins in full precision; `margin` is corrected in place."""
        better = (margin < 0) & (score < self.best.score[rows])
        if exact:
            self.open[rows[better]] = False
            return score
        has = self.best.score[rows] < 0
        claims = (better & ~has if self.method.deepens else better).nonzero().squeeze(1)
        if len(claims):
            margin[claims] = self._margins(problem.take(claims), state.point[claims])
            score = self.method.score(problem, state, margin)
        if self.method.deepens:
            self._keep(rows[better & has])
        return score

    def _keep(self, rows: Tensor) -> None:
        new = rows[~self.open[rows]]
        if len(new):
            if self.sure is None:
                self.sure = Best(self.best.point.clone(), self.best.score.clone())
            self.sure.point[new], self.sure.score[new] = self.best.point[new], self.best.score[new]
            self.open[new] = True

    def settle(self) -> None:
        """Judge what was believed."""
        if self.sure is None:
            return
        rows = self.open.nonzero().squeeze(1)
        if len(rows) == 0:
            return
        margin = self._margins(self.problem.take(rows), self.best.point[rows])
        holds = margin < 0
        self.best.score[rows] = torch.where(holds, margin.to(self.best.score), self.sure.score[rows])
        back = rows[~holds]
        self.best.point[back] = self.sure.point[back]

    def _margins(self, problem: Problem, points: Tensor) -> Tensor:
        problem.spend(self.method.draws)
        return problem.goal.margin(self.model.logits(points, draws=self.method.draws))


def search(model: Classifier, problem: Problem, method: Method[S], rounds: int) -> Best:
    """Run `method` for at most `rounds` evaluations a row, with gradients unless it is blind, and evaluate the
    last point too."""
    best = Best(problem.x.clone(), problem.x.new_full((len(problem.x),), torch.inf))
    rounded = model.precision != "fp32" and not (method.blind or method.exact)
    claims = _Claims(model, problem, method, best) if rounded else None
    rows = torch.arange(len(problem.x), device=problem.x.device)
    state = method.begin(problem)
    # Packing reads `done` back from the device: every round on the CPU, seldom where that stalls a queue.
    interval = 1 if problem.x.device.type == "cpu" else 4
    for turn in range(rounds + 1):
        if turn % interval == 0 and bool(state.done.any()):
            keep = (~state.done).nonzero().squeeze(1)
            rows, problem = rows[keep], problem.take(keep)
            state.take(keep)
        if len(rows) == 0:
            break
        last = turn == rounds
        blind = last or method.blind
        problem.spend(method.draws, 0 if blind else method.draws * method.objectives)
        if blind:
            logits = model.logits(state.point, draws=method.draws)
            value, gradient = logits.new_empty(0), logits.new_empty(0)
        else:
            logits, value, gradient = model.gradient(
                state.point, partial(method.objective, state), exact=method.exact, draws=method.draws
            )
        margin = problem.goal.margin(logits)
        score = method.score(problem, state, margin)
        if claims is not None:
            score = claims.judge(problem, rows, state, margin, score, last)
        best.offer(rows, state.point, score)
        if problem.trace is not None:
            problem.trace.note(problem.rows, score, margin < 0)
        if last:
            break
        method.advance(problem, state, Evaluation(margin, value, gradient, logits))
    if claims is not None:
        claims.settle()
    return best


Run = Callable[[Problem, Tensor, Tensor], Best]  # of rows, the number of each one's start, and which rows they are


def restarted(problem: Problem, starts: int, early_stop: bool, run: Run) -> Best:
    """The best of several starts: the first by itself, the others side by side, which costs small batches less. With
    early_stop a row that one fools is left out of those that follow."""
    best = Best(problem.x.clone(), problem.x.new_full((len(problem.x),), torch.inf))
    left = torch.arange(len(problem.x), device=problem.x.device)
    for numbers in (range(1), range(1, starts)):
        if early_stop:
            left = left[best.score[left] >= 0]
        if len(left) and len(numbers):
            found = abreast(problem, left, numbers, run)
            best.offer(left, found.point, found.score)
    return best


def abreast(problem: Problem, left: Tensor, numbers: range, run: Run) -> Best:
    """For each row of `left` the best of the starts of these numbers, made in one batch as far as there is room."""
    many, parts = len(numbers), []
    for some in torch.split(left, max(1, max(problem.room, len(left)) // many)):
        starts = torch.tensor(numbers).repeat(len(some))
        found = run(problem.side_by_side(some, many), starts, some.repeat_interleave(many))
        first = torch.arange(len(some), device=some.device) * many
        chosen = first + found.score.view(-1, many).argmin(1)
        parts.append(Best(found.point[chosen], found.score[chosen]))
    return Best(torch.cat([part.point for part in parts]), torch.cat([part.score for part in parts]))


def row_generator(seed: int, sample: int, stream: int) -> torch.Generator:
    """Random numbers that depend on (seed, sample, stream) alone: not on the batch, its order or the device.

    The three are mixed by splitmix64's finaliser (Steele et al. 2014), so that neighbours share nothing.
    """
    mask = (1 << 64) - 1
    state = 0
    for part in (seed, sample, stream):
        state = (state + part + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return torch.Generator().manual_seed(state & (mask >> 1))
