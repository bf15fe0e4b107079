"""AutoAttack: four attacks that fail in different ways, one after the other on the rows that are left."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from ..black_box.square import Square
from ..bounded.apgd import APGD, _Apgd
from ..core.attack import Attack
from ..core.method import Best
from ..core.problem import Problem
from ..core.search import search
from ..core.validation import check_choice, check_eps, check_flag
from ..geometry import norms
from ..minimum_norm.fab import FAB, search_fab
from ..model.classifier import Classifier

_VERSIONS = ("standard", "plus", "rand")
_NEAR = 1.1  # of eps: the points of FAB that are worth a climb
_DRAWS = 20  # queries averaged in the version for models that answer at random


@dataclass(frozen=True)
class AutoAttack(Attack):
    """A cascade of attacks without settings of their own, each on the rows that the ones before did not fool.

    Croce & Hein 2020, arXiv 2003.01690; in L1, Croce & Hein 2021, arXiv 2103.01208. Beyond the paper, where FAB ends
    just outside the ball its point is drawn in and APGD climbs on from there: those rows are the nearest to falling. A
    row that is wrong from the start comes back as it is; one that survives, as the point with the best margin that any
    stage has seen. With a target every stage goes towards it alone, and "plus" leaves out its last two, which would
    repeat the others.

    Args:
        norm: "linf", "l2" or "l1".
        eps: radius of the ball, in pixel units of [0,1].
        version: "standard": APGD on the cross-entropy, APGD on the logit ratio towards each of 9 classes, FAB towards
            each of 9, Square (in L1 the first with 5 restarts, the second towards 5). "plus": APGD on the
            cross-entropy and on the logit ratio and FAB, with 5 restarts each, Square, and the targeted two. "rand",
            for models that answer at random: APGD on the cross-entropy and on the logit ratio, 20 draws averaged.
            Where there are too few classes for the ratio, the margin takes its place.
        steps: of APGD and FAB, per row, start and target; 100 in the paper.
        queries: of Square; 5000 in the paper.
        early_stop: let a row go once it is fooled. Off, every row goes through every stage in full.

    Raises:
        ValueError: a parameter out of range; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    >>> x = torch.full((3, 1, 2, 2), 0.5)
    >>> adv = AutoAttack(eps=0.1, steps=10, queries=20)(net, x, torch.tensor([0, 1, 2]), seed=7)
    >>> bool(((adv - x).abs() <= 0.1 + 1e-6).all())
    True
    """

    name: ClassVar[str] = "autoattack"
    title: ClassVar[str] = "AutoAttack"
    paper: ClassVar[str] = "Croce & Hein 2020, arXiv 2003.01690"

    norm: str = "linf"
    eps: float = 8 / 255
    version: str = "standard"
    steps: int = 100
    queries: int = 5000
    early_stop: bool = True

    def __post_init__(self) -> None:
        check_eps(self.norm, self.eps)
        check_choice("version", self.version, _VERSIONS)
        self.check_counts("steps", "queries")
        check_flag("early_stop", self.early_stop)

    def stages(self, classes: int, *, targeted: bool = False) -> tuple[APGD | FAB | Square, ...]:
        """The attacks in their order, for a model of so many classes."""
        apgd = partial(APGD, self.norm, self.eps, self.steps, early_stop=self.early_stop)
        fab = partial(FAB, self.norm, self.steps)
        square = Square(self.norm, self.eps, self.queries, early_stop=self.early_stop)
        aimed = "dlr" if classes >= 4 else "margin"
        free = "dlr" if classes >= 3 and not targeted else aimed
        if self.version == "rand":
            return apgd(eot=_DRAWS), apgd(loss=free, eot=_DRAWS)
        if self.version == "plus":
            away = (apgd(restarts=5), apgd(restarts=5, loss=free), fab(restarts=5, targets=0), square)
            return away if targeted else (*away, apgd(loss=aimed, targets=9), fab(targets=9))
        starts, targets = (5, 5) if self.norm == "l1" else (1, 9)
        return apgd(restarts=starts), apgd(loss=aimed, targets=targets), fab(targets=9), square

    def notes(self, classes: int) -> tuple[str, ...]:
        stages, found = self.stages(classes), []
        if any(isinstance(stage, APGD) and stage.loss == "margin" for stage in stages):
            found.append(
                f"The model has {classes} classes, too few for the logit ratio: AutoAttack climbs the margin instead."
            )
        targets = max((stage.targets for stage in stages if not isinstance(stage, Square)), default=0)
        if targets >= classes:
            found.append(f"The model has {classes} classes: AutoAttack has {classes - 1} targets, not {targets}.")
        return tuple(found)

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        draws = _DRAWS if self.version == "rand" else 1
        problem.spend(draws)
        logits = model.logits(problem.x, draws=draws)
        margin = problem.goal.margin(logits)
        if problem.trace is not None:
            problem.trace.note(problem.rows, margin, margin < 0)
        known = dataclasses.replace(problem, logits=logits)
        best = Best(problem.x.clone(), margin)
        left = torch.arange(len(margin), device=margin.device)
        for stage in self.stages(logits.shape[1], targeted=problem.goal.targeted):
            if self.early_stop:
                left = left[best.score[left] >= 0]
            if len(left) == 0:
                break
            rows = known.take(left)
            found = self._fab(model, rows, stage) if isinstance(stage, FAB) else stage.best(model, rows)
            best.offer(left, found.point, found.score)
        return best.point

    def _fab(self, model: Classifier, problem: Problem, stage: FAB) -> Best:
        """FAB's points within eps, scored by their margin as the other stages' are."""
        norm, steps = norms.get(self.norm), stage.steps
        found = search_fab(
            model,
            problem,
            norm,
            steps=steps,
            restarts=stage.restarts,
            targets=stage.targets,
            within=(1 - 1e-6) * self.eps,
        )
        margin = torch.full_like(found.score, torch.inf)
        within = (norm.size((found.point - problem.x).double()) <= self.eps) & torch.isfinite(found.score)
        inside = within.nonzero().squeeze(1)
        if len(inside):
            rows = problem.take(inside)
            rows.spend(1)
            margin[inside] = rows.goal.margin(model.logits(found.point[inside]))
            if rows.trace is not None:
                rows.trace.note(rows.rows, margin[inside], margin[inside] < 0)
        best = Best(found.point, margin)
        near = (~within & (found.score <= _NEAR * self.eps)).nonzero().squeeze(1)
        if len(near):
            method = _Apgd(
                norm, self.eps, steps, loss="margin", starts=near, early_stop=self.early_stop, start=found.point[near]
            )
            climbed = search(model, problem.take(near), method, steps)
            best.offer(near, climbed.point, climbed.score)
        return best
