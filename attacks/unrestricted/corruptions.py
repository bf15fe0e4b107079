"""Common corruptions at five severities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ..core.attack import Attack
from ..core.method import Evaluation, Method, State
from ..core.problem import Problem
from ..core.random_draws import row_generator
from ..core.search import search
from ..core.validation import check_choice, check_count, require
from ..model.classifier import Classifier
from .corruption_functions import CORRUPTIONS, SEVERITIES, corrupted

_ALL = tuple(CORRUPTIONS)


@dataclass
class _Turns(State):
    turn: int


@dataclass(frozen=True)
class _Cells(Method[_Turns]):
    """One cell of the table of kinds and severities after the other; see `search.Method`."""

    cells: list[tuple[int, str]]  # severity and kind, mildest first
    blind = True

    def begin(self, problem: Problem) -> _Turns:
        done = torch.zeros(len(problem.x), dtype=torch.bool, device=problem.x.device)
        return _Turns(self._points(problem, 0), done, 0)

    def _points(self, problem: Problem, turn: int) -> Tensor:
        severity, kind = self.cells[turn]
        # The same numbers at every severity, so that a higher one is more of the same.
        draws = [row_generator(problem.seed, int(i), _ALL.index(kind)) for i in problem.ids]
        rows = zip(problem.x, draws, strict=True)
        return torch.stack([corrupted(picture, kind, severity, draw) for picture, draw in rows])

    def score(self, problem: Problem, state: _Turns, margin: Tensor) -> Tensor:
        broken = margin < 0
        # Every point is scored, the last one too, while `advance` ends with the one before.
        if problem.trace is not None:
            severity, kind = self.cells[state.turn]
            problem.trace.mark(kind, str(severity), problem.rows, broken.cpu())
        # The mildest counts as the best.
        return torch.where(broken, float(state.turn - len(self.cells)), torch.inf).to(margin)

    def advance(self, problem: Problem, state: _Turns, seen: Evaluation) -> None:
        if problem.trace is None:
            state.done = seen.margin < 0
        state.turn += 1
        state.point = self._points(problem, state.turn)


@dataclass(frozen=True)
class Corruption(Attack):
    """Common corruptions: noise, blur, weather and what storing a picture does to it, at five severities.

    Hendrycks & Dietterich 2019, arXiv 1903.12261. A row comes back in the mildest form that breaks it, or unchanged
    if none does. With a trace all kinds are tried on it at all severities, and the trace gets the table; without, a
    row that is broken is let go. The parameters are those of ImageNet-C, for pictures of a shorter side below 85
    pixels those of CIFAR-10-C; lengths in pixels are scaled from 224, or 32, to that side. Unlike there, frost is
    drawn and not photographed, and the pixels of glass blur move all at once.

    Args:
        kind: "all", or one or several of gaussian_noise, shot_noise, impulse_noise, defocus_blur, glass_blur,
            motion_blur, zoom_blur, snow, frost, fog, brightness, contrast, elastic_transform, pixelate and
            jpeg_compression, joined by "+". What is random comes from (seed, sample id, kind).
        severity: 1 to 5, or 0 for all of them, mildest first.

    Raises:
        ValueError: a parameter out of range, rows that are no pictures [B, C, H, W]; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    >>> x = torch.rand(3, 1, 8, 8)
    >>> Corruption("fog+snow", severity=3)(net, x, torch.tensor([0, 1, 0])).shape
    torch.Size([3, 1, 8, 8])
    """

    name: ClassVar[str] = "corruption"
    title: ClassVar[str] = "Common corruptions"
    paper: ClassVar[str] = "Hendrycks & Dietterich 2019, arXiv 1903.12261"
    norms: ClassVar[tuple[str, ...]] = ()
    ball: ClassVar[bool] = False
    access: ClassVar[str] = "labels"

    norm: str = field(init=False, default="")
    kind: str = "all"
    severity: int = 0

    def __post_init__(self) -> None:
        require(isinstance(self.kind, str), f"kind is a string, not {self.kind!r}")
        for kind in self.kind.split("+"):
            check_choice("kind", kind, ("all", *_ALL))
        check_count("severity", self.severity, 0)
        require(self.severity <= SEVERITIES, f"severity is 1 to {SEVERITIES}, or 0 for all, got {self.severity}")

    def cells(self) -> list[tuple[int, str]]:
        """Severities and kinds that are tried, mildest first."""
        asked = self.kind.split("+")
        kinds = [kind for kind in _ALL if "all" in asked or kind in asked]
        severities = range(1, SEVERITIES + 1) if self.severity == 0 else (self.severity,)
        return [(severity, kind) for severity in severities for kind in kinds]

    def check_task(self, classes: int | None, shape: Sequence[int], targeted: bool) -> None:
        super().check_task(classes, shape, targeted)
        self.check_pictures(shape)

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        cells = self.cells()
        return search(model, problem, _Cells(cells), len(cells) - 1).point
