"""Claims of success made in bf16, judged in full precision."""

from __future__ import annotations

from typing import Generic

import torch
from torch import Tensor

from ..model.classifier import Classifier
from .method import Best, Method, S
from .problem import Problem


class Claims(Generic[S]):
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
