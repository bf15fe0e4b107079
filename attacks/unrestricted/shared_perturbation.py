"""Shared perturbation: one change for all samples, found by ascent over minibatches."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn

from ..core.attack import Attack, Batch
from ..core.goal import Goal
from ..core.problem import Problem
from ..model.classifier import Classifier, as_classifier

Draw = Callable[[], Iterable[Problem]]

# Loss at which a row stops pulling, so that no few rows, fooled long ago, steer the change all others get.
_CEILING = 9.0


@dataclass(frozen=True)
class OneForAll(Attack):
    """An attack that finds a single change and makes it on every row.

    `fitted` finds it on samples; a call of an attack that is not fitted finds it on the rows of that very batch, the
    one case in which what comes back for a row depends on the others.
    """

    change: Tensor | None = field(default=None, init=False, repr=False, compare=False)  # what `fitted` found

    def fitted(self, model: Classifier | nn.Module, draw: Callable[[], Iterable[Batch]], seed: int = 0) -> Self:
        """See `Attack.fitted`; the result holds the change that it makes in `change`. Without samples, itself."""

        def problems() -> Iterator[Problem]:
            for x, y, ids in draw():
                goal = Goal.of(y.clone() if y.is_inference() else y, False)
                yield Problem(x.clone() if x.is_inference() else x, goal, ids.cpu(), seed, torch.arange(len(x)))

        model = as_classifier(model)
        self.check_access(model)
        with torch.inference_mode(False), torch.no_grad(), model.frozen():
            change = self.fit(model, problems)
        if change is None:
            return self
        fitted = copy.copy(self)
        # No argument of the constructor: with another hyperparameter the change would have to be found anew.
        object.__setattr__(fitted, "change", change)
        return fitted

    @abstractmethod
    def fit(self, model: Classifier, draw: Draw) -> Tensor | None:
        """The change [C, H', W'] for all the samples of `draw`; None if there are none."""

    def found(self, model: Classifier, problem: Problem) -> Tensor:
        """The change to make on this problem, like its x [1, ...]."""
        change = self.fit(model, lambda: [problem]) if self.change is None else self.change
        assert change is not None  # a problem has at least one row
        return change[None].to(problem.x)


def minibatches(draw: Draw, epochs: int, size: int) -> Iterator[tuple[int, float, Problem]]:
    """Iterate `epochs` times over all samples, at most `size` at a time.

    Yields the number of the step, its share of the full length, and the rows. Steps shrink evenly from epoch to epoch,
    so that the change settles.
    """
    turn = 0
    for epoch in range(epochs):
        for problem in draw():
            for first in range(0, len(problem.x), size):
                rows = torch.arange(first, min(first + size, len(problem.x)))
                yield turn, 1 - epoch / epochs, problem.take(rows)
                turn += 1


def uphill(model: Classifier, problem: Problem, point: Tensor) -> Tensor:
    """The gradient of each row's loss at a point, zero where the loss is high enough; one query each way."""
    problem.spend(1, 1)
    return model.gradient(point, lambda logits: problem.goal.loss(logits).clamp(max=_CEILING))[2]
