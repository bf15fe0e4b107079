"""The pictures of an audit: of the first samples that each attack breaks, what it makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from robustkit.attacks.geometry import norms
from robustkit.auditing.columns import Found, Rows
from robustkit.auditing.comparison_files import Subject, save_comparison
from robustkit.auditing.plan import Plan
from robustkit.auditing.results import Ledger
from robustkit.auditing.verdict import PICTURES
from robustkit.auditing.worker import Attacker
from robustkit.reports.record.statistics import TOLERANCE

_LEVEL = 1 / 255  # of an 8-bit picture


@dataclass(frozen=True)
class Gallery:
    """Comparisons, shared among the attacks; none where the plan has no folder for them."""

    plan: Plan
    ledger: Ledger
    attacker: Attacker
    enter: Callable[[str, int], None]  # tell what is going on

    def add(self, place: int, rows: Rows, found: Found, names: list[str]) -> None:
        """Show of a batch what the attack in that place broke, as far as it has room left."""
        plan, ledger, tally = self.plan, self.ledger, self.ledger.tallies[place]
        attack = tally.attack
        if plan.pictures is None:
            return
        share = -(-PICTURES // len(plan.attacks))
        taken = [comparison.sample for comparison in ledger.comparisons]
        room = share - sum(comparison.attack == attack.title for comparison in ledger.comparisons)
        # Samples that no other attack shows come first.
        order = sorted(found.points, key=lambda row: int(rows.ids[row]) in taken)[: max(0, room)]
        if order:
            self.enter(f"pictures of {attack.title}", tally.judged)
        for row in order:
            only = rows.take(torch.tensor([row], device=rows.x.device))
            eps, point = self._shown(place, only, found.points[row])
            target = None if only.targets is None or bool(only.targets == only.y) else int(only.targets)
            subject = Subject(int(only.ids), names[row], int(only.y), only.x[0], point, attack, plan.norm, eps, target)
            stem = f"{len(ledger.comparisons):02d}-{attack.name.replace(':', '-')}"
            ledger.comparisons.append(save_comparison(plan.model, subject, plan.pictures, stem))

    def _shown(self, place: int, only: Rows, point: Tensor) -> tuple[float | None, Tensor]:
        """The ε and the point to show of a broken row.

        An attack lets a row go the moment it is fooled, at half a level if it can; the picture shows what it can
        do with all its steps, at an ε that 8 bits can express where the grid has one.
        """
        plan, attack = self.plan, self.ledger.tallies[place].attack
        if attack.minimum_norm or not attack.ball:
            return None, point
        distance = float(norms.get(plan.norm).size((point - only.x).double()))
        broke = next(eps for eps in plan.eps if distance <= eps + TOLERANCE)
        visible = [eps for eps in plan.eps if eps >= broke and (plan.norm != "linf" or eps >= _LEVEL - TOLERANCE)]
        for eps in visible[:1]:
            shown = self.attacker.points(self.attacker.sized(place, eps, early_stop=False), only)
            seen = plan.model.logits(shown).argmax(1)
            if bool(seen != only.y if only.targets is None else seen == only.targets):
                return eps, shown[0]
        return broke, point
