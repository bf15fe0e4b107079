"""Goal of an attack, a label left or a target reached, as a margin and as a loss per row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Goal:
    """Leave `classes` (untargeted) or reach them (targeted); int64 [B]."""

    classes: Tensor
    targeted: bool
    highest: int  # of the classes: known on the host, so that checking it costs no wait for the device

    @classmethod
    def of(cls, classes: Tensor, targeted: bool) -> Goal:
        return cls(classes, targeted, int(classes.max()) if len(classes) else 0)

    def margin(self, logits: Tensor) -> Tensor:
        """Margin of each row in logits [B]: its distance from the goal, negative once that is reached.

        A tie is not reached: which class wins it is an accident of argmax.
        """
        own = self._own(logits)
        other = self.others(logits).amax(1)
        return other - own if self.targeted else own - other

    def loss(self, logits: Tensor) -> Tensor:
        """Loss that an ascent raises [B]: the cross-entropy's argument, logsumexp of the others against the class.

        Cross-entropy is softplus of this, so both have the same gradient direction in every row; but this one
        does not saturate. The float32 cross-entropy of a confident model is exactly 0 with a gradient of 0,
        which is how many a defence has looked robust.
        """
        own = self._own(logits)
        rest = torch.logsumexp(self.others(logits), 1)
        return own - rest if self.targeted else rest - own

    def cross_entropy(self, logits: Tensor) -> Tensor:
        """-log softmax of the class, per row [B]."""
        return torch.logsumexp(logits, 1) - self._own(logits)

    def take(self, keep: Tensor) -> Goal:
        return Goal(self.classes[keep], self.targeted, self.highest)

    def others(self, logits: Tensor) -> Tensor:
        """The logits with the class itself out of the running, at -inf."""
        self._check(logits)
        return logits.scatter(1, self.classes[:, None], -torch.inf)

    def _own(self, logits: Tensor) -> Tensor:
        self._check(logits)
        return logits.gather(1, self.classes[:, None]).squeeze(1)

    def _check(self, logits: Tensor) -> None:
        if self.highest >= logits.shape[1]:
            raise ValueError(f"class {self.highest} asked of a model that has {logits.shape[1]} classes")


def answered(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax of the class that is answered [B], and that class [B], of logits [B, K].

    The class is that of the largest logit: between logits that are next to equal the softmax has ties.
    """
    predicted = logits.argmax(1)
    return logits.softmax(1).gather(1, predicted[:, None]).squeeze(1), predicted
