"""Certificates: a prediction, and a radius within which no change of the picture can alter it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robustkit.attacks.model.classifier import Classifier

Parameters = dict[str, int | float | str | bool | None]


@dataclass(frozen=True)
class Prediction:
    """Predictions for B pictures, with their certified radii.

    Args:
        predicted: int64 [B], the class; the likeliest where the classifier abstains.
        abstained: bool [B], it gives no class.
        confidence: [B], in that class.
        radius: [B], within which it is certain; NaN where it abstains, or where none was asked for.
    """

    predicted: Tensor
    abstained: Tensor
    confidence: Tensor
    radius: Tensor


class Certifier(ABC):
    """One way to certify predictions for pictures [B, C, H, W] in [0,1]."""

    exact: ClassVar[bool]  # never wrong, rather than wrong with a probability that it states

    name: str  # on the command line
    title: str
    paper: str
    norm: str  # in which the radius is measured
    model: Classifier  # the network that is asked

    @abstractmethod
    def certify(self, x: Tensor, y: Tensor, ids: Tensor) -> Prediction:
        """Predict, with radii where the prediction is y [B]; a row's depends on its sample's id alone."""

    @abstractmethod
    def predict(self, x: Tensor, ids: Tensor) -> Prediction:
        """Predict without radii, by the classifier that the certificate is about."""

    @abstractmethod
    def parameters(self) -> Parameters:
        """The settings that a report shows."""
