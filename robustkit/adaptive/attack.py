"""An adaptive attack: the gradient of a backward model, success by the model itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from torch import Tensor

from robustkit.adaptive.backward_model import BackwardModel, SurrogateGradient
from robustkit.adaptive.determinised import DeterminisedModel, Nondeterminism
from robustkit.attacks.core.attack import Attack
from robustkit.attacks.core.problem import Problem
from robustkit.attacks.model.classifier import Classifier
from robustkit.checks.papers import TRAMER


class AdaptedModel(DeterminisedModel):
    """A model as an adaptive attack sees it: the logits are its own, the gradient is a surrogate gradient.

    So the model tells the best point of an attack, and whether it may stop; the backward model tells where to go.

    Args:
        model: the one attacked.
        nondeterminism: of its answers.
        surrogate: of its gradient.
    """

    def __init__(self, model: Classifier, nondeterminism: Nondeterminism, surrogate: SurrogateGradient) -> None:
        super().__init__(model, nondeterminism)
        self.surrogate = surrogate
        self.backward_model = DeterminisedModel(
            model,
            nondeterminism,
            BackwardModel(model.net, surrogate),
            outputs="logits" if surrogate.before_softmax or surrogate.exit is not None else None,
            rows_at_once=nondeterminism.rows_at_once,
        )

    def logits(self, x: Tensor, *, draws: int = 1) -> Tensor:
        """Full-precision logits [B, K], the mean over as many draws as the model needs."""
        return super().logits(x, draws=max(draws, self.nondeterminism.draws))

    def gradient(
        self, x: Tensor, objective: Callable[[Tensor], Tensor], *, exact: bool = False, draws: int = 1
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The model's logits; the objective of the backward model's logits, and its gradient."""
        draws = max(draws, self.nondeterminism.draws)
        logits, value, gradient = self.backward_model.gradient(x, objective, exact=exact, draws=draws)
        own = self.surrogate.plain and self.nondeterminism.fixed_batch is None
        own = own and (exact or self.precision == "fp32")
        return (logits if own else self.logits(x)), value, gradient

    def spent(self) -> tuple[int, int]:
        """Forwards and backwards so far, those of the backward model included."""
        copies, backward = self.surrogate.copies, self.backward_model
        return self.forwards + copies * backward.forwards, self.backwards + copies * backward.backwards


@dataclass(frozen=True)
class _Resolved(Attack):
    """Fields of `AdaptiveAttack`, its norm and ε settled."""

    name: ClassVar[str] = "adaptive"
    title: ClassVar[str] = "Adaptive attack"
    paper: ClassVar[str] = TRAMER

    adapted: AdaptedModel
    attack: Attack
    kind: str
    norm: str = field(kw_only=True)
    eps: float = field(kw_only=True)


@dataclass(frozen=True)
class AdaptiveAttack(_Resolved):
    """An attack of ours on a `AdaptedModel`, judged like any other.

    Tramèr et al. 2020, arXiv 2002.08347: an evaluation adapts the attack to the defence.

    Args:
        adapted: of the very model that the attack is called on.
        attack: a budgeted attack; it works in the norm and at the ε of this one.
        kind: a word or two for its title.
    """

    def __init__(self, adapted: AdaptedModel, attack: Attack, kind: str, *, norm: str = "", eps: float = 0.0) -> None:
        eps = eps or float(attack.parameters()["eps"] or 0.0)
        inner = attack.at(eps)
        if adapted.nondeterminism.draws > 1:  # one lucky draw is no reason to stop
            inner = inner.thorough()
        super().__init__(adapted, inner, kind, norm=norm or inner.norm, eps=eps)

    @property
    def title(self) -> str:  # type: ignore[override]  # an attribute of the class elsewhere
        """Title of the inner attack, and the kind."""
        return f"{self.attack.title} ({self.kind})"

    @property
    def access(self) -> str:  # type: ignore[override]
        """Access that the inner attack needs."""
        return self.attack.access

    def thorough(self) -> Self:
        """Copy the attack with early stopping of the inner one off."""
        return replace(self, attack=self.attack.thorough())

    def parameters(self) -> dict[str, int | float | str | bool | None]:
        """The inner attack's hyperparameters, and the surrogate gradient."""
        inner = {name: value for name, value in self.attack.parameters().items() if name not in ("norm", "eps")}
        own: dict[str, int | float | str | bool | None] = {"norm": self.norm, "eps": self.eps}
        return own | {"attack": self.attack.name, "surrogate_gradient": str(self.adapted.surrogate), **inner}

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        """Run the inner attack on the adapted model; its queries count as the model's."""
        adapted = self.adapted
        before = adapted.spent()
        with adapted.frozen(), adapted.backward_model.frozen():
            points = self.attack.run(adapted, problem)
        after = adapted.spent()
        model.forwards += after[0] - before[0]
        model.backwards += after[1] - before[1]
        return points
