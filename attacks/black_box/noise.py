"""Random noise without a search: the control that an attack in the same ball is compared with."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.attack import Attack
from ..core.method import Evaluation, Method, State
from ..core.problem import Problem
from ..core.random_draws import row_generator
from ..core.search import search
from ..core.validation import check_count, check_eps, check_flag
from ..geometry import norms
from ..model.classifier import Classifier

Draw = Callable[[tuple[int, ...], torch.Generator], Tensor]


@dataclass
class _Turns(State):
    turn: int


@dataclass(frozen=True)
class _Draws(Method[_Turns]):
    """One draw after another, none of which knows of the others; see `search.Method`."""

    norm: norms.Norm
    eps: float
    draw: Draw
    early_stop: bool
    blind = True

    def begin(self, problem: Problem) -> _Turns:
        done = torch.zeros(len(problem.x), dtype=torch.bool, device=problem.x.device)
        return _Turns(self._points(problem, 0), done, 0)

    def _points(self, problem: Problem, turn: int) -> Tensor:
        shape = problem.x.shape[1:]
        draws = [self.draw(shape, row_generator(problem.seed, int(i), turn)) for i in problem.ids]
        return self.norm.point(problem.x, torch.stack(draws).to(problem.x), self.eps)

    def score(self, problem: Problem, state: _Turns, margin: Tensor) -> Tensor:
        return margin

    def advance(self, problem: Problem, state: _Turns, seen: Evaluation) -> None:
        if self.early_stop:
            state.done = seen.margin < 0
        state.turn += 1
        state.point = self._points(problem, state.turn)


@dataclass(frozen=True)
class _Noise(Attack):
    """Base of both: a budget of draws, of which a subclass makes each."""

    access: ClassVar[str] = "labels"
    control: ClassVar[bool] = True

    norm: str = "linf"
    eps: float = 8 / 255
    draws: int = 10
    early_stop: bool = True

    def __post_init__(self) -> None:
        check_eps(self.norm, self.eps)
        check_count("draws", self.draws)
        check_flag("early_stop", self.early_stop)

    @abstractmethod
    def drawn(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """One noise of that shape, within eps."""

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        method = _Draws(norms.get(self.norm), self.eps, self.drawn, self.early_stop)
        return search(model, problem, method, self.draws - 1).point


@dataclass(frozen=True)
class GaussianNoise(_Noise):
    """Noise in a random direction, every direction alike, as long as the ball allows; the worst of several draws.

    Szegedy et al. 2014, arXiv 1312.6199, section 4: Gaussian noise beside the attack, as its control. A draw is
    scaled to norm eps exactly; what the box cuts off after that is lost.

    Args:
        norm: "linf", "l2" or "l1".
        eps: size of the noise, in pixel units of [0,1].
        draws: noises tried per row; each comes from (seed, sample id, draw).
        early_stop: let a row go once it is fooled. Off, all are tried and the point with the best margin is returned.

    Raises:
        ValueError: a parameter out of range; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> x = torch.full((3, 1, 2, 2), 0.5)
    >>> adv = GaussianNoise(norm="l2", eps=0.1)(net, x, torch.tensor([0, 1, 0]), seed=7)
    >>> torch.allclose((adv - x).flatten(1).norm(dim=1), torch.tensor(0.1))
    True
    """

    name: ClassVar[str] = "gaussian-noise"
    title: ClassVar[str] = "Gaussian noise"
    paper: ClassVar[str] = "Szegedy et al. 2014, arXiv 1312.6199"

    def drawn(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        direction = torch.randn(shape, generator=generator)
        return direction * (self.eps / norms.get(self.norm).size(direction[None])[0])


@dataclass(frozen=True)
class UniformNoise(_Noise):
    """Noise that is uniform in the ball, each of its points alike; the worst of several draws.

    Goodfellow et al. 2015, arXiv 1412.6572, section 7: noise in U(-eps, eps) beside the attack, as its control. That
    is the draw in linf; in l2 and l1 it is the same for their balls, nearly all of which lies close to the surface.

    Args:
        norm: "linf", "l2" or "l1".
        eps: radius of the ball, in pixel units of [0,1].
        draws: noises tried per row; each comes from (seed, sample id, draw).
        early_stop: let a row go once it is fooled. Off, all are tried and the point with the best margin is returned.

    Raises:
        ValueError: a parameter out of range; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> x = torch.full((3, 1, 2, 2), 0.5)
    >>> adv = UniformNoise(eps=0.1)(net, x, torch.tensor([0, 1, 0]), seed=7)
    >>> bool(((adv - x).abs() <= 0.1 + 1e-6).all())
    True
    """

    name: ClassVar[str] = "uniform-noise"
    title: ClassVar[str] = "Uniform noise"
    paper: ClassVar[str] = "Goodfellow et al. 2015, arXiv 1412.6572"

    def drawn(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return norms.get(self.norm).sample(shape, self.eps, generator)
