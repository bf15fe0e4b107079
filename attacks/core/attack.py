"""Base class of all attacks: frozen hyperparameters, called on a model and a batch."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ..geometry import norms
from ..model.classifier import Classifier, as_classifier
from .problem import Problem, validated
from .query_trace import Trace
from .validation import check_count, check_ratio, require

Batch = tuple[Tensor, Tensor, Tensor]  # x [B, C, H, W], y int64 [B], ids int64 [B]


@dataclass(frozen=True)
class Attack(ABC):
    """Hyperparameters of one attack; calling it runs it.

    Subclasses are dataclasses whose fields are the hyperparameters. They implement `run`.
    """

    name: ClassVar[str]  # on the command line
    title: ClassVar[str]
    paper: ClassVar[str]
    norms: ClassVar[tuple[str, ...]] = tuple(norms.NORMS)  # it can work in
    minimum_norm: ClassVar[bool] = False  # searches the smallest perturbation; has no eps
    ball: ClassVar[bool] = True  # off: changes pictures in a way that no norm measures, and has neither eps nor norm
    access: ClassVar[str] = "gradient"  # what it must be given of the model; see `ACCESS`
    control: ClassVar[bool] = False  # no search at all, such as noise: what an attack is compared with
    targetable: ClassVar[bool] = True  # can go towards a target
    queried: ClassVar[bool] = True  # asks the model itself; off, for one whose points are made elsewhere
    needs_start: ClassVar[bool] = False  # begins at an adversarial point; see `Trace.unstarted`
    foreign: ClassVar[bool] = False  # somebody else's: a point of it outside ball or box is not counted

    norm: str  # "" where `ball` is off

    @property
    def targets(self) -> int:
        """Number of wrong classes approached one after the other; 0 leaves the label. A field where it can be set."""
        return 0

    @property
    def loss(self) -> str:
        """Name of the loss, see `losses.LOSSES`; "" without one. A field where it can be set."""
        return ""

    def __call__(
        self,
        model: Classifier | nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        target: Tensor | None = None,
        ids: Tensor | None = None,
        seed: int = 0,
        trace: Trace | None = None,
    ) -> Tensor:
        """Attack each row of x.

        Args:
            model: a Classifier, or a bare module that takes pictures in [0,1].
            x: float [B, C, H, W] in [0,1], of the weights' dtype, on the model's device.
            y: int64 [B], the true classes.
            target: int64 [B], the classes to reach; without it, the attack is to leave y.
            ids: int64 [B], names of the samples: a row's random numbers come from (seed, id) alone. Without them
                the rows are named 0, 1, 2, ...
            seed: of all random draws.
            trace: counts what each row costs.

        Returns:
            Points like x. A budgeted attack's lie within eps of x; a minimum-norm attack returns a row it
            cannot fool unchanged. Both lie in the box.

        Raises:
            ValueError: an input of the wrong shape, dtype or range, a model that gives no logits or less than the
                attack needs, a parameter that does not go with the model, the pictures or a target.
        """
        model = as_classifier(model)
        self.check_access(model)
        with torch.inference_mode(False), torch.no_grad():
            problem = validated(model, x, y, target=target, ids=ids, seed=seed, trace=trace)
            self.check_task(model.classes, x.shape[1:], target is not None)
            with model.frozen():
                return self.run(model, problem) if len(x) else x.clone()

    @abstractmethod
    def run(self, model: Classifier, problem: Problem) -> Tensor:
        """Attack a problem that has been checked and has at least one row; returns points like its x."""

    def check_access(self, model: Classifier) -> None:
        """Check that the model gives what the attack needs; the ValueError names the attacks that make do with it."""
        if ACCESS.index(model.access) < ACCESS.index(self.access):
            ours = [kind for kind in Attack.kinds() if not kind.foreign]
            enough = sorted({kind.name for kind in ours if ACCESS.index(kind.access) <= ACCESS.index(model.access)})
            raise ValueError(
                f"{self.title} needs {_NEEDS[self.access]}, this model gives {_GIVES[model.access]}: "
                f"take one of {', '.join(enough)}"
            )

    def check_task(self, classes: int | None, shape: Sequence[int], targeted: bool) -> None:
        """Check the parameters against the task, before a single query.

        A default bows to the model, as the 9 targets of FAB do where there are fewer; what was asked for does not.

        Args:
            classes: how many the model has; None where nobody knows yet.
            shape: of a picture, [C, H, W].
            targeted: there is a target.

        Raises:
            ValueError: a parameter does not go with the classes, the shape or the target.
        """
        require(not targeted or self.targetable, f"{self.title} takes no targets")
        by_default = {field.name: field.default for field in dataclasses.fields(self)}
        if self.targets not in (0, by_default.get("targets")):
            asked = f"{self.title}: targets={self.targets}"
            require(not targeted, f"{asked} and a target both say where to go: give one of them")
            if classes is not None:
                most = f"the model has {classes} classes: give at most {classes - 1}"
                require(self.targets < classes, f"{asked}, but {most}")
        if self.loss == "dlr" and classes is not None:
            check_ratio(classes, targeted or self.targets > 0)

    def check_norm(self) -> None:
        """Raise a ValueError if the norm is none that the attack works in."""
        norms.get(self.norm)
        require(self.norm in self.norms, f"{self.title} works in {' and '.join(self.norms)}, not in {self.norm!r}")

    def check_counts(self, *names: str) -> None:
        """Raise a ValueError if one of these parameters is no whole number of at least 1."""
        for name in names:
            check_count(name, getattr(self, name))

    def check_pictures(self, shape: Sequence[int]) -> None:
        """Check that rows of that shape are pictures; else a ValueError."""
        require(len(shape) == 3, f"{self.title} needs pictures [B, C, H, W], got rows of shape {tuple(shape)}")

    @classmethod
    def kinds(cls) -> Iterator[type[Attack]]:
        """List the attacks that are loaded."""
        for sub in cls.__subclasses__():
            if "name" in vars(sub):
                yield sub
            yield from sub.kinds()

    def notes(self, classes: int) -> tuple[str, ...]:
        """List the caveats that a report puts beside this attack's figures on a model of that many classes."""
        return ()

    def fitted(self, model: Classifier, draw: Callable[[], Iterable[Batch]], seed: int) -> Attack:
        """Fit an attack that makes a single change to all samples on them; any other returns itself.

        Args:
            draw: gives a fresh pass over batches (x, y, ids) of the samples, all of them right before the attack.
        """
        return self

    def at(self, eps: float) -> Self:
        """Copy a budgeted attack to another ε, in pixel units of [0,1]."""
        changes: dict[str, Any] = {"eps": eps}
        return dataclasses.replace(self, **changes)

    def thorough(self) -> Self:
        """Copy the attack with early stopping off, where it has any: every row gets all steps, and its best margin."""
        early = any(field.name == "early_stop" for field in dataclasses.fields(self))
        changes: dict[str, Any] = {"early_stop": False} if early else {}
        return dataclasses.replace(self, **changes)

    def parameters(self) -> dict[str, int | float | str | bool | None]:
        """Map the hyperparameters' names to their values, as they are used."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.init}


ACCESS = ("labels", "scores", "gradient")  # each includes the ones before
_NEEDS = {"labels": "labels", "scores": "logits or probabilities", "gradient": "gradients"}
_GIVES = {"labels": "labels alone", "scores": "logits or probabilities without gradients", "gradient": "gradients"}
