"""Losses that an ascent raises: cross-entropy, margin or difference-of-logits ratio, per row.

They lead away from a label, towards a target, or towards one runner-up class after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..model.classifier import Classifier
from .goal import Goal
from .method import Best
from .problem import Problem
from .restarts import best_of_starts
from .validation import check_choice, check_ratio

LOSSES = ("ce", "margin", "dlr")


def check_loss(loss: str) -> None:
    check_choice("loss", loss, LOSSES)


@dataclass(frozen=True)
class Aim:
    """Loss towards a goal; with a runner-up class, towards that one alone, where the goal may count any other."""

    goal: Goal
    loss: str
    runner_up: Tensor | None = None  # int64 [B]

    def __call__(self, logits: Tensor) -> Tensor:
        """Evaluate the loss to raise [B].

        "ce": cross-entropy, without its saturation (`Goal.loss`). "margin": the difference of two logits, the largest
        of the others and the class's (Carlini & Wagner 2017). "dlr": that difference over another, which no scaling
        or shift of the logits changes (Croce & Hein 2020): over `first - third`, or towards one class over
        `first - (third + fourth) / 2`.

        Raises:
            ValueError: dlr of fewer than 3 classes, or 4 towards one class: it is not defined.
        """
        if self.loss == "ce":
            return (self.goal if self.runner_up is None else Goal(self.runner_up, True, self.goal.highest)).loss(logits)
        if self.runner_up is None:
            ahead = -self.goal.margin(logits)
        else:
            own, runner_up = (logits.gather(1, at[:, None]).squeeze(1) for at in (self.goal.classes, self.runner_up))
            ahead = runner_up - own
        if self.loss == "margin":
            return ahead
        aimed = self.goal.targeted or self.runner_up is not None
        check_ratio(logits.shape[1], aimed)
        top = logits.topk(4 if aimed else 3, dim=1).values
        spread = top[:, 0] - (top[:, 2:].mean(1) if aimed else top[:, 2])
        return ahead / (spread + 1e-12)

    def take(self, keep: Tensor) -> Aim:
        return Aim(self.goal.take(keep), self.loss, None if self.runner_up is None else self.runner_up[keep])


def runners_up(model: Classifier, problem: Problem, count: int) -> Tensor:
    """Rank the most likely classes that are not the label, int64 [B, K'] with K' at most `count`.

    Costs one forward unless the problem holds the logits.
    """
    if problem.logits is None:
        problem.spend(1)
    logits = problem.goal.others(model.logits(problem.x) if problem.logits is None else problem.logits)
    return logits.topk(min(count, logits.shape[1] - 1), dim=1).indices


def towards(
    model: Classifier,
    problem: Problem,
    climb: Callable[[Problem, Tensor, Tensor | None], Best],
    *,
    targets: int,
    restarts: int = 1,
    early_stop: bool = False,
) -> Best:
    """Run `climb(problem, number of each row's start, runner-up classes)` and keep the best point of each row.

    It runs `restarts` times away from the label or, with `targets`, as often towards each of so many most likely wrong
    classes; a targeted goal has its one class already.
    """
    if targets == 0 or problem.goal.targeted:
        return best_of_starts(problem, restarts, early_stop, lambda rows, starts, _: climb(rows, starts, None))
    classes = runners_up(model, problem, targets)

    def run(rows: Problem, starts: Tensor, left: Tensor) -> Best:
        return climb(rows, starts, classes[left, (starts // restarts).to(left.device)])

    return best_of_starts(problem, restarts * classes.shape[1], early_stop, run)
