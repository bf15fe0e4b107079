"""The rows of one batch under attack, and what an attack did to them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """The rows of a batch that the model gets right."""

    x: Tensor
    y: Tensor
    targets: Tensor | None
    ids: Tensor  # on the CPU
    places: Tensor  # in the batch, on the CPU

    def take(self, keep: Tensor) -> Rows:
        targets = None if self.targets is None else self.targets[keep]
        host = keep.cpu()
        return Rows(self.x[keep], self.y[keep], targets, self.ids[host], self.places[host])


@dataclass
class Found:
    """What one attack did to the rows of a batch; on the CPU."""

    broken: Tensor
    distances: Tensor
    rms: Tensor
    predictions: Tensor
    confidences: Tensor
    points: dict[int, Tensor]  # the first few broken rows' points, for the pictures
    arrived: Tensor  # int64 [rows, ε], queries after which a row was broken within each ε; -1 where it was not
    cells: dict[tuple[str, str], Tensor] = field(default_factory=dict)  # bool [rows], by variant and level
    outside: int = 0  # points that left ball or box and so were not counted

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
        )
