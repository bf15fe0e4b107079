"""The Boundary attack: a random walk along the boundary towards the picture, on labels alone, in L2."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from ..core.attack import Attack
from ..core.boundary_search import ARRIVED, BoundarySearch, BoundaryState, any_row, boundary_points, initial_state
from ..core.method import Evaluation, Method
from ..core.problem import Problem
from ..core.validation import check_count
from ..geometry import norms
from ..geometry.norms import column
from ..model.classifier import Classifier

_STARTS = 12
_TOLERANCE = 0.01  # share of the way to the first point of the boundary
_FIRST = 0.1, 0.02  # lengths of the first steps around the picture and towards it, as shares of the distance
_PROBED = 5  # of so many turns, one asks about the step around alone
_WANTED = 0.4, 0.25  # shares of the steps around, and of whole ones, that should stay on the far side
_PACE = 0.2, 0.1  # how fast the logarithms of the lengths follow what was seen


@dataclass
class _BoundaryState(BoundaryState):
    here: Tensor  # like x, the nearest point so far that reaches the goal
    around: Tensor  # [B] length of the step around, as a share of the distance
    towards: Tensor  # [B] of the one towards x
    steps: Tensor  # int64 [B] on the boundary


@dataclass(frozen=True)
class _BoundaryWalk(Method[_BoundaryState]):
    """See `search.Method`; figure 2 of the paper."""

    boundary: BoundarySearch
    blind: bool = True

    def begin(self, problem: Problem) -> _BoundaryState:
        start = initial_state(problem)
        return _BoundaryState(
            **{field.name: getattr(start, field.name) for field in fields(start)},
            here=problem.x,
            around=torch.full_like(start.low, _FIRST[0]),
            towards=torch.full_like(start.low, _FIRST[1]),
            steps=torch.zeros_like(start.tried),
        )

    def score(self, problem: Problem, state: _BoundaryState, margin: Tensor) -> Tensor:
        return torch.where(margin < 0, self.boundary.norm.size(state.point - problem.x), torch.inf)

    def advance(self, problem: Problem, state: _BoundaryState, seen: Evaluation) -> None:
        x, reached = problem.x, seen.margin < 0
        state.turn += 1
        if state.turn == 1:
            state.done = reached
        walking = state.phase == ARRIVED
        if any_row(~walking):
            arrived = self.boundary.update(x, state, reached)
            state.here = torch.where(
                column(arrived, x), self.boundary.interpolate(x, state.far, state.high), state.here
            )
        self._learn(x, state, reached, walking)
        state.steps = state.steps + walking
        noise = state.noise.roll()
        state.point = self._step(x, state, noise)
        coming = state.phase < ARRIVED
        if any_row(coming):
            state.point = torch.where(column(coming, x), self.boundary.next_point(x, state, noise), state.point)

    def _alone(self, state: _BoundaryState) -> Tensor:
        """Rows whose turn it is to step around alone, bool [B]."""
        return state.steps % _PROBED == 0

    def _learn(self, x: Tensor, state: _BoundaryState, reached: Tensor, walking: Tensor) -> None:
        """Go where the model let the rows go, and set the lengths by how often it does."""
        alone = self._alone(state)
        state.here = torch.where(column(walking & reached, x), state.point, state.here)
        around, towards = (pace * (reached.to(x) - wanted) for pace, wanted in zip(_PACE, _WANTED, strict=True))
        state.around = torch.where(walking & alone, state.around * around.exp(), state.around).clamp(max=1)
        state.towards = torch.where(walking & ~alone, state.towards * towards.exp(), state.towards).clamp(max=0.5)

    def _step(self, x: Tensor, state: _BoundaryState, noise: Tensor) -> Tensor:
        """Around x at right angles to the way there, back to the same distance, and then towards x."""
        move = state.here - x
        size = column(self.boundary.norm.size(move), x)
        heading = norms.unit(move)
        aside = norms.unit(noise - column((noise * heading).flatten(1).sum(1), x) * heading)
        turned = norms.unit(heading + column(state.around, x) * aside)
        share = torch.where(self._alone(state), 1, 1 - state.towards)
        return (x + column(share, x) * size * turned).clamp_(0, 1)


@dataclass(frozen=True)
class Boundary(Attack):
    """Boundary attack: from a picture of another class, small random steps around x and towards it that stay there.

    Brendel et al. 2018, arXiv 1712.04248. Each row sets both of its step lengths by its own successes. Starts are plain
    pictures and noise; a row for which none of them reaches the goal comes back unchanged, which with a target is
    common.

    Args:
        norm: "l2", the only one.
        queries: evaluations of the model per row, in all.

    Raises:
        ValueError: a parameter out of range; see `Attack` for inputs.

    >>> x = torch.full((2, 1, 4, 4), 0.4)
    >>> model = Classifier(lambda x: (x.flatten(1).mean(1) > 0.5).long(), outputs="labels", classes=2)
    >>> adv = Boundary(queries=500)(model, x, torch.tensor([0, 0]), seed=7)
    >>> bool(((adv - x).flatten(1).norm(dim=1) < 0.45).all())  # 0.4 is the least
    True
    """

    name: ClassVar[str] = "boundary"
    title: ClassVar[str] = "Boundary"
    paper: ClassVar[str] = "Brendel et al. 2018, arXiv 1712.04248"
    norms: ClassVar[tuple[str, ...]] = ("l2",)
    minimum_norm: ClassVar[bool] = True
    access: ClassVar[str] = "labels"
    needs_start: ClassVar[bool] = True

    norm: str = "l2"
    queries: int = 5000

    def __post_init__(self) -> None:
        self.check_norm()
        check_count("queries", self.queries)

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        boundary = BoundarySearch(norms.get(self.norm), min(_STARTS, 1 + self.queries // 50), _TOLERANCE)
        return boundary_points(model, problem, _BoundaryWalk(boundary), self.queries)
