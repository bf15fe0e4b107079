"""Rotations and translations, tried one after the other on a grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ..core.attack import Attack
from ..core.method import Evaluation, Method, State
from ..core.problem import Problem
from ..core.search import search
from ..core.validation import check_flag, check_positive
from ..model.classifier import Classifier

Move = tuple[float, float, float]  # degrees anticlockwise, shift right and down in shares of the sides


def moved(x: Tensor, degrees: float, right: float, down: float) -> Tensor:
    """Pictures [B, C, H, W] turned about their middle, anticlockwise, and then shifted by shares of the sides.

    Values between pixels are bilinear; what comes in from outside is black, 0. Nothing at all to do gives back the
    picture itself.
    """
    if degrees == right == down == 0:
        return x
    height, width = x.shape[2:]
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    # From a place in the result back to one in the picture, both in -1 to 1: a side is 2 long, whatever its pixels.
    turn = torch.tensor([[cos, -sin * height / width], [sin * width / height, cos]], dtype=x.dtype)
    shift = turn @ torch.tensor([[-2 * right], [-2 * down]], dtype=x.dtype)
    theta = torch.cat([turn, shift], 1).to(x.device).expand(len(x), 2, 3)
    grid = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
    return torch.nn.functional.grid_sample(x, grid, "bilinear", "zeros", align_corners=False).clamp_(0, 1)


@dataclass
class _Turns(State):
    turn: int


@dataclass(frozen=True)
class _Grid(Method[_Turns]):
    """The moves in their order; see `search.Method`."""

    moves: list[Move]
    early_stop: bool
    blind = True

    def begin(self, problem: Problem) -> _Turns:
        done = torch.zeros(len(problem.x), dtype=torch.bool, device=problem.x.device)
        return _Turns(moved(problem.x, *self.moves[0]), done, 0)

    def score(self, problem: Problem, state: _Turns, margin: Tensor) -> Tensor:
        # Every point is scored, the last one too, while `advance` ends with the one before.
        if problem.trace is not None and not self.early_stop:
            degrees, right, down = self.moves[state.turn]
            variant, level = f"{abs(degrees):.3g} degrees", f"{max(abs(right), abs(down)):.2%}"
            before = problem.trace.cells.get((variant, level))
            broken = (margin < 0).cpu()
            problem.trace.mark(
                variant, level, problem.rows, broken if before is None else broken | before[problem.rows]
            )
        return margin

    def advance(self, problem: Problem, state: _Turns, seen: Evaluation) -> None:
        if self.early_stop:
            state.done = seen.margin < 0
        state.turn += 1
        state.point = moved(problem.x, *self.moves[state.turn])


@dataclass(frozen=True)
class Spatial(Attack):
    """Rotation and translation: every combination of a grid, mildest first.

    Engstrom et al. 2019, arXiv 1712.02779: the worst of 31 angles up to 30 degrees either way and 5 x 5 shifts up to
    a tenth of the side, 775 in all. Values between pixels are bilinear and what comes in from outside is black, as in
    the paper.

    Args:
        degrees: the largest angle, up to 180.
        shift: the largest translation along each axis, as a share of the side, up to 1.
        angles: angles from -degrees to degrees; 1 turns nothing.
        shifts: translations from -shift to shift along each axis; 1 shifts nothing.
        early_stop: let a row go once it is fooled: it comes back in its mildest such form. Off, all are tried, the
            point with the best margin is returned, and a trace gets a table of angle by largest shift.

    Raises:
        ValueError: a parameter out of range, rows that are no pictures [B, C, H, W]; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    >>> x = torch.rand(3, 1, 4, 4)
    >>> Spatial(angles=5, shifts=3)(net, x, torch.tensor([0, 1, 0])).shape
    torch.Size([3, 1, 4, 4])
    """

    name: ClassVar[str] = "spatial"
    title: ClassVar[str] = "Rotation and translation"
    paper: ClassVar[str] = "Engstrom et al. 2019, arXiv 1712.02779"
    norms: ClassVar[tuple[str, ...]] = ()
    ball: ClassVar[bool] = False
    access: ClassVar[str] = "labels"

    norm: str = field(init=False, default="")
    degrees: float = 30.0
    shift: float = 0.1
    angles: int = 31
    shifts: int = 5
    early_stop: bool = True

    def __post_init__(self) -> None:
        check_positive("degrees", self.degrees, 180)
        check_positive("shift", self.shift, 1)
        self.check_counts("angles", "shifts")
        check_flag("early_stop", self.early_stop)

    def moves(self) -> list[Move]:
        """The grid, mildest first: by the largest of the three in shares of their limits, then by their sum."""
        angles, shifts = _ends(self.degrees, self.angles), _ends(self.shift, self.shifts)
        grid = [(angle, right, down) for angle in angles for right in shifts for down in shifts]

        def strength(move: Move) -> tuple[float, float]:
            shares = [abs(move[0]) / self.degrees, abs(move[1]) / self.shift, abs(move[2]) / self.shift]
            return max(shares), sum(shares)

        return sorted(grid, key=strength)

    def check_task(self, classes: int | None, shape: Sequence[int], targeted: bool) -> None:
        super().check_task(classes, shape, targeted)
        self.check_pictures(shape)

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        moves = self.moves()
        return search(model, problem, _Grid(moves, self.early_stop), len(moves) - 1).point


def _ends(limit: float, count: int) -> list[float]:
    """`count` numbers from -limit to limit, 0 exactly in the middle of an odd count."""
    return [0.0] if count == 1 else [limit * (2 * i - count + 1) / (count - 1) for i in range(count)]
