"""A patch that is put somewhere on each picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ..core.goal import Goal
from ..core.problem import Problem
from ..core.random_draws import row_generator
from ..core.validation import check_choice, check_count, check_from_zero, check_positive, require
from ..model.classifier import Classifier
from .shared_perturbation import Draw, OneForAll, minibatches, uphill

SHAPES = ("square", "circle")


@dataclass(frozen=True)
class Patch(OneForAll):
    """Adversarial patch: one small picture that is put on each sample, at a random place, turned at random.

    Brown et al. 2017, arXiv 1712.09665: ascent over places, angles and sizes, by steps along the sign of the
    gradient. `fitted(model, draw, seed)` finds the patch on samples, away from their labels or towards one class;
    `change` is then the patch [C, side, side]. Where it goes on a row comes from (seed, sample id).

    Called without, it is found on the batch it is called with, towards the targets if there are any: there a row's
    result depends on its batch.

    Args:
        share: of the picture's area that the patch covers, at most, up to 0.5.
        shape: "square" or "circle".
        rotate: the patch is turned by up to so many degrees either way, up to 180; 0 not at all.
        scale: the smallest size, as a share of the full one in length; 1 leaves all at the full size.
        towards: the class to reach; none leaves the labels.
        epochs: gradients per sample.
        batch: samples per step.
        step_size: of the first step, in pixel units of [0,1]; it shrinks evenly to the last epoch.

    Raises:
        ValueError: a parameter out of range, a patch wider than the picture, rows that are no pictures [B, C, H, W]
            or not of the channels it was fitted on; see `Attack` for inputs.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    >>> x, y = torch.full((3, 1, 8, 8), 0.5), torch.tensor([0, 0, 0])
    >>> adv = Patch(share=0.25, rotate=0.0, epochs=2)(net, x, y)
    >>> float((adv != x).flatten(1).float().mean(1).max()) <= 0.4
    True
    """

    name: ClassVar[str] = "patch"
    title: ClassVar[str] = "Adversarial patch"
    paper: ClassVar[str] = "Brown et al. 2017, arXiv 1712.09665"
    norms: ClassVar[tuple[str, ...]] = ()
    ball: ClassVar[bool] = False

    norm: str = field(init=False, default="")
    share: float = 0.05
    shape: str = "square"
    rotate: float = 22.5
    scale: float = 1.0
    towards: int | None = None
    epochs: int = 20
    batch: int = 32
    step_size: float = 0.1

    def __post_init__(self) -> None:
        check_positive("share", self.share, 0.5)
        check_choice("shape", self.shape, SHAPES)
        check_from_zero("rotate", self.rotate, 180)
        check_positive("scale", self.scale, 1)
        if self.towards is not None:
            check_count("towards", self.towards, 0)
        self.check_counts("epochs", "batch")
        check_positive("step_size", self.step_size, 1)

    def check_task(self, classes: int | None, shape: Sequence[int], targeted: bool) -> None:
        super().check_task(classes, shape, targeted)
        self._side(shape)
        if self.towards is not None:
            require(
                not targeted,
                f"{self.title}: towards={self.towards} and a target both say where to go: give one of them",
            )
            require(
                classes is None or self.towards < classes,
                f"{self.title}: towards={self.towards} is no class: the model has {classes}, from 0",
            )

    def fit(self, model: Classifier, draw: Draw) -> Tensor | None:
        patch: Tensor | None = None
        for turn, share, rows in minibatches(draw, self.epochs, self.batch):
            if patch is None:
                side = math.ceil(self._side(rows.x.shape[1:]))
                patch = rows.x.new_full((1, rows.x.shape[1], side, side), 0.5)
            part = self._aimed(rows)
            if not len(part.x):
                continue
            with torch.enable_grad():
                texture = patch.clone().requires_grad_()
                point = self._pasted(part, texture, turn + 1)
            slope = uphill(model, part, point.detach())
            (pull,) = torch.autograd.grad(point, texture, slope)
            patch = (patch + self.step_size * share * pull.sign()).clamp(0, 1)
        return None if patch is None else patch[0]

    def run(self, model: Classifier, problem: Problem) -> Tensor:
        patch = self.found(model, problem)
        require(
            patch.shape[1] == problem.x.shape[1],
            f"the patch was fitted on pictures of {patch.shape[1]} channels, these have {problem.x.shape[1]}",
        )
        return self._pasted(problem, patch, 0)

    def _aimed(self, rows: Problem) -> Problem:
        """With the class to reach as the goal, of the rows that are to leave another one."""
        if self.towards is None:
            return rows
        part = rows if rows.goal.targeted else rows.take((rows.goal.classes != self.towards).nonzero().squeeze(1))
        goal = Goal.of(torch.full_like(part.goal.classes, self.towards), True)
        return Problem(part.x, goal, part.ids, part.seed, rows=part.rows, trace=part.trace)

    def _side(self, shape: Sequence[int]) -> float:
        """Of the patch at its full size on pictures of that shape, or its diameter, in pixels."""
        self.check_pictures(shape)
        height, width = shape[1:]
        side = math.sqrt(self.share * height * width * (1 if self.shape == "square" else 4 / math.pi))
        require(
            side <= min(height, width),
            f"a {self.shape} of {self.share:.3g} of the area is wider than a picture of {width}x{height} pixels",
        )
        return side

    def _pasted(self, problem: Problem, patch: Tensor, stream: int) -> Tensor:
        """The pictures with the patch on them, each at a place of its own, the `stream`-th."""
        x = problem.x
        draws = [torch.rand(4, generator=row_generator(problem.seed, int(i), stream)) for i in problem.ids]
        turn, size, right, down = torch.stack(draws).to(x).unbind(1)
        height, width = x.shape[2:]
        angle = (2 * turn - 1) * math.radians(self.rotate)
        half = self._side(x.shape[1:]) / 2 * (1 - (1 - self.scale) * size)
        cos, sin = angle.cos(), angle.sin()
        # How far the turned patch reaches from its middle: so far, it stays off the edges.
        reach = half * (cos.abs() + sin.abs() if self.shape == "square" else 1)
        across = (2 * right - 1) * (width / 2 - reach).clamp(min=0)
        along = (2 * down - 1) * (height / 2 - reach).clamp(min=0)
        # From a place on the picture, -1 to 1, to one on the patch, -1 to 1 as well.
        theta = torch.stack(
            [
                torch.stack([cos * (width / 2), -sin * (height / 2), sin * along - cos * across], 1),
                torch.stack([sin * (width / 2), cos * (height / 2), -sin * across - cos * along], 1),
            ],
            1,
        ) / half.view(-1, 1, 1)
        grid = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=False)
        inside = grid.abs().amax(-1) <= 1 if self.shape == "square" else grid.square().sum(-1) <= 1
        texture = torch.nn.functional.grid_sample(
            patch.expand(len(x), -1, -1, -1), grid, "bilinear", "border", align_corners=False
        )
        return torch.where(inside[:, None], texture, x)
