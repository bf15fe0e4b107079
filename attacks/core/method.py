"""Interface between an attack and the loop: its state, its method, and the best point found so far."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from .problem import Problem


@dataclass
class State:
    """State of the search, one entry a row. Subclasses add tensors [B, ...]; anything else is shared by all rows."""

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
    """Answers of the model at the current points."""

    margin: Tensor  # [B], negative where the goal is reached; full precision wherever a new best is claimed
    value: Tensor  # the objective, [B] or [B, M]
    gradient: Tensor  # of the value, like the points or [B, M, ...]; empty for a blind method
    logits: Tensor  # [B, K]


S = TypeVar("S", bound=State)


class Method(ABC, Generic[S]):
    """Step of an attack: first points, objective, score and next points."""

    exact: bool = False  # gradients in full precision, which comparing small differences of values needs
    blind: bool = False  # looks at the model's answers alone and needs no gradient
    draws: int = 1  # queries per evaluation that are averaged, for a model that answers at random
    objectives: int = 1  # columns of the objective, each with a gradient of its own
    deepens: bool = False  # any point that reaches the goal is an answer; a better one is welcome, not needed

    @abstractmethod
    def begin(self, problem: Problem) -> S:
        """The first points."""

    def objective(self, state: S, logits: Tensor) -> Tensor:
        """Objective to differentiate, [B] or [B, `objectives`], each column by itself; a blind method has none."""
        raise NotImplementedError

    @abstractmethod
    def score(self, problem: Problem, state: S, margin: Tensor) -> Tensor:
        """Score of each current point as an answer [B]: smaller is better, inf is no answer."""

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
