"""First-order ascent inside an ε-ball: FGSM, BIM, PGD and MI-FGSM, in L∞, L2 and L1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..core.attack import Attack
from ..core.losses import Aim, check_loss, towards
from ..core.method import Best, Evaluation, Method, State
from ..core.problem import Problem
from ..core.random_draws import row_generator
from ..core.search import search
from ..core.validation import check_count, check_eps, check_flag, check_from_zero, check_optional, require
from ..geometry import norms
from ..model.classifier import Classifier


@dataclass
class _PgdState(State):
    aim: Aim
    momentum: Tensor
    counts: bool  # whether the current point may be the answer: the clean picture may not


@dataclass(frozen=True)
class _Pgd(Method[_PgdState]):
    """Steps uphill along the steepest direction of the norm, projected back; see `search.Method`."""

    norm: norms.Norm
    eps: float
    step: float
    loss: str
    draws: int
    runner_up: Tensor | None = None  # int64 [B], the class to go towards
    decay: float | None = None
    single: bool = False  # the one step is all there is
    starts: Tensor | None = None  # int64 [B] on the CPU, numbers of the random starts; None starts at x
    early_stop: bool = True

    deepens = True

    def begin(self, problem: Problem) -> _PgdState:
        x = problem.x
        point = x.clone()
        if self.starts is not None:
            names = zip(problem.ids.tolist(), self.starts.tolist(), strict=True)
            draws = [self.norm.sample(x.shape[1:], self.eps, row_generator(problem.seed, *name)) for name in names]
            point = self.norm.point(x, torch.stack(draws).to(x), self.eps)
        done = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        momentum = torch.zeros_like(x) if self.decay is not None else x.new_zeros(len(x))
        aim = Aim(problem.goal, self.loss, self.runner_up)
        return _PgdState(point, done, aim, momentum, counts=self.starts is not None)

    def objective(self, state: _PgdState, logits: Tensor) -> Tensor:
        return state.aim(logits)

    def score(self, problem: Problem, state: _PgdState, margin: Tensor) -> Tensor:
        return margin if state.counts else torch.full_like(margin, torch.inf)

    def advance(self, problem: Problem, state: _PgdState, seen: Evaluation) -> None:
        uphill = seen.gradient
        if self.decay is not None:
            scale = uphill.flatten(1).abs().mean(1).clamp(min=torch.finfo(uphill.dtype).tiny)
            uphill = uphill / scale.view(-1, *[1] * (uphill.dim() - 1))
            state.momentum = uphill = self.decay * state.momentum + uphill
        if self.early_stop and state.counts:
            state.done = problem.shared(seen.margin < 0)
        x, z = problem.x, state.point
        if self.single:
            move = self.norm.steepest(uphill, self.step, -z, 1 - z)
            state.point = self.norm.point(x, move.add_(z).sub_(x), self.eps)
        else:
            state.point = self.norm.climb(x, z, uphill, self.step, self.eps)
        state.counts = True


@dataclass(frozen=True)
class FGSM(Attack):
    """Fast gradient sign method: one step of length eps along the steepest direction of the norm.

    Goodfellow et al. 2015, arXiv 1412.6572: `x' = x + eps * sign(grad J(x, y))`. In L2 and L1 the step is the
    one that raises the linearised loss most within ball and box; on a linear model it is the exact optimum.

    Args:
        norm: "linf", "l2" or "l1".
        eps: radius of the ball, in pixel units of [0,1].
        loss: "ce" (cross-entropy), "margin" or "dlr"; see `losses.Aim`.
        eot: queries averaged for the gradient, for a model that answers at random (Athalye et al. 2018).

    Raises:
        ValueError: an unknown norm, an eps that is not positive or, in linf, above 1; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> x = torch.full((3, 1, 2, 2), 0.5)
    >>> adv = FGSM(eps=0.1)(net, x, torch.tensor([0, 1, 0]))
    >>> torch.allclose((adv - x).abs(), torch.tensor(0.1))
    True
    """

    name: ClassVar[str] = "fgsm"
    title: ClassVar[str] = "FGSM"
    paper: ClassVar[str] = "Goodfellow et al. 2015, arXiv 1412.6572"

    norm: str = "linf"
    eps: float = 8 / 255
    loss: str = "ce"
    eot: int = 1

    def __post_init__(self) -> None:
        _check(self)

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        method = _Pgd(norms.get(self.norm), self.eps, self.eps, self.loss, self.eot, single=True)
        return search(model, problem, method, 1).point


@dataclass(frozen=True)
class BIM(Attack):
    """Basic iterative method: FGSM in small steps from the picture itself, projected back into the ball.

    Kurakin et al. 2017, arXiv 1607.02533.

    Args:
        norm: "linf", "l2" or "l1".
        eps: radius of the ball, in pixel units of [0,1].
        steps: gradients per row.
        step_size: length of a step in the same norm; 2.5 * eps / steps by default, enough to cross the ball.
        loss: "ce" (cross-entropy), "margin" or "dlr"; see `losses.Aim`.
        eot: queries averaged for each gradient, for a model that answers at random (Athalye et al. 2018).
        early_stop: let a row go once it is fooled. Off, all steps are made and the point with the best margin
            is returned.

    Raises:
        ValueError: a parameter out of range; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> x = torch.full((3, 1, 2, 2), 0.5)
    >>> adv = BIM(eps=0.1, steps=10)(net, x, torch.tensor([0, 1, 0]))
    >>> bool(((adv - x).abs() <= 0.1 + 1e-6).all())
    True
    """

    name: ClassVar[str] = "bim"
    title: ClassVar[str] = "BIM"
    paper: ClassVar[str] = "Kurakin et al. 2017, arXiv 1607.02533"

    norm: str = "linf"
    eps: float = 8 / 255
    steps: int = 10
    step_size: float | None = None
    loss: str = "ce"
    eot: int = 1
    early_stop: bool = True

    def __post_init__(self) -> None:
        _check(self)

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        step = self.step_size or 2.5 * self.eps / self.steps
        method = _Pgd(norms.get(self.norm), self.eps, step, self.loss, self.eot, early_stop=self.early_stop)
        return search(model, problem, method, self.steps).point


@dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient descent on the loss surface, from random starts in the ball.

    Madry et al. 2018, arXiv 1706.06083. What the first start does not fool meets the others side by side, in batches no
    larger than the one given where there is room for all of a row's, until one of them does.

    Args:
        norm: "linf", "l2" or "l1".
        eps: radius of the ball, in pixel units of [0,1].
        steps: gradients per row and start.
        restarts: random starts per row; each draws from (seed, sample id, restart).
        step_size: length of a step in the same norm; 2.5 * eps / steps by default, enough to cross the ball.
        targets: untargeted, climb towards each of that many most likely wrong classes, every one with all
            restarts (Gowal et al. 2019); 0 climbs away from the label.
        random_start: off, the one start is the picture itself, as in BIM.
        loss: "ce" (cross-entropy), "margin" or "dlr"; see `losses.Aim`.
        eot: queries averaged for each gradient, for a model that answers at random (Athalye et al. 2018).
        early_stop: let a row go once it is fooled. Off, all steps are made and the point with the best margin
            is returned.

    Raises:
        ValueError: a parameter out of range; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> x = torch.full((3, 1, 2, 2), 0.5)
    >>> adv = PGD(norm="l2", eps=0.1, steps=10)(net, x, torch.tensor([0, 1, 0]), seed=7)
    >>> bool(((adv - x).flatten(1).norm(dim=1) <= 0.1 + 1e-6).all())
    True
    """

    name: ClassVar[str] = "pgd"
    title: ClassVar[str] = "PGD"
    paper: ClassVar[str] = "Madry et al. 2018, arXiv 1706.06083"

    norm: str = "linf"
    eps: float = 8 / 255
    steps: int = 40
    restarts: int = 1
    step_size: float | None = None
    targets: int = 0
    random_start: bool = True
    loss: str = "ce"
    eot: int = 1
    early_stop: bool = True

    def __post_init__(self) -> None:
        _check(self)
        check_count("restarts", self.restarts)
        check_count("targets", self.targets, 0)
        check_flag("random_start", self.random_start)
        require(self.random_start or self.restarts == 1, "restarts without random_start would all be the same")

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        norm, step = norms.get(self.norm), self.step_size or 2.5 * self.eps / self.steps

        def climb(rows: Problem, numbers: Tensor, runner_up: Tensor | None) -> Best:
            starts = numbers if self.random_start else None
            early = self.early_stop
            method = _Pgd(
                norm, self.eps, step, self.loss, self.eot, runner_up=runner_up, starts=starts, early_stop=early
            )
            return search(model, rows, method, self.steps)

        return towards(
            model, problem, climb, targets=self.targets, restarts=self.restarts, early_stop=self.early_stop
        ).point


@dataclass(frozen=True)
class MIFGSM(Attack):
    """Momentum iterative FGSM: steps along a decaying sum of L1-normalised gradients.

    Dong et al. 2018, arXiv 1710.06081.

    Args:
        norm: "linf", "l2" or "l1".
        eps: radius of the ball, in pixel units of [0,1].
        steps: gradients per row.
        step_size: length of a step in the same norm; eps / steps by default, as in the paper.
        decay: weight of the momentum, at least 0.
        loss: "ce" (cross-entropy), "margin" or "dlr"; see `losses.Aim`.
        eot: queries averaged for each gradient, for a model that answers at random (Athalye et al. 2018).
        early_stop: let a row go once it is fooled. Off, all steps are made and the point with the best margin
            is returned.

    Raises:
        ValueError: a parameter out of range; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> x = torch.full((3, 1, 2, 2), 0.5)
    >>> adv = MIFGSM(eps=0.1)(net, x, torch.tensor([0, 1, 0]))
    >>> bool(((adv - x).abs() <= 0.1 + 1e-6).all())
    True
    """

    name: ClassVar[str] = "mifgsm"
    title: ClassVar[str] = "MI-FGSM"
    paper: ClassVar[str] = "Dong et al. 2018, arXiv 1710.06081"

    norm: str = "linf"
    eps: float = 8 / 255
    steps: int = 10
    step_size: float | None = None
    decay: float = 1.0
    loss: str = "ce"
    eot: int = 1
    early_stop: bool = True

    def __post_init__(self) -> None:
        _check(self)
        check_from_zero("decay", self.decay)

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        step = self.step_size or self.eps / self.steps
        norm = norms.get(self.norm)
        method = _Pgd(norm, self.eps, step, self.loss, self.eot, decay=self.decay, early_stop=self.early_stop)
        return search(model, problem, method, self.steps).point


def _check(attack: FGSM | BIM | PGD | MIFGSM) -> None:
    check_eps(attack.norm, attack.eps)
    check_loss(attack.loss)
    check_count("eot", attack.eot)
    if isinstance(attack, FGSM):
        return
    check_count("steps", attack.steps)
    check_flag("early_stop", attack.early_stop)
    check_optional("step_size", attack.step_size)
