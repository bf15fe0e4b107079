"""The checks of an audit: of the model and data before it, and of its figures after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from robustkit.auditing.plan import Plan
from robustkit.auditing.progress import Progress
from robustkit.checks import evaluation, on_all_samples, preflight
from robustkit.reports import AuditRecord, CheckResult

_SAMPLES = 32
_GRAVITY = ("n/a", "pass", "warn", "error", "fail")


def before(plan: Plan, progress: Progress) -> list[CheckResult]:
    """Every check that needs no attack, on the first samples, right or wrong.

    Raises:
        ValueError: a model whose answers are of no use.
    """
    first = first_samples(plan, progress)
    if first is None:  # the audit says why
        return []
    progress.watch("checking model and data", 0, len(first[0]), 0)
    return preflight(plan.network, *first, plan.seed)


def first_samples(plan: Plan, progress: Progress) -> tuple[Tensor, Tensor] | None:
    """x and y of the first samples, right or wrong, on the model's device; None where there are none."""
    most = min(_SAMPLES, plan.samples or _SAMPLES, len(plan.data))
    batches = plan.data.batches(plan.model, most, most)
    progress.watch("reading the pictures", 0, plan.total, 0)
    batch = next(batches, None)
    batches.close()
    return None if batch is None else (batch.x.to(plan.model.device), batch.y.to(plan.model.device))


def again(record: AuditRecord) -> list[CheckResult]:
    """The checks of a record that further attacks were added to: what compares figures compares them anew, and a check
    that found something before still stands."""
    fresh = {check.id: check for check in evaluation(record)}
    both = ((check, fresh.get(check.id, check)) for check in record.checks)
    return [max(pair, key=lambda check: _GRAVITY.index(check.status)) for pair in both]


def after(plan: Plan, record: AuditRecord, progress: Progress) -> list[CheckResult]:
    """The checks from before the attacks, that of chance made of all samples, and every check of the finished audit; of
    votes, those that the record alone passes or fails."""
    progress.watch("checking the figures", 0, len(record.samples.ids), 0)
    before = on_all_samples(record, plan.model.num_classes)
    if plan.network is not plan.model:  # attacked again, the model would judge the points: its figures do not compare
        return before + evaluation(record)
    return before + evaluation(record, plan.model, plan.attacks, drawer(plan), plan.seed)


def drawer(plan: Plan) -> Callable[[Sequence[int]], tuple[Tensor, Tensor]]:
    """From ids of samples to their x and y, on the model's device."""

    def draw(ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        wanted, found = set(ids), dict[int, tuple[Tensor, Tensor]]()
        skipped = plan.data.skipped  # by the audit, which the record tells
        for batch in plan.data.batches(plan.model, plan.batch_size, plan.samples):
            for row, sample in enumerate(batch.ids.tolist()):
                if sample in wanted:
                    found[sample] = batch.x[row].clone(), batch.y[row]
            if len(found) == len(wanted):
                break
        plan.data.skipped = skipped
        x, y = (torch.stack(column) for column in zip(*(found[sample] for sample in ids), strict=True))
        return x.to(plan.model.device), y.to(plan.model.device)

    return draw
