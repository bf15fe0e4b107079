"""Queries of an attack on each row, and after how many it first succeeded: for query curves and budgets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Trace:
    """Counts of one call of an attack on a batch; pass it as `attack(model, x, y, trace=Trace(len(x)))`.

    Args:
        rows: B, of the batch.
        goals: scores at which a row has arrived, T of them. A budgeted attack scores the margin, so 0 is the boundary
            of success; a minimum-norm attack the size of the perturbation, so an ε is success within it.

    Attributes:
        forwards, backwards: int64 [B], evaluations of the model and gradients so far.
        arrived: int64 [B, T], forwards after which the row's score was first at or below each goal, and the row
            reached what the attack was to reach; -1 where it never was.
        cells: for an attack that tries a table of changes, such as corruptions by severity: rows broken by each, bool
            [B] under (variant, level).
        unstarted: bool [B], rows for which an attack that begins at an adversarial point (`Attack.needs_start`) found
            none. They come back unchanged, which says nothing of how robust they are.
    """

    def __init__(self, rows: int, goals: Sequence[float] = (0.0,)) -> None:
        self.forwards = torch.zeros(rows, dtype=torch.int64)
        self.backwards = torch.zeros(rows, dtype=torch.int64)
        self.goals = torch.tensor(tuple(goals), dtype=torch.float64)
        self.arrived = torch.full((rows, len(self.goals)), -1, dtype=torch.int64)
        self.cells: dict[tuple[str, str], Tensor] = {}
        self.unstarted = torch.zeros(rows, dtype=torch.bool)

    def spend(self, rows: Tensor, forwards: int, backwards: int = 0) -> None:
        """`rows` int64 on the CPU; one that is there several times spends it as often."""
        for counts, number in ((self.forwards, forwards), (self.backwards, backwards)):
            if number:
                counts.index_add_(0, rows, torch.full_like(rows, number))

    def note(self, rows: Tensor, score: Tensor, reached: Tensor) -> None:
        """The scores [R] of points that `rows` have just been evaluated at, and whether they reach the goal."""
        there = reached.cpu()[:, None] & (score.double().cpu()[:, None] <= self.goals)
        row, goal = (there & (self.arrived[rows] < 0)).nonzero().unbind(1)
        self.arrived[rows[row], goal] = self.forwards[rows[row]]

    def mark(self, variant: str, level: str, rows: Tensor, broken: Tensor) -> None:
        """Record if a change at a level breaks each of `rows`; both on the CPU."""
        cell = self.cells.setdefault((variant, level), torch.zeros(len(self.forwards), dtype=torch.bool))
        cell[rows] = broken

    def put(self, rows: Tensor, part: Trace) -> None:
        """The counts of a part of the batch, `rows` of it, in their places."""
        self.forwards[rows], self.backwards[rows], self.arrived[rows] = part.forwards, part.backwards, part.arrived
        self.unstarted[rows] = part.unstarted
        for (variant, level), broken in part.cells.items():
            self.mark(variant, level, rows, broken)
