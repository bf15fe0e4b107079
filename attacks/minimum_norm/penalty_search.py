"""Bisection per row over the weight c of the size of a perturbation, shared by the attacks that penalise it.

They minimise `c * size + loss`: a larger c gives a smaller perturbation, until the attack fails. So each row
looks for the largest c that still succeeds, from a first guess up or down by a factor until success and
failure bracket it, then by bisection in log c.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class PenaltySearch:
    """State of the search, one entry a row [B]."""

    c: Tensor  # under trial
    low: Tensor  # largest that succeeded; 0 where none did
    high: Tensor  # smallest that failed; inf where none did
    tried: Tensor  # int64, values of c finished

    @classmethod
    def start(cls, c: Tensor) -> PenaltySearch:
        return cls(c, torch.zeros_like(c), torch.full_like(c, torch.inf), torch.zeros_like(c, dtype=torch.int64))

    def update(self, ended: Tensor, succeeded: Tensor, factor: float) -> None:
        """Move on to the next c where `ended`, up after a success and down after a failure; both bool [B]."""
        up, down = ended & succeeded, ended & ~succeeded
        self.low = torch.where(up, self.c, self.low)
        self.high = torch.where(down, self.c, self.high)
        middle = (self.low * self.high).sqrt()
        following = torch.where(
            torch.isinf(self.high), self.c * factor, torch.where(self.low == 0, self.c / factor, middle)
        )
        self.c = torch.where(ended, following, self.c)
        self.tried = self.tried + ended.long()

    def take(self, keep: Tensor) -> PenaltySearch:
        return PenaltySearch(self.c[keep], self.low[keep], self.high[keep], self.tried[keep])
