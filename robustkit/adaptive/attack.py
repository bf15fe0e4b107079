"""An attack adapted to what it attacks: gradients from one look at the network, success from the model itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from torch import Tensor

from robustkit.adaptive.backward_model import Lens, Look
from robustkit.adaptive.determinised import Habits, Steady
from robustkit.attacks.core.attack import Attack
from robustkit.attacks.core.problem import Problem
from robustkit.attacks.model.classifier import Classifier


class Subject(Steady):
    """The model as it is attacked: its answers are its own, its gradient is that of a look at it.

    So the best point of an attack, and whether it may stop, are told by the model; which way to go, by the look.
    """

    def __init__(self, model: Classifier, habits: Habits, look: Look) -> None:
        super().__init__(model, habits)
        self.look = look
        other = look.bare or look.leave is not None
        self.lens = Steady(model, habits, Lens(model.net, look), "logits" if other else None, habits.together)

    def logits(self, x: Tensor, *, draws: int = 1) -> Tensor:
        """Full-precision logits [B, K], the mean over as many draws as the model needs."""
        return super().logits(x, draws=max(draws, self.habits.draws))

    def gradient(
        self, x: Tensor, objective: Callable[[Tensor], Tensor], *, exact: bool = False, draws: int = 1
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The model's logits; the objective of the look's logits, and its gradient."""
        draws = max(draws, self.habits.draws)
        logits, value, slope = self.lens.gradient(x, objective, exact=exact, draws=draws)
        alike = self.look.plain and self.habits.company is None and (exact or self.precision == "fp32")
        return (logits if alike else self.logits(x)), value, slope

    def spent(self) -> tuple[int, int]:
        """Forwards and backwards so far, those of the look included."""
        copies = self.look.copies
        return self.forwards + copies * self.lens.forwards, self.backwards + copies * self.lens.backwards


@dataclass(frozen=True)
class _Resolved(Attack):
    """Fields of `Adaptive`, its norm and ε settled."""

    name: ClassVar[str] = "adaptive"
    title: ClassVar[str] = "Adaptive attack"
    paper: ClassVar[str] = "Tramèr et al. 2020, arXiv 2002.08347"

    subject: Subject
    attack: Attack
    kind: str
    norm: str = field(kw_only=True)
    eps: float = field(kw_only=True)


@dataclass(frozen=True)
class Adaptive(_Resolved):
    """An attack of ours on a `Subject`, judged like any other.

    Tramèr et al. 2020, arXiv 2002.08347: an evaluation adapts the attack to the defence.

    Args:
        subject: of the very model that the attack is called on.
        attack: a budgeted attack; it works in the norm and at the ε of this one.
        kind: a word or two for its title.
    """

    def __init__(self, subject: Subject, attack: Attack, kind: str, *, norm: str = "", eps: float = 0.0) -> None:
        eps = eps or float(attack.parameters()["eps"] or 0.0)
        inner = attack.at(eps)
        if subject.habits.draws > 1:  # one lucky draw is no reason to stop
            inner = inner.thorough()
        super().__init__(subject, inner, kind, norm=norm or inner.norm, eps=eps)

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
        """The inner attack's hyperparameters, and the look."""
        inner = {name: value for name, value in self.attack.parameters().items() if name not in ("norm", "eps")}
        return {"norm": self.norm, "eps": self.eps, "attack": self.attack.name, "look": str(self.subject.look), **inner}

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        subject = self.subject
        before = subject.spent()
        with subject.frozen(), subject.lens.frozen():
            points = self.attack.run(subject, problem)
        after = subject.spent()
        model.forwards += after[0] - before[0]
        model.backwards += after[1] - before[1]
        return points
