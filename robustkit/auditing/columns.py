"""The rows of one batch under attack, and what an attack did to them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

_COLUMNS = ("broken", "distances", "rms", "predictions", "confidences", "arrived")
_COUNTS = ("outside", "undecided", "forwards", "backwards", "reached", "aimed")


@dataclass(frozen=True)
class Rows:
    """The rows of a batch that the model gets right."""

    x: Tensor
    y: Tensor
    targets: Tensor | None
    ids: Tensor  # on the CPU
    places: Tensor  # in the batch, on the CPU
    known: Tensor | None = None  # float64, on the CPU: the smallest distance at which an attack before broke it, or inf

    def take(self, keep: Tensor) -> Rows:
        targets = None if self.targets is None else self.targets[keep]
        host = keep.cpu()
        known = None if self.known is None else self.known[host]
        return Rows(self.x[keep], self.y[keep], targets, self.ids[host], self.places[host], known)

    def part(self, part: slice) -> Rows:
        targets = None if self.targets is None else self.targets[part]
        known = None if self.known is None else self.known[part]
        return Rows(self.x[part], self.y[part], targets, self.ids[part], self.places[part], known)


@dataclass
class Found:
    """What one attack did to the rows of a batch, and what it asked of the model for it; on the CPU."""

    broken: Tensor
    distances: Tensor
    rms: Tensor
    predictions: Tensor
    confidences: Tensor
    points: dict[int, Tensor]  # the first few broken rows' points, for the pictures
    arrived: Tensor  # int64 [rows, ε], queries after which a row was broken within each ε; -1 where it was not
    cells: dict[tuple[str, str], Tensor] = field(default_factory=dict)  # bool [rows], by variant and level
    outside: int = 0  # points that left ball or box and so were not counted
    undecided: int = 0  # points that a certifier gave no answer for
    forwards: int = 0
    backwards: int = 0
    reached: int = 0  # of the target
    aimed: int = 0  # rows attacked with a target
    inherited: list[int] = field(default_factory=list)  # per ε, rows not attacked since a smaller one broke them

    @classmethod
    def none(cls, rows: int, grid: int) -> Found:
        empty = torch.full((rows,), math.nan, dtype=torch.float64)
        return cls(
            torch.zeros(rows, dtype=torch.bool),
            empty,
            empty.clone(),
            torch.full((rows,), -1),
            empty.clone(),
            {},
            torch.full((rows, grid), -1),
            inherited=[0] * grid,
        )

    @classmethod
    def joined(cls, parts: list[Found]) -> Found:
        """What was found in the parts of a batch, in order."""
        if len(parts) == 1:
            return parts[0]
        starts = accumulate((len(part.broken) for part in parts), initial=0)
        points = {
            start + row: point for start, part in zip(starts, parts, strict=False) for row, point in part.points.items()
        }
        untried = [torch.zeros_like(part.broken) for part in parts]
        cells = {
            cell: torch.cat([part.cells.get(cell, none) for part, none in zip(parts, untried, strict=True)])
            for cell in dict.fromkeys(cell for part in parts for cell in part.cells)
        }
        whole: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in _COLUMNS}
        whole |= {name: sum(getattr(part, name) for part in parts) for name in _COUNTS}
        inherited = [sum(each) for each in zip(*(part.inherited for part in parts), strict=True)]
        return cls(**whole, points=points, cells=cells, inherited=inherited)
