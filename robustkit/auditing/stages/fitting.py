"""Fitting, before the first batch: attacks that make one change for all samples look at them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator

from torch import Tensor

from robustkit.attacks.core.attack import Attack
from robustkit.auditing.columns import AttackCounts
from robustkit.auditing.journal import Journal
from robustkit.auditing.plan import Plan
from robustkit.auditing.progress import Progress
from robustkit.auditing.worker import Preparation
from robustkit.models.memory import HalvingBatch


def fit(plan: Plan, prepared: Preparation, journal: Journal, room: HalvingBatch, progress: Progress) -> Preparation:
    """Fit each attack of the plan that has to be, at each ε; what it took is written down."""
    fitted: dict[tuple[int, float | None], Attack] = {}
    for place, attack in enumerate(plan.attacks):
        if type(attack).fitted is Attack.fitted:
            continue
        progress.enter(f"fitting {attack.title}", 0)
        model, counts = plan.model, AttackCounts(inherited=[0] * len(plan.eps))
        started = time.monotonic()
        for eps in plan.stages(attack):
            sized = attack if eps is None else attack.at(eps)
            made: list[Attack] = []
            while not made:
                before = model.forwards, model.backwards
                made = room.attempt(room.rows, sized.fitted, model, lambda: _right(plan, room.rows), plan.seed)
            fitted[place, eps] = made[0]
            counts.forwards += model.forwards - before[0]
            counts.backwards += model.backwards - before[1]
        counts.seconds = time.monotonic() - started
        journal.append_fitting(place, counts)
    return dataclasses.replace(prepared, fitted=fitted)


def _right(plan: Plan, rows: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """A fresh pass over the samples that the model gets right: x, y and ids, so many rows at a time."""
    model = plan.model
    for batch in plan.data.batches(model, rows, plan.samples):
        x, y = batch.x.to(model.device), batch.y.to(model.device)
        right = (model.logits(x).argmax(1) == y).nonzero().squeeze(1)
        if len(right):
            yield x[right], y[right], batch.ids[right.cpu()]
