"""Verification in full precision of successes found with bf16 gradients."""

from __future__ import annotations

from typing import Generic

import torch
from torch import Tensor

from ..model.classifier import Classifier
from .method import Best, Method, S
from .problem import Problem


class Claims(Generic[S]):
    """Successes claimed in bf16, each verified in full precision at once or at the end of the search.

    A row's first success is verified at once. Where the method `deepens`, a better one of the same row is accepted
    unverified, which saves a forward at each step; the last of them is verified at the end, and where it fails the row
    goes back to the success that was verified before.
    """

    def __init__(self, model: Classifier, problem: Problem, method: Method[S], best: Best) -> None:
        self.model, self.problem, self.method, self.best = model, problem, method, best
        self.verified: Best | None = None  # the last verified success of the rows that are pending
        self.pending = torch.zeros_like(best.score, dtype=torch.bool)

    def verify(self, problem: Problem, rows: Tensor, state: S, margin: Tensor, *, score: Tensor, exact: bool) -> Tensor:
        """Correct the scores [B] of new successes by full-precision margins, and `margin` [B] in place.

        `exact` says that the margins are in full precision already.
        """
        better = (margin < 0) & (score < self.best.score[rows])
        if exact:
            self.pending[rows[better]] = False
            return score
        has = self.best.score[rows] < 0
        claims = (better & ~has if self.method.deepens else better).nonzero().squeeze(1)
        if len(claims):
            margin[claims] = self._margins(problem.take(claims), state.point[claims])
            score = self.method.score(problem, state, margin)
        if self.method.deepens:
            self._accept(rows[better & has])
        return score

    def _accept(self, rows: Tensor) -> None:
        new = rows[~self.pending[rows]]
        if len(new):
            if self.verified is None:
                self.verified = Best(self.best.point.clone(), self.best.score.clone())
            self.verified.point[new], self.verified.score[new] = self.best.point[new], self.best.score[new]
            self.pending[new] = True

    def verify_pending(self) -> None:
        """Verify the successes that were accepted unverified, and undo those that fail."""
        if self.verified is None:
            return
        rows = self.pending.nonzero().squeeze(1)
        if len(rows) == 0:
            return
        margin = self._margins(self.problem.take(rows), self.best.point[rows])
        holds = margin < 0
        self.best.score[rows] = torch.where(holds, margin.to(self.best.score), self.verified.score[rows])
        back = rows[~holds]
        self.best.point[back] = self.verified.point[back]

    def _margins(self, problem: Problem, points: Tensor) -> Tensor:
        problem.spend(self.method.draws)
        return problem.goal.margin(self.model.logits(points, draws=self.method.draws))
