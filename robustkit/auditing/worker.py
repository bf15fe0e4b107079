"""The attacks of an audit at work on the rows of a batch, their points judged and their costs counted."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor

from robustkit.attacks.core.attack import Attack
from robustkit.attacks.core.query_trace import Trace
from robustkit.attacks.geometry import norms
from robustkit.attacks.model.classifier import Classifier
from robustkit.auditing.columns import Found, Rows
from robustkit.auditing.plan import Plan
from robustkit.auditing.results import Tally
from robustkit.auditing.verdict import judge
from robustkit.models.memory import Room
from robustkit.reports.record.statistics import TOLERANCE


class Attacker:
    """Runs the attacks of a plan and fills their tallies."""

    def __init__(self, plan: Plan, tallies: list[Tally], room: Room) -> None:
        self.plan = plan
        self.judge: Classifier = plan.model  # says whether a point fools the model
        self.room = room
        self.tallies = tallies
        self.norm = norms.get(plan.norm)
        self.fitted: dict[tuple[int, float | None], Attack] = {}

    def fit(self, place: int) -> None:
        """Let an attack that makes one change for all samples look at them, at each ε; the others need not."""
        tally, model = self.tallies[place], self.plan.model
        started = time.monotonic()
        for eps in self._stages(tally.attack):
            sized = tally.attack if eps is None else tally.attack.at(eps)
            made: list[Attack] = []
            while not made:
                before = model.forwards, model.backwards
                made = self.room.attempt(self.room.rows, sized.fitted, model, self._right, self.plan.seed)
            self.fitted[place, eps] = made[0]
            tally.forwards += model.forwards - before[0]
            tally.backwards += model.backwards - before[1]
        tally.seconds += time.monotonic() - started

    def _right(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """A fresh pass over the samples that the model gets right."""
        model = self.plan.model
        for batch in self.plan.data.batches(model, self.room.rows, self.plan.samples):
            x, y = batch.x.to(model.device), batch.y.to(model.device)
            right = (model.logits(x).argmax(1) == y).nonzero().squeeze(1)
            if len(right):
                yield x[right], y[right], batch.ids[right.cpu()]

    def _stages(self, attack: Attack) -> list[float] | list[None]:
        return list(self.plan.eps) if attack.ball and not attack.minimum_norm else [None]

    def run(self, place: int, rows: Rows) -> Found:
        """Run one attack on the rows of a batch, over the grid if it is budgeted, and judge every point.

        What an attempt that ran out of memory took is in the seconds, not in the queries.
        """
        started = time.monotonic()
        parts = self.room.parts(len(rows.x), lambda part: self._run(place, rows.part(part)))
        self.tallies[place].seconds += time.monotonic() - started
        return Found.joined(parts)

    def _run(self, place: int, rows: Rows) -> Found:
        model, tally = self.plan.model, self.tallies[place]
        attack, found = tally.attack, Found.none(len(rows.x), len(self.plan.eps))
        left = torch.arange(len(rows.x), device=rows.x.device)
        for stage, eps in enumerate(self._stages(attack)):
            if eps is not None and rows.known is not None:
                left = left[(rows.known[left.cpu()] > eps + TOLERANCE).to(left.device)]
            if eps is not None:
                found.inherited[stage] = len(rows.x) - len(left)
            if not len(left):
                continue
            part = rows.take(left)
            trace = self._trace(tally, len(left), eps)
            before = model.forwards, model.backwards
            points = self.points(self.sized(place, eps), part, trace)
            found.forwards += model.forwards - before[0]
            found.backwards += model.backwards - before[1]
            wrong, there = judge(self.judge, self.norm, attack, eps, part, points, left, found, self.plan.certifier)
            if trace is not None:
                self._note(found, trace, left.cpu())
            gone = wrong
            if part.targets is not None:
                aiming = part.targets != part.y
                gone = torch.where(aiming, there, wrong)
                found.aimed += int(aiming.sum()) if stage == 0 else 0
                found.reached += int((there & aiming).sum())
            left = left[~gone]
        return found

    def _trace(self, tally: Tally, rows: int, eps: float | None) -> Trace | None:
        """What counts the queries of each row, for an attack on a black box or one that tries a table of changes."""
        if not tally.attack.ball:
            return Trace(rows)
        if not tally.arrived:
            return None
        return Trace(rows, [0.0] if eps is not None else [value + TOLERANCE for value in self.plan.eps])

    def sized(self, place: int, eps: float | None, early_stop: bool = True) -> Attack:
        """The attack at an ε, fitted if it has to be."""
        attack = self.tallies[place].attack
        if (place, eps) in self.fitted:
            return self.fitted[place, eps]
        sized = attack if eps is None else attack.at(eps)
        return sized if early_stop else sized.thorough()

    def points(self, attack: Attack, rows: Rows, trace: Trace | None = None) -> Tensor:
        """What the attack returns; a row whose label is its target is attacked untargeted."""
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

    def _note(self, found: Found, trace: Trace, left: Tensor) -> None:
        """Into `found`, from the trace of the rows `left`, all of them on the CPU."""
        # The verdict, not the attack, says within which ε a row is broken; what was broken earlier stays so.
        within = found.distances[left][:, None] <= torch.tensor(list(self.plan.eps), dtype=torch.float64) + TOLERANCE
        queries = torch.where(trace.arrived < 0, trace.forwards[:, None], trace.arrived)
        before = found.arrived[left]
        found.arrived[left] = torch.where(within & (before < 0), queries, before)
        for cell, broken in trace.cells.items():
            whole = found.cells.setdefault(cell, torch.zeros(len(found.broken), dtype=torch.bool))
            whole[left] = broken
