"""The worker of an audit: runs every attack of a plan on a batch and judges each point."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from robustkit.adaptive import Nondeterminism
from robustkit.attacks.core.attack import Attack
from robustkit.attacks.core.goal import answered
from robustkit.attacks.core.query_trace import Trace
from robustkit.attacks.geometry import norms
from robustkit.attacks.model.classifier import Classifier
from robustkit.auditing.columns import AttackColumns, AttackCounts, SampleColumns
from robustkit.auditing.outcome import AttackOutcome, BatchOutcome, Shown
from robustkit.auditing.plan import LEAST_LIKELY, Plan
from robustkit.auditing.progress import Progress
from robustkit.auditing.stages.transfer_matrix import TransferMatrix
from robustkit.auditing.verdict import Judge, Rows, Verdict
from robustkit.certification import Certifier
from robustkit.data.dataset import Batch
from robustkit.models.memory import HalvingBatch
from robustkit.reports.record.statistics import TOLERANCE

PICTURES = 6  # comparisons in a report


@dataclass(frozen=True)
class Preparation:
    """What is found out before the first batch.

    Args:
        answers: what judges points: the model, or its determinised form.
        gradient: the model gives one; without, attacks that need it break nothing.
        nondeterminism: what the model's answers depend on besides the picture.
        fitted: attacks that make one change for all samples, once they have looked at them: by place and ε.
    """

    answers: Classifier
    gradient: bool = True
    nondeterminism: Nondeterminism = field(default_factory=Nondeterminism)
    fitted: Mapping[tuple[int, float | None], Attack] = field(default_factory=dict)


class Worker:
    """Runs the attacks of a plan, batch after batch; knows no journal and no page.

    A sample's result does not depend on its batch, so memory that runs out halves the rows that go through at once.
    """

    def __init__(self, plan: Plan, prepared: Preparation, room: HalvingBatch, progress: Progress) -> None:
        self.plan = plan
        self.prepared = prepared
        self.room = room
        self.progress = progress
        self.attacks = list(plan.attacks)
        self.judge = Judge(prepared.answers, norms.get(plan.norm), plan.certifier)
        self.transfer = TransferMatrix(plan, room) if plan.surrogates else None

    def run(
        self,
        batch: Batch,
        outcome: BatchOutcome,
        done: int,
        after_attack: Callable[[BatchOutcome, Batch], None] | None = None,
    ) -> BatchOutcome:
        """Fill in the outcome of a batch, attack by attack; of one that is broken off, it holds what was finished.

        Args:
            done: samples before these.
            after_attack: called with the outcome so far, whose last attack is the one that is through.
        """
        self.progress.enter("clean accuracy", done)
        rows, samples = self.clean(batch, done)
        outcome.names, outcome.samples = batch.names, samples
        for place, attack in enumerate(self.attacks):
            self.progress.enter(f"{attack.title}, {place + 1} of {len(self.attacks)} attacks", done)
            outcome.attacks.append(self.attack(place, rows, len(batch)))
            if after_attack is not None:
                after_attack(outcome, batch)
        if self.transfer is not None:
            self.progress.enter("which model's points fool which", done)
            outcome.transfer = self.transfer.counts(rows)
        outcome.complete = True
        return outcome

    def clean(self, batch: Batch, done: int) -> tuple[Rows, SampleColumns]:
        """The rows that the model gets right, and its clean answers."""
        plan, device = self.plan, self.plan.model.device
        x, y = batch.x.to(device, non_blocking=True), batch.y.to(device)
        logits = torch.cat(self.room.parts(len(x), lambda part: self.judge.model.logits(x[part])))
        samples = SampleColumns.blank(len(batch))
        confidence, predicted = answered(logits)
        if plan.certifier is not None:
            confidence, predicted, radius = self._certified(plan.certifier, batch, done)
            samples.radii[:] = radius.cpu().numpy()
        right = (predicted == y).nonzero().squeeze(1)
        samples.ids[:], samples.labels[:] = batch.ids.numpy(), batch.y.numpy()
        samples.predictions[:], samples.confidences[:] = predicted.cpu().numpy(), confidence.double().cpu().numpy()
        host = right.cpu()
        return Rows(x[right], y[right], self.targets(y[right], logits[right]), batch.ids[host], host), samples

    def _certified(self, certifier: Certifier, batch: Batch, done: int) -> tuple[Tensor, Tensor, Tensor]:
        """The certifier's confidence, answer and radius; one class more than the model has stands for no answer."""
        model = self.plan.model
        x, y = batch.x.to(model.device), batch.y.to(model.device)
        rows = []
        for row in range(len(x)):
            self.progress.enter(f"certifying by {certifier.title}", done + row)
            part = slice(row, row + 1)
            seen = certifier.certify(x[part], y[part], batch.ids[part])
            predicted = torch.where(seen.abstained, model.num_classes, seen.predicted)
            rows.append((seen.confidence, predicted, torch.where(predicted == y[part], seen.radius, torch.nan)))
        confidence, predicted, radius = (torch.cat(column) for column in zip(*rows, strict=True))
        return confidence, predicted, radius

    def targets(self, y: Tensor, logits: Tensor) -> Tensor | None:
        """The classes to reach, int64 [R]; None where there is no target."""
        target = self.plan.target
        if target is None:
            return None
        return logits.argmin(1) if target == LEAST_LIKELY else torch.full_like(y, int(target))

    def attack(self, place: int, rows: Rows, samples: int) -> AttackOutcome:
        """Run the attack in that place on the rows of a batch of so many samples, over the grid if it is budgeted.

        What an attempt that ran out of memory took is in the seconds, not in the queries.
        """
        grid = len(self.plan.eps)
        if not self.prepared.gradient and self.attacks[place].access == "gradient":
            counts = AttackCounts(attacked=len(rows), inherited=[0] * grid)
            return AttackOutcome(AttackColumns.blank(samples, grid), counts)
        started = time.monotonic()
        parts = self.room.parts(len(rows), lambda part: self._part(place, rows.take(part)))
        counts = AttackCounts.total([part.counts for part in parts], grid)
        counts.seconds = time.monotonic() - started
        columns = AttackColumns.joined([part.columns for part in parts], grid).within(
            samples, rows.places.numpy(), grid
        )
        return AttackOutcome(columns, counts, [shown for part in parts for shown in part.shown])

    def _part(self, place: int, rows: Rows) -> AttackOutcome:
        model, attack = self.plan.model, self.attacks[place]
        grid = len(self.plan.eps)
        found = AttackColumns.blank(len(rows), grid)
        counts = AttackCounts(attacked=len(rows), inherited=[0] * grid)
        shown: dict[int, Shown] = {}
        left = torch.arange(len(rows), device=rows.x.device)
        for stage, eps in enumerate(self.plan.stages(attack)):
            if eps is not None and rows.known is not None:
                left = left[(rows.known[left.cpu()] > eps + TOLERANCE).to(left.device)]
            if eps is not None:
                counts.inherited[stage] = len(rows) - len(left)
            if not len(left):
                continue
            part, host = rows.take(left), left.cpu().numpy()
            trace = self._trace(attack, len(left), eps)
            before = model.forwards, model.backwards
            points = self.points(self.sized(place, eps), part, trace)
            counts.forwards += model.forwards - before[0]
            counts.backwards += model.backwards - before[1]
            verdict = self.judge.verdict(attack, eps, part, points)
            self._note(found, verdict, host)
            self._keep(shown, verdict, part, found.broken[host])
            counts.outside += verdict.outside
            counts.undecided += verdict.undecided
            if trace is not None:
                self._note_queries(attack, trace, found, host)
                counts.unstarted += int(trace.unstarted.sum())
                for cell, broken in trace.cells.items():
                    counts.cells[cell] = (int(broken.sum()), len(rows))
            gone = verdict.wrong
            if part.targets is not None:
                aiming = part.targets != part.y
                gone = torch.where(aiming, verdict.reached, verdict.wrong)
                counts.aimed += int(aiming.sum()) if stage == 0 else 0
                counts.reached += int((verdict.reached & aiming).sum())
            left = left[~gone]
        return AttackOutcome(found, counts, list(shown.values()))

    def _note(self, found: AttackColumns, verdict: Verdict, left: np.ndarray) -> None:
        """Into `found`, the rows among `left` that are broken now and were not before."""
        fresh = np.flatnonzero(verdict.wrong.cpu().numpy() & ~found.broken[left])
        for name in ("distances", "rms", "predictions", "confidences"):
            getattr(found, name)[left[fresh]] = getattr(verdict, name).numpy()[fresh]

    def _keep(self, shown: dict[int, Shown], verdict: Verdict, part: Rows, broken: np.ndarray) -> None:
        """Keep the points of the first few broken rows; where one later reaches its target, that point."""
        for place, (row, reached) in enumerate(zip(part.places.tolist(), verdict.reached.tolist(), strict=True)):
            if (reached and row in shown) or (broken[place] and len(shown) < PICTURES):
                aimed = part.targets is not None and bool(part.targets[place] != part.y[place])
                target = int(part.targets[place]) if aimed and part.targets is not None else None
                shown[row] = Shown(row, verdict.points[place].cpu(), target)

    def _trace(self, attack: Attack, rows: int, eps: float | None) -> Trace | None:
        """A count of each row's queries, for an attack on a black box or one that tries a table of changes."""
        if not attack.ball:
            return Trace(rows)
        if not self.plan.counts_queries(attack):
            return Trace(rows) if attack.needs_start else None
        return Trace(rows, [0.0] if eps is not None else [value + TOLERANCE for value in self.plan.eps])

    def sized(self, place: int, eps: float | None, early_stop: bool = True) -> Attack:
        """The attack in that place at an ε, fitted if it has to be; without early_stop, with all its steps."""
        if (place, eps) in self.prepared.fitted:
            return self.prepared.fitted[place, eps]
        attack = self.attacks[place]
        sized = attack if eps is None else attack.at(eps)
        return sized if early_stop else sized.thorough()

    def points(self, attack: Attack, rows: Rows, trace: Trace | None = None) -> Tensor:
        """The points that an attack returns; a row whose label is its target is attacked untargeted."""
        model, seed = self.plan.model, self.plan.seed
        # An attack gets copies: one that wrote into its input would move what its distances are measured from.
        if rows.targets is None:
            return attack(model, rows.x.clone(), rows.y.clone(), ids=rows.ids, seed=seed, trace=trace)
        points = rows.x.clone()
        for group, aimed in ((rows.targets != rows.y, True), (rows.targets == rows.y, False)):
            where = group.nonzero().squeeze(1)
            if len(where):
                part = rows.take(where)
                target = part.targets if aimed else None
                sub = None if trace is None else Trace(len(where), trace.goals.tolist())
                points[where] = attack(model, part.x, part.y, target=target, ids=part.ids, seed=seed, trace=sub)
                if trace is not None and sub is not None:
                    trace.put(where.cpu(), sub)
        return points

    def _note_queries(self, attack: Attack, trace: Trace, found: AttackColumns, left: np.ndarray) -> None:
        """Into `found`, from the trace of the rows `left`."""
        if self.plan.counts_queries(attack):
            # The verdict, not the attack, says within which ε a row is broken; what was broken earlier stays so.
            within = found.distances[left][:, None] <= np.array(list(self.plan.eps)) + TOLERANCE
            arrived, forwards = trace.arrived.numpy(), trace.forwards.numpy()
            queries = np.where(arrived < 0, forwards[:, None], arrived)
            before = found.queries[left]
            found.queries[left] = np.where(within & (before < 0), queries, before)
