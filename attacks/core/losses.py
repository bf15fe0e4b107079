"""What an ascent raises: cross-entropy, margin or the ratio of logits, away from a label, towards a target, or towards
one rival after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..model.classifier import Classifier
from .goal import Goal
from .method import Best
from .problem import Problem
from .restarts import restarted
from .validation import check_choice, check_ratio

LOSSES = ("ce", "margin", "dlr")


def check_loss(loss: str) -> None:
    check_choice("loss", loss, LOSSES)


@dataclass(frozen=True)
class Aim:
    """A loss towards a goal; with a rival, towards that class alone (an untargeted goal counts any other as well)."""

    goal: Goal
    loss: str
    rival: Tensor | None = None  # int64 [B]

    def __call__(self, logits: Tensor) -> Tensor:
        """What is to be raised [B].

        "ce": cross-entropy, without its saturation (`Goal.loss`). "margin": the difference of two logits, the largest
        of the others and the class's (Carlini & Wagner 2017). "dlr": that difference over another, which no scaling
        or shift of the logits changes (Croce & Hein 2020): over `first - third`, or with a rival or a target over
        `first - (third + fourth) / 2`.

        Raises:
            ValueError: dlr of fewer than 3 classes, or 4 with a rival or a target: it is not defined.
        """
        if self.loss == "ce":
            return (self.goal if self.rival is None else Goal(self.rival, True, self.goal.highest)).loss(logits)
        if self.rival is None:
            ahead = -self.goal.margin(logits)
        else:
            own, rival = (logits.gather(1, at[:, None]).squeeze(1) for at in (self.goal.classes, self.rival))
            ahead = rival - own
        if self.loss == "margin":
            return ahead
        aimed = self.goal.targeted or self.rival is not None
        check_ratio(logits.shape[1], aimed)
        top = logits.topk(4 if aimed else 3, dim=1).values
        spread = top[:, 0] - (top[:, 2:].mean(1) if aimed else top[:, 2])
        return ahead / (spread + 1e-12)

    def take(self, keep: Tensor) -> Aim:
        return Aim(self.goal.take(keep), self.loss, None if self.rival is None else self.rival[keep])


def rivals(model: Classifier, problem: Problem, count: int) -> Tensor:
    """The most likely classes that are not the label, int64 [B, K'] with K' at most `count`; costs one forward unless
    the problem knows the answer."""
    if problem.logits is None:
        problem.spend(1)
    logits = problem.goal.others(model.logits(problem.x) if problem.logits is None else problem.logits)
    return logits.topk(min(count, logits.shape[1] - 1), dim=1).indices


def towards(
    model: Classifier,
    problem: Problem,
    targets: int,
    restarts: int,
    early_stop: bool,
    climb: Callable[[Problem, Tensor, Tensor | None], Best],
) -> Best:
    """The best of `climb(problem, number of each row's start, rivals)`: `restarts` times away from the label, or, with
    `targets`, towards each of so many most likely wrong classes; a targeted goal has its one target already."""
    if targets == 0 or problem.goal.targeted:
        return restarted(problem, restarts, early_stop, lambda rows, starts, _: climb(rows, starts, None))
    classes = rivals(model, problem, targets)

    def run(rows: Problem, starts: Tensor, left: Tensor) -> Best:
        return climb(rows, starts, classes[left, (starts // restarts).to(left.device)])

    return restarted(problem, restarts * classes.shape[1], early_stop, run)
