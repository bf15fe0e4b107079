"""After the attacks and the checks: further attacks where a check found a fault, on the samples still right."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from robustkit.adaptive import PRESCRIBED, UNANSWERABLE, Nondeterminism, PlannedAnswer, Trial, plan_answers
from robustkit.auditing.columns import Rows
from robustkit.auditing.plan import Plan
from robustkit.auditing.results import Ledger, Tally
from robustkit.auditing.worker import Attacker
from robustkit.checks.checked_model import LARGE_PICTURE
from robustkit.checks.state import reseed, untouched_random_state
from robustkit.reports import Answer, CheckResult
from robustkit.reports.record.statistics import TOLERANCE
from robustkit.text import one_line

_TRIED = 16  # samples on which surrogate gradients are tried
_FEW = 6

Draw = Callable[[Sequence[int]], tuple[Tensor, Tensor]]
Enter = Callable[[str, int], None]  # what is going on, and how many samples are done with it


@dataclass
class _Running:
    """An answer under way."""

    planned: PlannedAnswer
    tally: Tally
    failure: str | None = None
    broken: int = 0


@dataclass
class Adaptation:
    """Chooses the answers to the checks that fired, runs them, and puts their tallies into the ledger.

    Args:
        plan, ledger, attacker: of the audit, whose named attacks are done.
        nondeterminism: of the model's answers.
        checks: what was found.
        draw: from ids of samples to x and y.
        targets: from labels and logits to the classes to reach.
        tally: makes an empty tally for an attack.
        enter: tells what is going on.
    """

    plan: Plan
    ledger: Ledger
    attacker: Attacker
    nondeterminism: Nondeterminism
    checks: Sequence[CheckResult]
    draw: Draw
    targets: Callable[[Tensor, Tensor], Tensor | None]
    tally: Callable[..., Tally]
    enter: Enter
    running: list[_Running] = field(default_factory=list)

    def run(self) -> list[Answer]:
        """The answers, in the order in which they ran; then what has none."""
        fired = [check for check in self.checks if check.status in ("warn", "fail")]
        asked = [check for check in fired if check.id in PRESCRIBED]
        answers: list[Answer] = []
        if asked:
            with untouched_random_state():
                reseed(self.plan.seed)
                answers = self._answered(asked)
        return answers + [
            Answer([check.id], None, f"There is no automatic answer. {check.remedy}", check.source, 0)
            for check in fired
            if check.id in UNANSWERABLE
        ]

    def _answered(self, asked: list[CheckResult]) -> list[Answer]:
        ids = [check.id for check in asked]
        source = "; ".join(dict.fromkeys(check.source for check in asked))
        if not self.plan.eps:
            return [Answer(ids, None, "Not run: the audit has no ε to search within.", source, 0)]
        if self.plan.model.access != "gradient":
            return [Answer(ids, None, "Not run: the model gives no gradients to adapt.", source, 0)]
        eps, samples = self._trial()
        if not samples:
            return [Answer(ids, None, "Not needed: nothing is left to break at any ε.", source, 0)]
        self.enter("adapting: looking for a way to attack", 0)
        x, y = self.draw(samples)
        remedies = frozenset(remedy for check in ids for remedy in PRESCRIBED[check])
        trial = Trial(x, y, torch.tensor(samples), norm=self.plan.norm, eps=eps, seed=self.plan.seed)
        try:
            planned = plan_answers(self.plan.model, self.nondeterminism, remedies, trial)
        except Exception as error:  # ours, or the model's; the audit itself is done
            return [Answer(ids, None, f"Error: no attack could be chosen ({one_line(error)}).", source, 0)]
        self.running = [_Running(each, self.tally(each.attack)) for each in planned]
        first = len(self.ledger.tallies)
        self.ledger.tallies.extend(running.tally for running in self.running)
        self._all(first)
        return self._told(first, ids)

    def _trial(self) -> tuple[float, list[int]]:
        """An ε at which some samples are left, the largest that leaves enough, and the first of them."""
        left = {eps: self._left(eps) for eps in self.plan.eps}
        wanted = min(_FEW, max(len(each) for each in left.values()))
        eps = max(eps for eps, each in left.items() if len(each) >= wanted)
        values = self.plan.model.preprocess.channels * math.prod(self.plan.model.preprocess.size)
        return eps, left[eps][: _TRIED if values <= LARGE_PICTURE else _FEW]

    def _left(self, eps: float) -> list[int]:
        worst, _, _ = self.ledger.worst()
        rows = np.flatnonzero(self.ledger.right() & (worst > eps + TOLERANCE))
        return [self.ledger.ids[row] for row in rows.tolist()]

    def _all(self, first: int) -> None:
        plan, model = self.plan, self.plan.model
        worst, right, start = self.ledger.worst()[0], self.ledger.right(), 0
        least = min(plan.eps)
        skipped = plan.data.skipped
        with closing(plan.data.batches(model, plan.batch_size, plan.samples)) as batches:
            for batch in batches:
                count = len(batch.ids)
                known = torch.from_numpy(worst[start : start + count].copy())
                alive = torch.from_numpy(right[start : start + count].copy()) & (known > least + TOLERANCE)
                where = alive.nonzero().squeeze(1)
                x, y = (part[where].to(model.device) for part in (batch.x, batch.y))
                targets = self.targets(y, self.attacker.judge.logits(x)) if len(where) else None
                rows = Rows(x, y, targets, batch.ids[where], where, known[where])
                self._batch(first, count, rows)
                start += count
        plan.data.skipped = skipped  # by the audit, which the record tells

    def _batch(self, first: int, count: int, rows: Rows) -> None:
        least, known = min(self.plan.eps), rows.known
        assert known is not None  # given by `_all`
        for place, running in enumerate(self.running, first):
            alive = (known > least + TOLERANCE).nonzero().squeeze(1)
            part = rows.take(alive.to(rows.x.device))
            title = running.tally.attack.title
            self.enter(f"adapting: {title}, {place - first + 1} of {len(self.running)} answers", running.tally.judged)
            if running.failure is not None:
                continue
            try:
                found = self.attacker.run(place, part)
            except Exception as error:  # the model may be anybody's code; the audit itself is done
                running.failure = one_line(error)
                continue
            running.tally.extend(count, part.places.numpy(), found)
            nearer = torch.where(found.distances.isnan(), math.inf, found.distances)
            before = self._places(known[alive])
            running.broken += int((self._places(nearer) < before).sum())
            known[alive] = torch.minimum(known[alive], nearer)

    def _places(self, distances: Tensor) -> Tensor:
        """Of each distance, the number of ε that are smaller."""
        grid = torch.tensor(list(self.plan.eps), dtype=torch.float64) + TOLERANCE
        return (distances[:, None] > grid).sum(1)

    def _told(self, first: int, ids: list[str]) -> list[Answer]:
        """What came of the answers; tallies that hold nothing leave the ledger."""
        answers, kept = [], self.ledger.tallies[:first]
        for running in self.running:
            planned, place = running.planned, None
            what = f"{planned.what[:-1]}: not needed, since nothing was left to break."
            if running.failure is not None:
                what = f"{planned.what[:-1]}: could not be run ({running.failure})."
            elif running.tally.attacked:
                what, place = planned.what, len(kept)
                note = "Only the samples that the attacks before it left right were attacked"
                running.tally.notes.append(note)
                kept.append(running.tally)
            own = [check for check in ids if set(PRESCRIBED[check]) & planned.remedies]
            answers.append(Answer(own or ids, place, what, planned.source, running.broken))
        self.ledger.tallies[first:] = kept[first:]
        return answers
