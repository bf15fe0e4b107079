"""Which model's adversarial points fool which other model."""

from __future__ import annotations

import torch
from torch import Tensor

from robustkit.attacks import MIFGSM
from robustkit.auditing.columns import Rows
from robustkit.auditing.plan import Plan
from robustkit.models.memory import HalvingBatch
from robustkit.reports import Rate, Transfer


class Exchange:
    """The transfer matrix of an audit with surrogates (Szegedy et al. 2014, table 2), a batch at a time.

    Points are made for each model at the largest ε, by momentum steps that do not stop at the first success (Dong et
    al. 2018: what only just fools one model hardly fools another). All models meet the same samples, those that every
    one of them gets right, so that what is wrong afterwards is the points' doing.
    """

    def __init__(self, plan: Plan, room: HalvingBatch) -> None:
        self.plan = plan
        self.room = room
        self.models = [plan.model, *plan.surrogates]
        self.eps = max(plan.eps)
        self.attack = MIFGSM(norm=plan.norm, eps=self.eps, steps=20, early_stop=False)
        self.makers = [model for model in self.models if model.access == "gradient"]
        self.wrong = torch.zeros(len(self.makers), len(self.models), dtype=torch.int64)
        self.samples = 0

    def add(self, rows: Rows) -> None:
        """Make points for the rows on each model and try them on all."""
        for samples, wrong in self.room.parts(len(rows.x), lambda part: self._tried(rows.part(part))):
            self.samples += samples
            self.wrong += wrong

    def _tried(self, rows: Rows) -> tuple[int, Tensor]:
        """How many rows all models have right, and how many each maker's points make each model get wrong."""
        wrong = torch.zeros_like(self.wrong)
        right = torch.ones(len(rows.x), dtype=torch.bool, device=rows.x.device)
        for model in self.models[1:]:
            right &= model.logits(rows.x).argmax(1) == rows.y
        part = rows.take(right.nonzero().squeeze(1))
        if not len(part.x):
            return 0, wrong
        for row, maker in enumerate(self.makers):
            points = self.attack(maker, part.x, part.y, ids=part.ids, seed=self.plan.seed)
            for column, judge in enumerate(self.models):
                wrong[row, column] = int((judge.logits(points).argmax(1) != part.y).sum())
        return len(part.x), wrong

    def result(self) -> list[Transfer]:
        rates = [[Rate.of(int(count), self.samples) for count in row] for row in self.wrong]
        text = self.plan.eps[self.eps]
        names = [model.title for model in self.models]
        makers = [model.title for model in self.makers]
        return [Transfer(self.attack.title, self.eps, text, makers, names, rates)] if self.samples else []
