"""A finished audit under check: its record, and its model, attacks and samples where they are at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustkit.attacks import APGD, PGD, AutoAttack, Classifier
from robustkit.attacks.core.attack import Attack
from robustkit.checks.check import NotApplicable
from robustkit.checks.checked_model import LARGE_PICTURE
from robustkit.reports import AttackResult, AuditRecord
from robustkit.reports.record.statistics import TOLERANCE

Draw = Callable[[Sequence[int]], tuple[Tensor, Tensor]]  # ids of samples -> x, y on the model's device

# An attack, its losses and margins [steps + 1, B], and which rows are right after it, bool [B].
Recorded = tuple[Attack, tuple[Tensor, Tensor, Tensor]]

FEW, MANY = 32, 64  # samples that an attack is run on again: the first that were right, and those that survived


class CheckedAudit:
    """A record, and what the checks of an evaluation ask of its audit.

    Args:
        record: of a complete audit.
        model: the one that was audited.
        attacks: those of the audit, in the order of the record.
        draw: gives samples of the audit.
        seed: of the audit.
    """

    def __init__(
        self, record: AuditRecord, model: Classifier | None, attacks: Sequence[Attack], draw: Draw | None, seed: int
    ) -> None:
        self.record, self.model, self.attacks, self.draw, self.seed = record, model, attacks, draw, seed
        self.recorded: Recorded | None = None
        samples = record.samples
        self.right = np.asarray(samples.labels) == np.asarray(samples.predictions)

    def distances(self, attack: AttackResult) -> np.ndarray:
        """The size of the change that broke each sample that was right; inf where none did."""
        column: np.ndarray = np.array([np.inf if d is None else d for d in attack.distances])[self.right]
        return column

    def nearest(self, attacks: Sequence[AttackResult]) -> np.ndarray:
        """The smallest of the distances of several attacks."""
        smallest: np.ndarray = np.min([self.distances(attack) for attack in attacks], axis=0)
        return smallest

    @cached_property
    def white_box(self) -> list[AttackResult]:
        """The attacks with gradients that search the ball of the audit."""
        return [
            attack
            for attack in self.record.attacks
            if attack.access == "gradient" and attack.own_norm == self.record.norm and not attack.control
        ]

    @cached_property
    def iterated(self) -> list[AttackResult]:
        """Those of them that make many steps within a budget."""
        return [attack for attack in self.white_box if attack.kind == "budget" and not single_step(attack)]

    @cached_property
    def survivors(self) -> tuple[float, list[int]]:
        """The largest ε at which samples are left, and their ids; none where every ε breaks all."""
        s = self.record.samples
        smallest = [np.inf if d is None else d for d in s.distances]
        for eps in reversed(self.record.eps):
            left = [i for i, ok, d in zip(s.ids, self.right, smallest, strict=True) if ok and d > eps + TOLERANCE]
            if left:
                return eps, left
        return 0.0, []

    @cached_property
    def strongest(self) -> tuple[Attack, bool]:
        """The iterated attack that broke most, and whether it is one of the audit's; else PGD.

        Of AutoAttack its first part stands for all: the later ones would cover up for it.
        """
        pairs = [
            (attack, mine)
            for attack, mine in zip(self.record.attacks, self.attacks, strict=False)
            if attack in self.iterated and type(mine).fitted is Attack.fitted and attack.curve
        ]
        if not pairs:
            return PGD(norm=self.record.norm), False
        best = max(pairs, key=lambda pair: pair[0].curve[-1].success.count)[1]
        if isinstance(best, AutoAttack):
            return APGD(norm=best.norm, steps=best.steps), True
        return best, True

    @property
    def white_box_model(self) -> Classifier:
        """The model.

        Raises:
            NotApplicable: there is none at hand, or it gives no gradients.
        """
        if self.model is None or self.draw is None:
            raise NotApplicable("The record alone does not tell: the model was not asked again.")
        if self.model.access != "gradient":
            raise NotApplicable("The model gives no gradients.")
        return self.model

    def first_right(self, most: int, least: int) -> tuple[Tensor, Tensor, Tensor]:
        """x, y and ids of the first samples that were right: at most `most`, or `least` of large pictures."""
        ids = [i for i, ok in zip(self.record.samples.ids, self.right, strict=True) if ok][:FEW]
        if not ids:
            raise NotApplicable("No sample was right before the attacks.")
        return self._first(ids, most, least)

    def surviving(self, most: int, least: int) -> tuple[Tensor, Tensor, Tensor]:
        """The same of the samples that survived the largest ε that left any."""
        if not self.survivors[1]:
            raise NotApplicable("No sample is left at any ε.")
        return self._first(self.survivors[1][:MANY], most, least)

    def _first(self, ids: list[int], most: int, least: int) -> tuple[Tensor, Tensor, Tensor]:
        values = int(np.prod(self.record.model.input))
        ids = ids[: most if values <= LARGE_PICTURE else least]
        x, y = self._samples
        rows = torch.tensor([self._places[i] for i in ids], device=x.device)
        return x[rows], y[rows], torch.tensor(ids)

    @cached_property
    def _wanted(self) -> list[int]:
        right = [i for i, ok in zip(self.record.samples.ids, self.right, strict=True) if ok][:FEW]
        return sorted({*right, *self.survivors[1][:MANY]})

    @cached_property
    def _places(self) -> dict[int, int]:
        return {sample: place for place, sample in enumerate(self._wanted)}

    @cached_property
    def _samples(self) -> tuple[Tensor, Tensor]:
        _ = self.white_box_model
        assert self.draw is not None
        return self.draw(self._wanted)


def single_step(attack: AttackResult) -> bool:
    """True of an attack that makes a single step."""
    return attack.name == "fgsm" or "FastGradient" in attack.name or attack.parameters.get("steps") == 1


def with_parameters(attack: Attack, **values: Any) -> Attack:
    """The attack with other parameters, as far as it has them."""
    known = attack.parameters()
    return dataclasses.replace(attack, **{name: value for name, value in values.items() if name in known})
