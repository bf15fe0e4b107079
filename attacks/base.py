"""What every attack is: frozen hyperparameters, called on a model and a batch."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, TypeGuard

import torch
from torch import Tensor, nn

from . import norms
from .classifier import Classifier, as_classifier
from .goal import Goal


@dataclass(frozen=True)
class Problem:
    """A batch to attack: rows of pictures, what is wanted of each, and the names that seed their randomness."""

    x: Tensor  # [B, ...] in [0,1]
    goal: Goal
    ids: Tensor  # int64 [B], on the CPU
    seed: int

    def take(self, keep: Tensor) -> Problem:
        return Problem(self.x[keep], self.goal.take(keep), self.ids[keep.cpu()], self.seed)


@dataclass(frozen=True)
class Attack(ABC):
    """Hyperparameters of one attack; calling it runs it.

    Subclasses are dataclasses whose fields are the hyperparameters. They implement `run`.
    """

    name: ClassVar[str]  # on the command line
    title: ClassVar[str]
    paper: ClassVar[str]
    minimum_norm: ClassVar[bool] = False  # searches the smallest perturbation; has no eps

    norm: str

    def __call__(
        self,
        model: Classifier | nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        target: Tensor | None = None,
        ids: Tensor | None = None,
        seed: int = 0,
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

        Returns:
            Points like x. A budgeted attack's lie within eps of x; a minimum-norm attack returns a row it
            cannot fool unchanged. Both lie in the box.

        Raises:
            ValueError: an input of the wrong shape, dtype or range, or a model that gives no logits.
        """
        model = as_classifier(model)
        with torch.inference_mode(False), torch.no_grad():
            problem = _checked(model, x, y, target, ids, seed)
            with model.frozen():
                return self.run(model, problem) if len(x) else x.clone()

    @abstractmethod
    def run(self, model: Classifier, problem: Problem) -> Tensor:
        """The attacked points of a problem that has been checked and has at least one row."""

    def at(self, eps: float, *, early_stop: bool = True) -> Attack:
        """The same budgeted attack at another ε; without early_stop, with all its steps where it has a choice."""
        names = self.parameters()
        changes: dict[str, Any] = {"eps": eps}
        if not early_stop and "early_stop" in names:
            changes["early_stop"] = False
        return dataclasses.replace(self, **changes)

    def parameters(self) -> dict[str, int | float | str | bool | None]:
        """The hyperparameters by name, as they are used."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_eps(norm: str, eps: float) -> None:
    """ε is a radius in pixel units of [0,1]; in L∞ the whole box is 1 wide."""
    norms.get(norm)
    number = is_number(eps) and 0 < eps < float("inf")
    require(number, f"eps must be a positive number, got {eps!r}")
    require(
        norm != "linf" or eps <= 1,
        f"eps is in pixel units of [0,1], so at most 1 in linf, got {eps} (8/255?)",
    )


def check_count(name: str, value: int, least: int = 1) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(whole and value >= least, f"{name} must be a whole number of at least {least}, got {value!r}")


def check_flag(name: str, value: bool) -> None:
    require(isinstance(value, bool), f"{name} is True or False, not {value!r}")


def _checked(model: Classifier, x: Tensor, y: Tensor, target: Tensor | None, ids: Tensor | None, seed: int) -> Problem:
    require(isinstance(x, Tensor) and isinstance(y, Tensor), "x and y must be tensors")
    require(x.dtype in (torch.float32, torch.float64), f"x must be float32 or float64, got {x.dtype}")
    require(
        model.dtype in (None, x.dtype),
        f"x is {x.dtype} but the model's weights are {model.dtype}: both must be float32, or both float64",
    )
    require(x.dim() in (2, 4), f"x must have shape [B, C, H, W], got {tuple(x.shape)}")
    require(x.numel() > 0 or len(x) == 0, f"x has an empty axis: {tuple(x.shape)}")
    require(model.dtype is None or x.device == model.device, f"x is on {x.device}, the model on {model.device}")
    if len(x):
        low, high = (float(bound) for bound in torch.aminmax(x.detach()))
        require(not (math.isnan(low) or math.isnan(high)), "x holds NaN")
        require(
            low >= 0 and high <= 1,
            f"x must lie in [0,1], got [{low:.4g}, {high:.4g}]: pass it not normalised",
        )
    check_count("seed", seed, 0)
    y = _column("y", y, x, "labels")
    if target is not None:
        target = _column("target", target, x, "targets")
        clash = (target == y).nonzero()
        require(not len(clash), f"target equals the label in {len(clash)} rows, first in row {_first(clash)}")
    ids = torch.arange(len(x)) if ids is None else _column("ids", ids, x, "ids").cpu()
    goal = Goal.of(y, False) if target is None else Goal.of(target, True)
    if target is not None:  # the labels are not asked for, but one out of range is a mistake all the same
        goal = dataclasses.replace(goal, highest=max(goal.highest, Goal.of(y, False).highest))
    return Problem(x.clone() if x.is_inference() else x.detach(), goal, ids, seed)


def _first(rows: Tensor) -> int:
    return int(rows[0]) if len(rows) else -1


def _column(name: str, values: Tensor, x: Tensor, what: str) -> Tensor:
    require(
        isinstance(values, Tensor) and values.dtype == torch.int64 and values.shape == x.shape[:1],
        f"{name} must be int64 of shape [{len(x)}], one of the {what} per row"
        + (f", got {values.dtype} of shape {tuple(values.shape)}" if isinstance(values, Tensor) else ""),
    )
    require(len(x) == 0 or bool((values >= 0).all()), f"{name} holds a negative number")
    # What was made in inference mode cannot take part in a gradient.
    return values.clone().to(x.device) if values.is_inference() else values.to(x.device)
