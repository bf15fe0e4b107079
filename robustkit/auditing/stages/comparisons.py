"""Pictures of an audit: of the first samples that each attack breaks, original + perturbation = adversarial."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from robustkit.attacks.geometry import norms
from robustkit.auditing.comparison_files import Pair, save_comparison
from robustkit.auditing.journal import Journal
from robustkit.auditing.outcome import BatchOutcome, Shown
from robustkit.auditing.verdict import Rows
from robustkit.auditing.worker import PICTURES, Worker
from robustkit.data.dataset import Batch
from robustkit.reports import Comparison
from robustkit.reports.record.statistics import TOLERANCE

_LEVEL = 1 / 255  # of an 8-bit picture


class Comparisons:
    """Draws comparisons into a folder, shared among the attacks, and notes them in the journal."""

    def __init__(self, worker: Worker, journal: Journal, folder: Path) -> None:
        self.worker = worker
        self.journal = journal
        self.folder = folder

    def add(self, outcome: BatchOutcome, batch: Batch) -> None:
        """Show what the latest attack on the batch broke, as far as it has room left."""
        place = len(outcome.attacks) - 1
        attack, found = self.worker.attacks[place], outcome.attacks[place]
        drawn = self.journal.comparisons()
        share = -(-PICTURES // len(self.worker.attacks))
        free = share - sum(comparison.attack == attack.title for comparison in drawn)
        taken = {comparison.sample for comparison in drawn}
        # Samples that no other attack shows come first.
        order = sorted(found.shown, key=lambda shown: int(batch.ids[shown.row]) in taken)[: max(0, free)]
        if order:
            self.worker.progress.enter(f"pictures of {attack.title}", self.worker.progress.done)
        for number, shown in enumerate(order, len(drawn)):
            self.journal.add_comparison(self._drawn(place, batch, shown, f"{number:02d}"))

    def _drawn(self, place: int, batch: Batch, shown: Shown, number: str) -> Comparison:
        plan, attack, row = self.worker.plan, self.worker.attacks[place], slice(shown.row, shown.row + 1)
        device = plan.model.device
        y = batch.y[row].to(device)
        # A sample that has no class to reach is attacked untargeted, which a target of its own class says.
        aims = y if shown.target is None else torch.full_like(y, shown.target)
        only = Rows(
            x=batch.x[row].to(device),
            y=y,
            targets=None if plan.target is None else aims,
            ids=batch.ids[row],
            places=torch.tensor([shown.row]),
        )
        eps, point = self._best(place, only, shown.point.to(device))
        pair = Pair(
            sample=int(batch.ids[shown.row]),
            name=batch.names[shown.row],
            truth=int(y),
            x=only.x[0],
            adversarial=point,
            attack=attack,
            norm=plan.norm,
            eps=eps,
            target=shown.target,
        )
        return save_comparison(plan.model, pair, self.folder, f"{number}-{attack.name.replace(':', '-')}")

    def _best(self, place: int, only: Rows, point: Tensor) -> tuple[float | None, Tensor]:
        """The ε and the point to show of a broken row.

        An attack lets a row go the moment it is fooled, at half a level if it can; the picture shows what it can
        do with all its steps, at an ε that 8 bits can express where the grid has one.
        """
        plan, attack = self.worker.plan, self.worker.attacks[place]
        if attack.minimum_norm or not attack.ball:
            return None, point
        distance = float(norms.get(plan.norm).size((point - only.x).double()))
        broke = next(eps for eps in plan.eps if distance <= eps + TOLERANCE)
        visible = [eps for eps in plan.eps if eps >= broke and (plan.norm != "linf" or eps >= _LEVEL - TOLERANCE)]
        for eps in visible[:1]:
            best = self.worker.points(self.worker.sized(place, eps, early_stop=False), only)
            seen = plan.model.logits(best).argmax(1)
            if bool(seen != only.y if only.targets is None else seen == only.targets):
                return eps, best[0]
        return broke, point
