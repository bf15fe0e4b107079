"""Random draws for every row of a batch, turn by turn, that depend on seed and sample id alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .problem import Problem

_BLOCK = 16384  # numbers a row draws at once, about: a generator's call costs more than a few thousand numbers


@dataclass
class Draws:
    """Normal numbers [B, *shape], or uniform ones in [0,1); each row has its own generator.

    Every row draws in every turn, needed or not, so that what it gets depends on its own turn alone.
    """

    generators: list[torch.Generator]
    ahead: Tensor  # [B, turns, *shape]
    uniform: bool

    @classmethod
    def of(cls, problem: Problem, shape: Sequence[int], stream: int | Tensor, *, uniform: bool = False) -> Draws:
        streams = torch.as_tensor(stream).expand(len(problem.ids)).tolist()
        names = zip(problem.ids.tolist(), streams, strict=True)
        generators = [row_generator(problem.seed, *name) for name in names]
        return cls(generators, problem.x.new_empty(len(generators), 0, *shape), uniform)

    def roll(self) -> Tensor:
        """The next numbers of each row [B, *shape], of the dtype and on the device of x."""
        if self.ahead.shape[1] == 0:
            shape = self.ahead.shape[2:]
            block = (max(1, min(64, _BLOCK // max(1, math.prod(shape)))), *shape)
            make = torch.rand if self.uniform else torch.randn
            drawn = torch.stack([make(block, generator=generator) for generator in self.generators])
            self.ahead = drawn.to(self.ahead)
        now, self.ahead = self.ahead[:, 0], self.ahead[:, 1:]
        return now

    def take(self, keep: Tensor) -> Draws:
        return Draws([self.generators[row] for row in keep.tolist()], self.ahead[keep], self.uniform)


def row_generator(seed: int, sample: int, stream: int) -> torch.Generator:
    """Random numbers that depend on (seed, sample, stream) alone: not on the batch, its order or the device.

    The three are mixed by splitmix64's finaliser (Steele et al. 2014), so that neighbours share nothing.
    """
    mask = (1 << 64) - 1
    state = 0
    for part in (seed, sample, stream):
        state = (state + part + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return torch.Generator().manual_seed(state & (mask >> 1))
