"""One perturbation for all pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.problem import Problem
from ..core.validation import check_eps, check_optional, require
from ..geometry import norms
from ..model.classifier import Classifier
from .shared_perturbation import Draw, OneForAll, minibatches, uphill


@dataclass(frozen=True)
class Universal(OneForAll):
    """Universal adversarial perturbation: one and the same addition that fools as many samples as it can.

    Moosavi-Dezfooli et al. 2017, arXiv 1610.08401; found by projected ascent on the clipped loss over minibatches, as
    in Shafahi et al. 2020, arXiv 1811.11304. Within the ball it is one for all; what leaves the box is cut off row by
    row. `fitted(model, draw, seed)` finds it on samples, away from their labels; `change` is then the perturbation
    [C, H, W].

    Called without, it is found on the batch it is called with, towards the targets if there are any: the one
    exception to the rule that a row's result does not depend on its batch.

    Args:
        norm: "linf", "l2" or "l1".
        eps: radius of the ball, in pixel units of [0,1].
        epochs: gradients per sample.
        batch: samples per step.
        step_size: length of the first step in the same norm, eps / 2 by default; it shrinks evenly to the last epoch.

    Raises:
        ValueError: a parameter out of range, pictures of another shape than those it was fitted on; see `Attack` for
            inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> x, y, ids = torch.full((3, 1, 2, 2), 0.5), torch.tensor([0, 0, 0]), torch.arange(3)
    >>> attack = Universal(eps=0.1).fitted(net, lambda: [(x, y, ids)])
    >>> torch.allclose(attack(net, x, y) - x, attack.change)
    True
    """

    name: ClassVar[str] = "universal"
    title: ClassVar[str] = "Universal perturbation"
    paper: ClassVar[str] = "Moosavi-Dezfooli et al. 2017, arXiv 1610.08401"

    norm: str = "linf"
    eps: float = 8 / 255
    epochs: int = 20
    batch: int = 32
    step_size: float | None = None

    def __post_init__(self) -> None:
        check_eps(self.norm, self.eps)
        self.check_counts("epochs", "batch")
        check_optional("step_size", self.step_size)

    def fit(self, model: Classifier, draw: Draw) -> Tensor | None:
        norm, length = norms.get(self.norm), self.step_size or self.eps / 2
        r: Tensor | None = None
        for _, share, part in minibatches(draw, self.epochs, self.batch):
            x = part.x
            if r is None:
                r = torch.zeros_like(x[:1])
            slope = uphill(model, part, norm.point(x, r.expand_as(x), self.eps))
            # A row that the box keeps from following has no say.
            z = x + r
            slope = torch.where(slope > 0, z < 1, z > 0) * slope
            wide = torch.ones_like(r)
            step = norm.step(slope.sum(0, keepdim=True), length * share, -wide - r, wide - r)
            r = norm.project(r + step, self.eps, -wide, wide)
        return None if r is None else r[0]

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        x, r = problem.x, self.found(model, problem)
        require(
            r.shape[1:] == x.shape[1:],
            f"the perturbation was fitted on pictures of shape {tuple(r.shape[1:])}, these are {tuple(x.shape[1:])}",
        )
        return norms.get(self.norm).point(x, r.expand_as(x), self.eps)
