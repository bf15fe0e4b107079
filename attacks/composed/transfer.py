"""Transfer: points made on another model, with its gradients, for one that is asked nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from ..bounded.pgd import MIFGSM
from ..core.attack import Attack
from ..core.problem import Problem
from ..core.validation import require
from ..geometry import norms
from ..model.classifier import Classifier

_EPS = 8 / 255


@dataclass(frozen=True)
class _Resolved(Attack):
    """Fields of `Transfer` once its defaults are settled."""

    surrogate: Classifier
    attack: Attack
    norm: str = field(kw_only=True)
    eps: float = field(kw_only=True)


@dataclass(frozen=True)
class Transfer(_Resolved):
    """Transfer: adversarial points of a surrogate, to be judged on a model that is not asked for them.

    Szegedy et al. 2014, arXiv 1312.6199; by default with momentum, which makes points that transfer (Dong et al. 2018,
    arXiv 1710.06081). The inner attack makes all its steps: a point that only just fools the surrogate fools little
    else. The model under attack is spent no query on, so a row that it gets wrong already is moved as well.

    Args:
        surrogate: the model whose gradients are used; it knows the same classes.
        attack: a budgeted attack on it; MIFGSM with 20 steps by default.
        norm: "linf", "l2" or "l1"; the inner attack's by default, or "linf".
        eps: radius of the ball, in pixel units of [0,1]; the inner attack's by default, or 8/255.

    Raises:
        ValueError: an inner attack that has no eps or another norm, a surrogate that gives it too little or has other
            classes than the model; see `Attack` for inputs.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    >>> x = torch.full((3, 1, 2, 2), 0.5)
    >>> adv = Transfer(Classifier(net), eps=0.1)(lambda x: net(x).detach(), x, torch.tensor([0, 1, 0]))
    >>> torch.allclose((adv - x).abs(), torch.tensor(0.1))
    True
    """

    name: ClassVar[str] = "transfer"
    title: ClassVar[str] = "Transfer"
    paper: ClassVar[str] = "Szegedy et al. 2014, arXiv 1312.6199"
    access: ClassVar[str] = "labels"
    queried: ClassVar[bool] = False

    def __init__(
        self, surrogate: Classifier, attack: Attack | None = None, *, norm: str = "", eps: float | None = None
    ) -> None:
        require(isinstance(surrogate, Classifier), f"surrogate is a Classifier, not {type(surrogate).__name__}")
        require(attack is None or isinstance(attack, Attack), f"attack is an Attack, not {type(attack).__name__}")
        inner = attack or MIFGSM(norm=norm or "linf", eps=_EPS if eps is None else eps, steps=20)
        budgeted = "eps" in inner.parameters() and not inner.minimum_norm and inner.queried
        require(budgeted, f"{inner.title} cannot make points that transfer: it is no attack with an eps on a model")
        norm = norm or inner.norm
        radius: Any = inner.parameters()["eps"] if eps is None else eps
        require(norm == inner.norm, f"norm is {norm!r}, but the inner attack {inner.title} works in {inner.norm!r}")
        inner.check_access(surrogate)
        super().__init__(surrogate, inner.at(radius).thorough(), norm=norm, eps=radius)

    def check_task(self, classes: int | None, shape: Sequence[int], targeted: bool) -> None:
        super().check_task(classes, shape, targeted)
        self.attack.check_task(classes, shape, targeted)

    def parameters(self) -> dict[str, int | float | str | bool | None]:
        """The surrogate's name, and the inner attack's with its hyperparameters as `inner_...`."""
        inner = self.attack
        own: dict[str, int | float | str | bool | None] = {
            "surrogate": _title(self.surrogate),
            "attack": inner.name,
            "norm": self.norm,
            "eps": self.eps,
        }
        rest = {f"inner_{name}": value for name, value in inner.parameters().items() if name not in ("norm", "eps")}
        return own | rest

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        here, there = _classes(model), _classes(self.surrogate)
        require(
            here is None or there is None or here == there,
            f"the surrogate {_title(self.surrogate)} has other classes than the model",
        )
        x, place = problem.x, self.surrogate.device
        goal = dataclasses.replace(problem.goal, classes=problem.goal.classes.to(place))
        copy = dataclasses.replace(problem, x=x.to(place, self.surrogate.dtype or x.dtype), goal=goal, trace=None)
        with self.surrogate.frozen():
            points = self.attack.run(self.surrogate, copy)
        # What is rounded to another dtype on its way back may lie outside by that much.
        return norms.get(self.norm).point(x, points.to(x) - x, self.eps)


def _title(model: Classifier) -> str:
    return str(getattr(model, "title", type(model.net).__name__))


def _classes(model: Classifier) -> int | None:
    return model.classes or getattr(model, "num_classes", None)
