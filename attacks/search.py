"""The one loop of every attack: evaluate, keep the best point ever seen, drop finished rows, step.

An attack brings a `Method`: what to differentiate, how to score a point, and where to go next. Its state is a
dataclass of tensors with the batch in front, so that it shrinks with the rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from .base import Problem
from .classifier import Classifier


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
    value: Tensor  # [B], the objective
    gradient: Tensor  # of the value, like the points; empty for a blind method


S = TypeVar("S", bound=State)


class Method(Protocol[S]):
    """What an attack adds to the loop."""

    @property
    def exact(self) -> bool:
        """Whether it needs gradients in full precision, as one that compares small differences of values does."""

    @property
    def blind(self) -> bool:
        """Whether it looks at the model's answers alone and needs no gradient."""

    def begin(self, problem: Problem) -> S:
        """The first points."""

    def objective(self, state: S, logits: Tensor) -> Tensor:
        """What is differentiated [B]."""

    def score(self, problem: Problem, state: S, margin: Tensor) -> Tensor:
        """How good each current point is as an answer [B]: smaller is better, inf is no answer."""

    def advance(self, problem: Problem, state: S, seen: Evaluation) -> None:
        """Move `state` on to the next points, and mark rows that are done."""


@dataclass
class Best:
    """The best point ever evaluated, per row."""

    point: Tensor
    score: Tensor  # inf where no point was an answer; such a row holds x

    def offer(self, rows: Tensor, point: Tensor, score: Tensor) -> None:
        better = score < self.score[rows]
        if better.any():
            where = rows[better]
            self.point[where] = point[better]
            self.score[where] = score[better]


def search(model: Classifier, problem: Problem, method: Method[S], rounds: int) -> Best:
    """Run `method` for at most `rounds` evaluations a row, with gradients unless it is blind, and evaluate the
    last point too."""
    best = Best(problem.x.clone(), problem.x.new_full((len(problem.x),), torch.inf))
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
        if last or method.blind:
            logits = model.logits(state.point)
            value, gradient = logits.new_empty(0), logits.new_empty(0)
        else:
            logits, value, gradient = model.gradient(state.point, partial(method.objective, state), exact=method.exact)
        margin = problem.goal.margin(logits)
        score = method.score(problem, state, margin)
        if model.precision != "fp32" and not (last or method.blind or method.exact):
            # What rounded arithmetic claims is judged again before it counts or a row is let go.
            claims = ((margin < 0) & (score < best.score[rows])).nonzero().squeeze(1)
            if len(claims):
                margin[claims] = problem.goal.take(claims).margin(model.logits(state.point[claims]))
                score = method.score(problem, state, margin)
        best.offer(rows, state.point, score)
        if last:
            break
        method.advance(problem, state, Evaluation(margin, value, gradient))
    return best


def restarted(problem: Problem, starts: int, early_stop: bool, run: Callable[[Problem, int], Best]) -> Best:
    """The best of several starts, `run(rows, number of the start)`; with early_stop a row that one start fools is left
    out of the next."""
    best = Best(problem.x.clone(), problem.x.new_full((len(problem.x),), torch.inf))
    left = torch.arange(len(problem.x), device=problem.x.device)
    for start in range(starts):
        found = run(problem.take(left), start)
        best.offer(left, found.point, found.score)
        if early_stop:
            left = left[best.score[left] >= 0]
        if len(left) == 0:
            break
    return best


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
