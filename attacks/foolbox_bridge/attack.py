"""Every attack of foolbox by its name, and a model of ours as one of foolbox's."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..core.attack import Attack
from ..core.goal import Goal
from ..core.losses import runners_up
from ..core.problem import Problem
from ..core.random_draws import row_generator
from ..core.validation import check_eps, require
from ..geometry import norms
from ..model.classifier import Classifier, as_classifier
from .catalogue import (
    STARTS,
    access,
    check_value,
    distance,
    needs_pictures,
    norms_of,
    paper,
    parameters_of,
    sources,
    targetable,
    version,
)

PREFIX = "foolbox:"


def as_foolbox(model: Classifier | nn.Module | Callable[[Tensor], Any]) -> Any:
    """A `foolbox.PyTorchModel` of pictures in [0,1], for scripts that call foolbox themselves.

    The normalisation is folded in. The network is in eval mode and its weights out of the graph while foolbox asks it,
    and as it was afterwards. What is asked counts in the Classifier, if it is given one.

    >>> model = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
    >>> logits = as_foolbox(model)(torch.rand(5, 1, 2, 2))
    >>> logits.shape, model.forwards
    (torch.Size([5, 3]), 5)
    """
    return _wrapped(_Asked(as_classifier(model)))


def _wrapped(asked: _Asked) -> Any:
    from foolbox.models.pytorch import PyTorchModel

    return PyTorchModel(asked.eval(), bounds=(0, 1), device=asked.model.device)


class _Asked(nn.Module):
    """A Classifier as a module. It registers no weights, so that nothing moves them or changes their mode."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.graph(x)


class _AskedByFoolbox(_Asked):
    def forward(self, x: Tensor) -> Tensor:
        # NewtonFool divides by a gradient of zero: the other rows of the batch go on.
        return super().forward(torch.nan_to_num(x, nan=0.5))


def Foolbox(attack: str, **parameters: Any) -> Attack:
    """An attack of foolbox by its name, with the parameters it has there.

    `norm` stands for foolbox's `distance` or `constraint`, `eps` for its `epsilons`; `init_attack` is the name of an
    attack. GenAttack, which needs a target, aims at the most likely wrong class; DatasetAttack looks among the other
    pictures of the batch. A budgeted attack's points are those that foolbox clips to eps, a minimum-norm attack's as
    foolbox leaves them, rows that it cannot fool included. Nothing is mended: an audit judges them like any other.

    foolbox draws from the global generators, for a whole batch at once. They are seeded by (seed, first sample id)
    while it runs, and put back; but a row's result may depend on the others in its batch, which ours never does.

    Raises:
        ValueError: a name or parameter that foolbox does not have, or a value of the wrong type or range; on a call,
            what foolbox refuses, in one line.
        RuntimeError: on a call, an error inside foolbox.

    >>> Foolbox("LinfPGD", eps=0.1, steps=5).name
    'foolbox:LinfProjectedGradientDescentAttack'
    """
    kind = foolbox_attack(attack)
    known = [field.name for field in dataclasses.fields(kind) if field.init]
    for name in parameters:
        require(name in known, f"{kind.title} has no parameter {name!r}; it has {', '.join(known)}")
    return kind(**parameters)


def foolbox_names() -> list[str]:
    """The names of foolbox's attacks, its abbreviations (LinfPGD, FGSM) included."""
    return sorted(sources())


@functools.cache
def foolbox_attack(name: str) -> type[Attack]:
    """The attack of that name as a class like ours; ValueError where foolbox has none."""
    require(name in sources(), f"foolbox has no attack {name!r}; it has {', '.join(sources())}")
    source = sources()[name]
    if source.__name__ != name:  # the same attack, spoken of as it was asked for
        whole = foolbox_attack(source.__name__)
        words = {"__module__": __name__, "__doc__": whole.__doc__, "title": f"foolbox {name}"}
        return dataclasses.make_dataclass(f"Foolbox{name}", [], bases=(whole,), namespace=words, frozen=True)
    from foolbox.attacks.base import FixedEpsilonAttack

    known, budgeted = norms_of(source), issubclass(source, FixedEpsilonAttack)
    default = "l2" if "l2" in known else known[0] if known else ""
    fields: list[tuple[str, Any, Any]] = [("norm", str, default)]
    if budgeted:
        fields.append(("eps", float, 8 / 255))
    space = {
        "__module__": __name__,
        "__doc__": f"{name} of foolbox {version()}, whose own words are:\n\n{inspect.getdoc(source) or 'none'}",
        "name": PREFIX + name,
        "title": f"foolbox {name}",
        "paper": paper(name),
        "norms": known,
        "minimum_norm": bool(known) and not budgeted,
        "ball": bool(known),
        "access": access(name),
        "control": "AdditiveGaussian" in name or "AdditiveUniform" in name,
        "targetable": targetable(name),
        "needs_start": name in STARTS,
        "fewest": bool(known) and distance(source) == 0,
    }
    made = [
        (key, kind, dataclasses.field(default=value, init=bool(known) or key != "norm"))
        for key, kind, value in (*fields, *parameters_of(source))
    ]
    return dataclasses.make_dataclass(f"Foolbox{name}", made, bases=(_Foreign,), namespace=space, frozen=True)


@dataclass(frozen=True)
class _Foreign(Attack):
    """Base of the attacks of foolbox; each adds its own fields."""

    foreign: ClassVar[bool] = True
    fewest: ClassVar[bool] = False  # works in L0

    def __post_init__(self) -> None:
        parameters: dict[str, Any] = {**self.parameters()}
        if self.ball:
            self.check_norm()
        if "eps" in parameters:
            check_eps(self.norm, parameters["eps"])
        for field in dataclasses.fields(self):
            if field.name not in ("norm", "eps"):
                check_value(self._source, field.name, getattr(self, field.name), field.type)
        self._built()

    @property
    def _eps(self) -> float | None:
        parameters: dict[str, Any] = {**self.parameters()}
        budget: float | None = parameters.get("eps")
        return budget

    @property
    def _source(self) -> str:
        return self.name.removeprefix(PREFIX)

    @property
    def _first(self) -> _Foreign | None:
        """The attack that finds its starting points, if it needs some."""
        start, settings = STARTS.get(self._source, (None, {}))
        named = getattr(self, "init_attack", None)
        first = Foolbox(named) if named else Foolbox(start, **settings) if start else None
        return first if isinstance(first, _Foreign) else None

    def parameters(self) -> dict[str, int | float | str | bool | None]:
        return {key: "+".join(map(str, v)) if isinstance(v, tuple) else v for key, v in super().parameters().items()}

    def check_access(self, model: Classifier) -> None:
        super().check_access(model)
        if self._first is not None:
            self._first.check_access(model)

    def check_task(self, classes: int | None, shape: Sequence[int], targeted: bool) -> None:
        super().check_task(classes, shape, targeted)
        if self._first is not None:
            self._first.check_task(classes, shape, targeted)
        if needs_pictures(self._source, self.parameters()):
            self.check_pictures(shape)
        sigma = getattr(self, "max_sigma", None)
        require(
            sigma is None or sigma <= max(shape[1:]),
            f"{self.title}: max_sigma={sigma} is wider than a picture of shape {tuple(shape)}, in pixels",
        )

    def notes(self, classes: int) -> tuple[str, ...]:
        return ("it searches the fewest changed values, which no norm of an audit measures",) if self.fewest else ()

    def __reduce__(self) -> tuple[Any, ...]:  # its class is made on demand, where pickle would not find it
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.init}
        return functools.partial(Foolbox, self.title.removeprefix("foolbox "), **values), ()

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        """Let foolbox run, from starting points where it needs some; rows for which none is found stay as they are."""
        points, rows = problem.x.clone(), torch.arange(len(problem.x), device=problem.x.device)
        first, extra = self._first, dict[str, Tensor]()
        with _seeded(problem), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if first is not None:
                begun, there = first._ask(model, problem, {})
                problem.note_starts(there)
                rows = there.nonzero().squeeze(1)
                problem, extra = problem.take(rows), {"starting_points": begun[rows]}
            if len(rows):
                found, there = self._ask(model, problem, extra)
                if problem.trace is not None:
                    size = norms.get(self.norm).size(found - problem.x) if self.minimum_norm else -1.0 * there
                    problem.trace.note(problem.rows, size, there)
                points[rows] = found
        return points

    def _ask(self, model: Classifier, problem: Problem, extra: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The points that foolbox has for the rows, and whether it calls each a success."""
        from foolbox.criteria import Misclassification, TargetedMisclassification

        x, goal, asked, built = problem.x, problem.goal, _wrapped(_AskedByFoolbox(model)), self._built()
        if self._source == "GenAttack" and not goal.targeted:  # it knows targets alone
            goal = Goal.of(runners_up(model, problem, 1)[:, 0], True)
        criterion = (TargetedMisclassification if goal.targeted else Misclassification)(goal.classes)
        forwards, backwards = model.forwards, model.backwards
        try:
            if hasattr(built, "feed"):  # it looks among other pictures: here those of the batch
                built.feed(asked, x)
            _, points, success = built(asked, x, criterion, epsilons=self._eps, **extra)
        except (ValueError, NotImplementedError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{self.title}: {reason}") from error
        except (AssertionError, IndexError, TypeError) as error:
            raise RuntimeError(f"{self.title} broke off inside foolbox: {type(error).__name__} {error}") from error
        finally:
            _spend(problem, model.forwards - forwards, model.backwards - backwards)
        lost = points.isnan().flatten(1).any(1)  # no picture at all
        return torch.where(lost.view(-1, *[1] * (x.dim() - 1)), x, points.detach()), success & ~lost

    def _built(self) -> Any:
        """The foolbox attack itself, afresh: some keep what they have seen."""
        from foolbox import distances

        source = sources()[self._source]
        takes = inspect.signature(source).parameters
        names = [field.name for field in dataclasses.fields(self) if field.name != "init_attack"]
        values = {name: getattr(self, name) for name in names if name in takes}
        if "distance" in takes:
            values["distance"] = getattr(distances, self.norm)
        if "constraint" in takes:
            values["constraint"] = self.norm
        try:
            return source(**values)
        except ImportError as error:
            package = (error.name or "more").partition(".")[0]
            raise ValueError(f"{self.title} needs {package}: pip install {package}") from None


def _spend(problem: Problem, forwards: int, backwards: int) -> None:
    """Note what a batch cost: foolbox asks about all rows alike, and what does not divide goes to the first."""
    rows = len(problem.x)
    problem.spend(forwards // rows, backwards // rows)
    problem.take(torch.arange(forwards % rows)).spend(1)
    problem.take(torch.arange(backwards % rows)).spend(0, 1)


@contextmanager
def _seeded(problem: Problem) -> Iterator[None]:
    """The global generators, seeded inside and as they were afterwards."""
    import numpy as np

    seed = row_generator(problem.seed, int(problem.ids.min()), 0).initial_seed()
    before = np.random.get_state()
    with torch.random.fork_rng(range(torch.cuda.device_count()) if problem.x.is_cuda else []):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(before)
