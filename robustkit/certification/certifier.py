"""What every certificate is: an answer, and a radius within which no change of the picture can alter it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robustkit.attacks.model.classifier import Classifier

Parameters = dict[str, int | float | str | bool | None]


@dataclass(frozen=True)
class Judged:
    """What is said of B pictures.

    Args:
        predicted: int64 [B], the class; the likeliest where there is no answer.
        silent: bool [B], without an answer.
        confidence: [B], in that class.
        radius: [B], within which it is certain; NaN without an answer, or where nobody asked.
    """

    predicted: Tensor
    silent: Tensor
    confidence: Tensor
    radius: Tensor


class Certifier(ABC):
    """One way to certify the answers about pictures [B, C, H, W] in [0,1]."""

    exact: ClassVar[bool]  # never wrong, rather than wrong with a probability that it states

    name: str  # on the command line
    title: str
    paper: str
    norm: str  # in which the radius is measured
    model: Classifier  # the network that is asked

    @abstractmethod
    def certify(self, x: Tensor, y: Tensor, ids: Tensor) -> Judged:
        """The answers, and how far those that agree with y [B] hold; a row's depends on its sample's id alone."""

    @abstractmethod
    def judge(self, x: Tensor, ids: Tensor) -> Judged:
        """The answers alone, of the classifier that the certificate is about."""

    @abstractmethod
    def parameters(self) -> Parameters:
        """What a report says of how it was done."""
