"""The transfer matrix of an audit with surrogates: which model's adversarial points fool which other model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from robustkit.attacks import MIFGSM
from robustkit.auditing.outcome import TransferCounts
from robustkit.auditing.plan import Plan
from robustkit.auditing.verdict import Rows
from robustkit.models.memory import HalvingBatch
from robustkit.reports import Rate, Transfer


class TransferMatrix:
    """Makes points on each model and tries them on all (Szegedy et al. 2014, table 2), a batch at a time.

    Points are made at the largest ε, by momentum steps that do not stop at the first success (Dong et al. 2018: what
    only just fools one model hardly fools another). All models meet the same samples, those that every one of them
    gets right, so that what is wrong afterwards is the points' doing.
    """

    def __init__(self, plan: Plan, room: HalvingBatch) -> None:
        self.plan = plan
        self.room = room
        self.models = [plan.model, *plan.surrogates]
        self.makers = [model for model in self.models if model.access == "gradient"]
        self.attack = MIFGSM(norm=plan.norm, eps=max(plan.eps), steps=20, early_stop=False)

    def counts(self, rows: Rows) -> TransferCounts:
        """How many of the rows all models have right, and how many each maker's points make each model get wrong."""
        parts = self.room.parts(len(rows), lambda part: self._part(rows.take(part)))
        return TransferCounts(sum(part.samples for part in parts), np.sum([part.wrong for part in parts], axis=0))

    def _part(self, rows: Rows) -> TransferCounts:
        wrong = np.zeros((len(self.makers), len(self.models)), dtype=np.int64)
        right = torch.ones(len(rows), dtype=torch.bool, device=rows.x.device)
        for model in self.models[1:]:
            right &= model.logits(rows.x).argmax(1) == rows.y
        part = rows.take(right.nonzero().squeeze(1))
        if not len(part):
            return TransferCounts(0, wrong)
        for row, maker in enumerate(self.makers):
            points = self.attack(maker, part.x, part.y, ids=part.ids, seed=self.plan.seed)
            for column, tried in enumerate(self.models):
                wrong[row, column] = int((tried.logits(points).argmax(1) != part.y).sum())
        return TransferCounts(len(part), wrong)


def transfer_table(plan: Plan, parts: Sequence[TransferCounts]) -> list[Transfer]:
    """The matrix as a record holds it; none where no sample was right on all models."""
    samples = sum(part.samples for part in parts)
    if not samples:
        return []
    wrong, eps = np.sum([part.wrong for part in parts], axis=0), max(plan.eps)
    models = [plan.model, *plan.surrogates]
    return [
        Transfer(
            attack=MIFGSM.title,
            eps=eps,
            text=plan.eps[eps],
            makers=[model.title for model in models if model.access == "gradient"],
            models=[model.title for model in models],
            wrong=[[Rate.of(int(count), samples) for count in row] for row in wrong],
        )
    ]
