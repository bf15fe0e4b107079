"""Certified radii of small networks, by bounds of their logits over a ball cut by the box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustkit.attacks.core.goal import answered
from robustkit.attacks.core.validation import check_choice, check_count
from robustkit.attacks.geometry import norms
from robustkit.attacks.model.classifier import Classifier
from robustkit.certification.certifier import Certifier, Parameters, Prediction
from robustkit.certification.graph import read_graph
from robustkit.certification.propagate import Reach
from robustkit.errors import ModelError
from robustkit.reports.record.statistics import TOLERANCE

METHODS = {
    "crown": ("CROWN", "Zhang et al. 2018, arXiv 1811.00866"),
    "ibp": ("Interval bounds", "Gowal et al. 2018, arXiv 1810.12715"),
}
_ROUNDING = 1e-4  # of the largest logit: by how much a margin must clear 0, since verdicts are in single precision
_SAME = 1e-3  # of the largest logit, by which the steps read off a network may differ from it


@dataclass(frozen=True)
class Bounds:
    """A lower bound of every margin between the label's logit and another over all pictures within ε and in the box.

    Args:
        method: "ibp", intervals sent forwards (Gowal et al. 2018), or "crown", linear bounds sent back (Zhang et al.
            2018) and tightened by them: tighter, and slower.
        norm: of the ball: "linf", "l2" or "l1".
        halvings: of the gap between the largest ε of a grid that is certified and the next, for a radius in between.

    Raises:
        ValueError: a parameter out of range.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> margins = Bounds().margins(Classifier(net), torch.full((3, 1, 2, 2), 0.5), torch.tensor([0, 1, 0]), 0.1)
    >>> margins.shape
    torch.Size([3])
    """

    method: str = "crown"
    norm: str = "linf"
    halvings: int = 3

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        norms.get(self.norm)
        check_count("halvings", self.halvings, 0)

    def margins(self, model: Classifier, x: Tensor, y: Tensor, eps: float) -> Tensor:
        """Lower bounds, double [B], of the margins of y [B] anywhere within eps of x [B, C, H, W].

        Raises:
            ModelError: a network that no bounds are known for.
        """
        steps = read_graph(model)
        linear = self.method == "crown"
        rows = [Reach(steps, picture.double(), norms.get(self.norm), eps, linear) for picture in x]
        return torch.stack([_margin(row, int(label), linear) for row, label in zip(rows, y, strict=True)])


def _margin(reach: Reach, label: int, linear: bool) -> Tensor:
    """The smallest of the bounds of a margin over the other classes."""
    classes = len(reach.low[-1])
    weights = -torch.eye(classes, dtype=torch.float64, device=reach.x.device)
    weights[:, label] += 1
    others = [rival for rival in range(classes) if rival != label]
    return reach.least(weights[others], linear).min()


class BoundsCertifier(Certifier):
    """Bounds as a certifier: of the network itself, whose own predictions they are."""

    exact: ClassVar[bool] = True

    def __init__(self, model: Classifier, how: Bounds, grid: Sequence[float]) -> None:
        """Read the network, ModelError where no bounds are known for it; `grid` are the ε asked for, ascending."""
        self.model, self.how, self.grid = model, how, tuple(grid)
        self.steps = read_graph(model)
        self.name = how.method
        self.title, self.paper = METHODS[how.method]
        self.norm, self.ball = how.norm, norms.get(how.norm)

    def parameters(self) -> Parameters:
        return {"halvings": self.how.halvings}

    def predict(self, x: Tensor, ids: Tensor) -> Prediction:
        return _prediction(self.model.logits(x))

    def certify(self, x: Tensor, y: Tensor, ids: Tensor) -> Prediction:
        logits = self.model.logits(x)
        found = _prediction(logits)
        for row in (found.predicted == y).nonzero().squeeze(1).tolist():
            scale = float(logits[row].abs().max())
            self._check(x[row], logits[row], scale)
            found.radius[row] = self._radius(x[row], int(y[row]), _ROUNDING * scale)
        return found

    def _radius(self, x: Tensor, label: int, slack: float) -> float:
        """The largest radius found: over the grid as far as it goes, then between its points.

        What counts as within ε, a tolerance for rounding included, is what is certified.
        """

        def holds(eps: float) -> bool:
            # Linear bounds over mere intervals first: where they do, they are far cheaper.
            for tightened in dict.fromkeys((False, linear)):
                reach = Reach(self.steps, x.double(), self.ball, eps + TOLERANCE, tightened)
                if float(_margin(reach, label, linear)) > slack:
                    return True
            return False

        linear = self.how.method == "crown"
        low = 0.0
        for high in self.grid:
            if not holds(high):
                break
            low = high
        else:
            return low + TOLERANCE
        for _ in range(self.how.halvings):
            middle = (low + high) / 2
            low, high = (middle, high) if holds(middle) else (low, middle)
        return low + TOLERANCE if low else 0.0

    def _check(self, x: Tensor, logits: Tensor, scale: float) -> None:
        """The bounds of a picture alone are its logits: a network that is not what its trace says is found out."""
        point = Reach(self.steps, x.double(), self.ball, 0.0, False)
        middle = (point.low[-1] + point.high[-1]) / 2
        if middle.shape != logits.shape or float((middle - logits).abs().max()) > _SAME * scale:
            raise ModelError("the network does not answer as its trace says: bounds cannot be trusted on it")


def _prediction(logits: Tensor) -> Prediction:
    confidence, predicted = answered(logits)
    radius = torch.full_like(confidence, torch.nan, dtype=torch.float64)
    return Prediction(predicted, torch.zeros_like(predicted, dtype=torch.bool), confidence, radius)
