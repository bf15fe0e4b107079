"""Limited memory of L-BFGS: the last few steps and gradient changes, for each row of a batch on its own.

The products between all stored vectors are kept, so that the two-loop recursion runs on 2m coefficients a row instead
of on pictures; a round then reads the stored pictures twice, however long the memory. The function is
`c * |r|^2 + f`, and c may change: pairs are stored without the penalty's part of the curvature, which is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_LEAST = 1e-8  # cosine of a pair (s, y) below which it tells nothing about the Hessian


@dataclass
class Curvature:
    """The last m steps s and changes y of the gradient of f, rows first.

    One slot a round, shared by all rows: a row that did not move in a round has no pair in that round's slot.
    """

    vectors: Tensor  # [B, 2m, n]: the steps, then the changes
    products: Tensor  # [B, 2m, 2m] of the vectors with each other
    known: Tensor  # bool [B, m], whether a row has a pair in a slot
    slot: int = 0

    @classmethod
    def none(cls, x: Tensor, memory: int) -> Curvature:
        """Nothing known yet about the rows x [B, n]."""
        rows, n = x.shape
        known = torch.zeros(rows, memory, dtype=torch.bool, device=x.device)
        return cls(x.new_zeros(rows, 2 * memory, n), x.new_zeros(rows, 2 * memory, 2 * memory), known)

    def take(self, keep: Tensor) -> Curvature:
        return Curvature(self.vectors[keep], self.products[keep], self.known[keep], self.slot)

    def push(self, step: Tensor, change: Tensor, moved: Tensor) -> None:
        """Store the latest pair [B, n] of the rows that moved, in place of the oldest."""
        m = self.known.shape[1]
        self.slot = (self.slot + 1) % m
        self.vectors[:, self.slot], self.vectors[:, m + self.slot] = step, change
        self.known[:, self.slot] = moved

    def forget(self, rows: Tensor) -> None:
        """Drop every pair where `rows` [B]."""
        self.known &= ~rows[:, None]

    def descent(self, g: Tensor, c: Tensor) -> Tensor:
        """-H g [B, n] for the gradient g [B, n] of the whole function, by the two-loop recursion (Nocedal 1980).

        H is positive definite, so with g masked to the free coordinates, the result masked likewise still descends.
        Where no pair is known H is that of the penalty alone, 1 / 2c.
        """
        m = self.known.shape[1]
        latest = [self.slot, m + self.slot]
        # The newest vectors' products with all, and the gradient's, in one pass over the stored pictures.
        columns = torch.stack([self.vectors[:, latest[0]], self.vectors[:, latest[1]], g], dim=2)
        fresh = torch.bmm(self.vectors, columns)
        self.products[:, :, latest] = fresh[:, :, :2]
        self.products[:, latest, :] = fresh[:, :, :2].transpose(1, 2)
        with_g, gram = fresh[:, :, 2], self.products
        twice = 2 * c

        ss, sy, yy = (torch.diagonal(block, dim1=1, dim2=2) for block in self._blocks(gram))
        curved = sy + twice[:, None] * ss  # sᵀy with the penalty's part
        squared = yy + 2 * twice[:, None] * sy + twice.square()[:, None] * ss  # yᵀy likewise
        useful = self.known & (curved > _LEAST * (ss * squared).sqrt())
        rho = torch.where(useful, 1 / curved, 0.0)

        # q = share * g + weights · vectors
        weights, share = torch.zeros_like(with_g), 1 / twice
        order = [(self.slot - age) % m for age in range(m)]  # newest first
        first: dict[int, Tensor] = {}
        for j in order:
            first[j] = rho[:, j] * (with_g[:, j] + (gram[:, j] * weights).sum(1))
            weights[:, m + j] -= first[j]
            weights[:, j] -= twice * first[j]
        for j in reversed(order):  # the newest pair a row has sets the scale: taken last, it wins
            share = torch.where(useful[:, j], curved[:, j] / squared[:, j], share)
        weights = weights * share[:, None]
        for j in reversed(order):
            along_s = share * with_g[:, j] + (gram[:, j] * weights).sum(1)
            along_y = share * with_g[:, m + j] + (gram[:, m + j] * weights).sum(1) + twice * along_s
            weights[:, j] += first[j] - rho[:, j] * along_y
        combined = torch.bmm(weights[:, None], self.vectors).squeeze(1)
        return torch.addcmul(combined, share[:, None], g).neg_()

    @staticmethod
    def _blocks(gram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        m = gram.shape[1] // 2
        return gram[:, :m, :m], gram[:, :m, m:], gram[:, m:, m:]
