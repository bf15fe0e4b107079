"""The adaptive stage, after attacks and checks: where a check found a fault, further attacks on the samples left."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from robustkit.adaptive import (
    PRESCRIBED,
    UNANSWERABLE,
    PlannedAnswer,
    Trial,
    determinised_judge,
    find_nondeterminism,
    plan_answers,
)
from robustkit.auditing.journal import AttackEntry, Journal
from robustkit.auditing.plan import Plan
from robustkit.auditing.progress import Progress
from robustkit.auditing.results import Results
from robustkit.auditing.stages.checks import drawer, first_samples
from robustkit.auditing.verdict import Rows
from robustkit.auditing.worker import Preparation, Worker
from robustkit.checks.checked_model import LARGE_PICTURE
from robustkit.checks.state import reseed, untouched_random_state
from robustkit.reports import Adapted, Answer, CheckResult
from robustkit.reports.record.statistics import TOLERANCE
from robustkit.text import one_line

_TRIED = 16  # samples on which surrogate gradients are tried
_FEW = 6
_NOTE = "Only the samples that the attacks before it left right were attacked"


def prepare(plan: Plan, journal: Journal, progress: Progress) -> Preparation:
    """Find out what the model's answers depend on besides the picture, to judge accordingly from the first batch on."""
    stopped = any(check.id == "gradient-unavailable" and check.status == "fail" for check in journal.checks())
    if stopped:
        note = "The model gives it no gradient, so it broke nothing"
        journal.describe(
            {
                place: dataclasses.replace(entry, notes=[*entry.notes, note])
                for place, entry in journal.entries().items()
                if entry.access == "gradient"
            }
        )
    first = first_samples(plan, progress)
    if first is None:
        return Preparation(plan.model, gradient=not stopped)
    found = find_nondeterminism(plan.model, *first, plan.seed)
    return Preparation(determinised_judge(plan.model, found), gradient=not stopped, nondeterminism=found)


def attack_again(worker: Worker, journal: Journal) -> Adapted:
    """Attack anew where a check found a fault; what is found goes into the journal."""
    plan = worker.plan
    before = Results(journal, plan.eps).worst_case()
    with worker.progress.listening():
        answers = _Adaptation(worker, journal).run()
    after = Results(journal, plan.eps).worst_case()
    return Adapted(before, after, str(worker.prepared.nondeterminism), answers)


@dataclass
class _Running:
    """An adaptive attack under way, and its place among the attacks."""

    planned: PlannedAnswer
    place: int
    failure: str | None = None
    attacked: int = 0
    broken: int = 0


class _Adaptation:
    """Chooses the answers to the checks that fired, and runs them."""

    def __init__(self, worker: Worker, journal: Journal) -> None:
        self.worker = worker
        self.journal = journal
        self.plan = worker.plan
        self.grid = np.array(list(worker.plan.eps)) + TOLERANCE

    def run(self) -> list[Answer]:
        """The answers, in the order in which they ran; then what has none."""
        fired = [check for check in self.journal.checks() if check.status in ("warn", "fail")]
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

    def _answered(self, asked: Sequence[CheckResult]) -> list[Answer]:
        plan, ids = self.plan, [check.id for check in asked]
        source = "; ".join(dict.fromkeys(check.source for check in asked))
        if not plan.eps:
            return [Answer(ids, None, "Not run: the audit has no ε to search within.", source, 0)]
        if plan.model.access != "gradient":
            return [Answer(ids, None, "Not run: the model gives no gradients to adapt.", source, 0)]
        results = Results(self.journal, plan.eps)
        eps, samples = self._trial(results)
        if not samples:
            return [Answer(ids, None, "Not needed: nothing is left to break at any ε.", source, 0)]
        self.worker.progress.enter("adapting: looking for a way to attack", 0)
        try:
            planned = self._plan(ids, eps, samples)
        except Exception as error:  # ours, or the model's; the audit itself is done
            return [Answer(ids, None, f"Error: no attack could be chosen ({one_line(error)}).", source, 0)]
        first = len(self.worker.attacks)
        running = [_Running(each, first + number) for number, each in enumerate(planned)]
        classes = plan.model.num_classes
        for each in running:
            attack = each.planned.attack
            entry = AttackEntry.of(attack, plan.counts_queries(attack), [*attack.notes(classes), _NOTE])
            self.journal.describe({each.place: entry})
            self.worker.attacks.append(attack)
        self._all(running, results)
        return self._told(running, first, ids)

    def _plan(self, ids: Sequence[str], eps: float, samples: list[int]) -> list[PlannedAnswer]:
        """The answers to the checks of these ids, chosen by short attacks on some samples that are left at ε."""
        plan = self.plan
        remedies = frozenset(remedy for check in ids for remedy in PRESCRIBED[check])
        trial = Trial(*drawer(plan)(samples), torch.tensor(samples), norm=plan.norm, eps=eps, seed=plan.seed)
        return plan_answers(plan.model, self.worker.prepared.nondeterminism, remedies, trial)

    def _trial(self, results: Results) -> tuple[float, list[int]]:
        """An ε at which some samples are left, the largest that leaves enough, and the ids of the first of them."""
        left = {eps: results.samples.ids[results.left(eps)].tolist() for eps in self.plan.eps}
        wanted = min(_FEW, max(len(each) for each in left.values()))
        eps = max(eps for eps, each in left.items() if len(each) >= wanted)
        values = self.plan.model.preprocess.channels * math.prod(self.plan.model.preprocess.size)
        return eps, left[eps][: _TRIED if values <= LARGE_PICTURE else _FEW]

    def _all(self, running: Sequence[_Running], results: Results) -> None:
        """Run the attacks on what was left before them, batch by batch."""
        plan, model = self.plan, self.plan.model
        worst, alive, done = results.worst()[0], results.left(min(plan.eps)), 0
        skipped = plan.data.skipped
        with closing(plan.data.batches(model, plan.batch_size, plan.samples)) as batches:
            for number, batch in enumerate(batches):
                part = slice(done, done + len(batch))
                where = torch.from_numpy(np.flatnonzero(alive[part]))
                x, y = (tensor[where].to(model.device) for tensor in (batch.x, batch.y))
                targets = self.worker.targets(y, self.worker.judge.model.logits(x)) if len(where) else None
                known = torch.from_numpy(worst[part].copy())[where]
                rows = Rows(x=x, y=y, targets=targets, ids=batch.ids[where], places=where, known=known)
                for place, each in enumerate(running):
                    title = each.planned.attack.title
                    stage = f"adapting: {title}, {place + 1} of {len(running)} answers"
                    self.worker.progress.enter(stage, done)
                    if each.failure is None:
                        self._one(each, rows, number, len(batch))
                done += len(batch)
        plan.data.skipped = skipped  # by the audit, which the record tells

    def _one(self, each: _Running, rows: Rows, batch: int, samples: int) -> None:
        """Run one attack on the rows that are still left; `rows.known` comes down by it."""
        known = rows.known
        assert known is not None  # given by `_all`
        alive = (known > min(self.plan.eps) + TOLERANCE).nonzero().squeeze(1)
        try:
            found = self.worker.attack(each.place, rows.take(alive.to(rows.x.device)), samples)
        except Exception as error:  # the model may be anybody's code; the audit itself is done
            each.failure = one_line(error)
            return
        self.journal.append_attack(each.place, batch, found)
        each.attacked += found.counts.attacked
        nearer = torch.from_numpy(found.columns.distances)[rows.places[alive]].nan_to_num(math.inf, posinf=math.inf)
        each.broken += int((self._smaller(nearer) < self._smaller(known[alive])).sum())
        known[alive] = torch.minimum(known[alive], nearer)

    def _smaller(self, distances: Tensor) -> np.ndarray:
        """Of each distance, the number of ε that are smaller."""
        count: np.ndarray = (distances.numpy()[:, None] > self.grid).sum(1)
        return count

    def _told(self, running: Sequence[_Running], first: int, ids: list[str]) -> list[Answer]:
        """The answers as the record holds them; attacks that found nothing to do leave the journal."""
        answers, kept = [], first
        for each in running:
            planned, place = each.planned, None
            what = f"{planned.what[:-1]}: not needed, since nothing was left to break."
            if each.failure is not None:
                what = f"{planned.what[:-1]}: could not be run ({each.failure})."
            elif each.attacked:
                what, place, kept = planned.what, kept, kept + 1
            if place is None:
                self.journal.drop(each.place)
            own = [check for check in ids if set(PRESCRIBED[check]) & planned.remedies]
            answers.append(Answer(own or ids, place, what, planned.source, each.broken))
        return answers
