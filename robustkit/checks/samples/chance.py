"""Check of the accuracy: better than chance, by an exact test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import binom, binomtest

from robustkit.checks.check import Check, Finding, NotApplicable, check
from robustkit.checks.checked_model import CheckedModel
from robustkit.checks.papers import CARLINI
from robustkit.reports import AuditRecord, CheckResult

_LEVEL = 0.05
_LUCK = 0.2  # how likely chance does as well, of a model that is taken for no better


@check(
    id="chance",
    title="The model is better than chance on the samples.",
    paper=CARLINI,
    threshold=_LEVEL,
    severity="fail",
    remedy="Give more samples, of several classes; then look at weights, labels and preprocessing. Is it trained?",
)
def chance(checked: CheckedModel) -> Finding:
    """p-value of the accuracy, one-sided and exact: how likely chance does as well; see `against_chance`."""
    if checked.broken:
        raise NotApplicable("Its logits are infinite, so that its answers mean nothing.")
    return against_chance(checked.y.tolist(), checked.logits.argmax(1).tolist(), checked.logits.shape[1])


def against_chance(truth: Sequence[int], said: Sequence[int], classes: int) -> Finding:
    """Binomial test of the accuracy against chance.

    By chance is right who guesses, and who gives a picture the answer to another one: a constant is then as good as
    the share of its class, and answers that do not depend on the picture are as good as the frequencies of the classes
    make them. Of the two the better one is the chance of the test. Samples of a single class tell nothing: a constant
    is right there too.

    Args:
        truth, said: the labels and the answers; an answer that is no class is wrong.
        classes: how many the model knows, at least.

    Returns:
        The p-value: wrong where chance does as well easily, and a model half-way between chance and faultless would
        hardly do so badly; a doubt where it cannot be told.
    """
    labels, answers = np.asarray(truth), np.asarray(said)
    count, right = len(labels), int((labels == answers).sum())
    kinds, sizes = np.unique(labels, return_counts=True)
    frequency = dict(zip(kinds.tolist(), sizes.tolist(), strict=True))
    level = 1 / classes
    if len(kinds) > 1:
        pairs = sum(frequency.get(answer, 0) for answer in answers.tolist()) - right
        level = max(level, pairs / (count * (count - 1)))
    luck = float(binomtest(right, count, level, alternative="greater").pvalue)
    share = f"{right:,} of {count:,} samples are right"
    detail = f"{share}, against {100 * level:.2g} % by chance (p = {luck:.2g})"
    if len(kinds) > 1 and luck <= _LEVEL:
        return Finding(luck, f"{detail}.", wrong=False)
    useless = float(binom.cdf(right, count, (1 + level) / 2)) < _LEVEL and level**count <= _LEVEL
    if luck > _LUCK and useless:
        return Finding(luck, f"{detail}: no more than by chance.", wrong=True)
    if len(kinds) == 1:
        alike = "The sample is of one class" if count == 1 else "All samples are of one class"
        return Finding(1.0, f"{share}. {alike}, on which a constant answer may be right too (p = 1).", False, True)
    return Finding(luck, f"{detail}: better than chance cannot be told with so few samples.", wrong=False, doubt=True)


def on_all_samples(record: AuditRecord, classes: int) -> list[CheckResult]:
    """The checks of a record, this one made of every sample that was audited, and not of the first ones alone.

    Args:
        record: of a complete audit.
        classes: as for `against_chance`; 0 where nobody knows.
    """
    samples = record.samples
    known = max(2, classes, 1 + max([*samples.labels, *samples.predictions], default=0))
    return [
        _of_record(known).run(record) if result.id == chance.id and result.status != "n/a" else result
        for result in record.checks
    ]


def _of_record(classes: int) -> Check[AuditRecord]:
    return Check(
        lambda record: against_chance(record.samples.labels, record.samples.predictions, classes),
        id=chance.id,
        title=chance.title,
        paper=chance.paper,
        threshold=chance.threshold,
        severity=chance.severity,
        remedy=chance.remedy,
    )
