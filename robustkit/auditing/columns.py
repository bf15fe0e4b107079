"""Columns of results: each declared once, and from that declaration joined, spread, stored and read back."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any, Self

import numpy as np


@dataclass(frozen=True)
class Column:
    """A number a sample, or one a sample and ε.

    Args:
        dtype: NumPy's.
        empty: where a sample has no such number.
        per_eps: one column each ε of the grid: [samples, ε].
    """

    dtype: str
    empty: float
    per_eps: bool = False

    def blank(self, samples: int, grid: int) -> np.ndarray:
        return np.full((samples, grid) if self.per_eps else samples, self.empty, dtype=self.dtype)


_NUMBER = Column("<f8", math.nan)
_PLACE = Column("<i8", -1)


@dataclass
class Columns:
    """Columns of the same samples, in the same order. A subclass declares each as an annotated field."""

    @classmethod
    @cache
    def declared(cls) -> dict[str, Column]:
        """The columns by name."""
        hints = typing.get_type_hints(cls, include_extras=True)
        return {each.name: hints[each.name].__metadata__[0] for each in dataclasses.fields(cls)}

    @classmethod
    def blank(cls, samples: int, grid: int = 0) -> Self:
        """Columns of so many samples that have no numbers yet; `grid` is how many ε there are."""
        return cls(**{name: each.blank(samples, grid) for name, each in cls.declared().items()})

    @classmethod
    def joined(cls, parts: Sequence[Self], grid: int = 0) -> Self:
        """The samples of all parts, in order."""
        if not parts:
            return cls.blank(0, grid)
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.declared()})

    @classmethod
    def read(cls, stored: Mapping[str, bytes], grid: int = 0) -> Self:
        """Columns from what `stored` gave."""
        flat = {name: np.frombuffer(stored[name], dtype=each.dtype) for name, each in cls.declared().items()}
        samples = next(len(flat[name]) for name, each in cls.declared().items() if not each.per_eps)
        per_eps = {name: flat[name].reshape(samples, grid) for name, each in cls.declared().items() if each.per_eps}
        return cls(**{**flat, **per_eps})

    def stored(self) -> dict[str, bytes]:
        return {name: np.ascontiguousarray(getattr(self, name)).tobytes() for name in self.declared()}

    def within(self, samples: int, rows: np.ndarray, grid: int = 0) -> Self:
        """These samples as `rows` of so many, of which the others have no numbers."""
        whole = self.blank(samples, grid)
        for name in self.declared():
            getattr(whole, name)[rows] = getattr(self, name)
        return whole

    def __len__(self) -> int:
        first = next(iter(self.declared()))
        return len(getattr(self, first))


@dataclass
class SampleColumns(Columns):
    """The samples of an audit, and the model's clean answers."""

    ids: Annotated[np.ndarray, _PLACE]
    labels: Annotated[np.ndarray, _PLACE]
    predictions: Annotated[np.ndarray, _PLACE]
    confidences: Annotated[np.ndarray, _NUMBER]
    radii: Annotated[np.ndarray, _NUMBER]  # certified; NaN where nothing is

    @property
    def right(self) -> np.ndarray:
        same: np.ndarray = self.labels == self.predictions
        return same


@dataclass
class AttackColumns(Columns):
    """One attack's results; empty where it broke nothing, or the model was wrong before."""

    distances: Annotated[np.ndarray, _NUMBER]  # in the audit's norm
    rms: Annotated[np.ndarray, _NUMBER]
    predictions: Annotated[np.ndarray, _PLACE]
    confidences: Annotated[np.ndarray, _NUMBER]
    queries: Annotated[np.ndarray, Column("<i8", -1, per_eps=True)]  # after which it was broken within each ε

    @property
    def broken(self) -> np.ndarray:
        found: np.ndarray = ~np.isnan(self.distances)
        return found


@dataclass
class AttackCounts:
    """Sums over the samples that one attack was run on."""

    attacked: int = 0
    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0
    outside: int = 0  # points that left ball or box and so were not counted
    undecided: int = 0  # points that a certifier gave no answer for
    unstarted: int = 0  # samples for which an attack found no adversarial point to start from
    reached: int = 0  # of the target
    aimed: int = 0  # samples attacked with a target
    inherited: list[int] = field(default_factory=list)  # per ε, not attacked since a smaller one broke them
    cells: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)  # broken, tried; by variant and level

    @classmethod
    def total(cls, parts: Sequence[AttackCounts], grid: int) -> AttackCounts:
        """The sum of all parts, field by field."""
        whole = cls(inherited=[0] * grid)
        for part in parts:
            for each in dataclasses.fields(cls):
                name, value = each.name, getattr(part, each.name)
                if name == "inherited":
                    whole.inherited = [a + b for a, b in zip(whole.inherited, value or [0] * grid, strict=True)]
                elif name == "cells":
                    for cell, (broken, tried) in value.items():
                        before = whole.cells.get(cell, (0, 0))
                        whole.cells[cell] = (before[0] + broken, before[1] + tried)
                else:
                    setattr(whole, name, getattr(whole, name) + value)
        return whole

    def plain(self) -> dict[str, Any]:
        """The sums as JSON values; `from_plain` is its inverse."""
        return {**vars(self), "cells": [[*cell, *count] for cell, count in self.cells.items()]}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> AttackCounts:
        cells = {(variant, level): (broken, tried) for variant, level, broken, tried in values["cells"]}
        return cls(**{**values, "cells": cells})
