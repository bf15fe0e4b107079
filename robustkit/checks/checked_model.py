"""The model and samples under check, and what several checks ask of them, asked once."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.attacks.core.goal import Goal
from robustkit.attacks.model.classifier import Classifier
from robustkit.checks.check import NotApplicable
from robustkit.checks.state import ModuleState, reseed
from robustkit.text import one_line

_HUGE = 1e30  # stands for an infinite logit, so that differences stay finite
_RUNS = 5  # of equal queries, as in AutoAttack
# Of its size, that a row's logits may change with the other rows: kernels round differently.
BATCH_TOLERANCE = 1e-2
_ALONE = 4  # rows asked one by one
LARGE_PICTURE = 20_000  # values in a picture from which on it is dear to ask about


class CheckedModel:
    """A model with labelled samples.

    A query starts from the same state of the global random generators each time: of a model that answers at random it
    then sees one fixed draw, so that its other faults can be told apart from that one.

    Args:
        model: frozen while it is asked, as in an audit.
        x: float [B, ...] in [0,1].
        y: int64 [B].
        seed: of every draw.
    """

    def __init__(self, model: Classifier, x: Tensor, y: Tensor, seed: int) -> None:
        self.model, self.x, self.y, self.seed = model, x, y, seed
        self.goal = Goal.of(y, False)
        self.state = ModuleState.of(model.net)

    def answers(self, x: Tensor) -> Tensor:
        """Logits [B, K] of x, infinite ones made large."""
        reseed(self.seed)
        return self.model.logits(x).clamp(-_HUGE, _HUGE)

    def random(self, stream: int) -> torch.Generator:
        """A generator of the check's own."""
        return torch.Generator().manual_seed((self.seed * 1000 + stream) % 2**63)

    @cached_property
    def logits(self) -> Tensor:
        return self.answers(self.x)

    @property
    def broken(self) -> bool:
        """True where a logit is infinite."""
        return bool((self.logits.abs() >= _HUGE).any())

    @cached_property
    def resolution(self) -> float:
        """The relative step between two logits next to each other: coarser than the type's where they come out of an
        answer in 16 bits."""
        for kind in (torch.bfloat16, torch.float16):
            if torch.equal(self.logits.to(kind).to(self.logits.dtype), self.logits):
                return torch.finfo(kind).eps
        return torch.finfo(self.logits.dtype).eps

    @cached_property
    def right(self) -> Tensor:
        """bool [B]."""
        return self.logits.argmax(1) == self.y

    @cached_property
    def repeatable(self) -> bool:
        """True where the same question from the same random state gets the same answer: no other randomness is left."""
        return bool((relative_distance(self.answers(self.x), self.logits) < 1e-4).all())

    @cached_property
    def spread(self) -> tuple[float, list[int]]:
        """The largest distance between normalised logits of equal queries, and how many answers of each are right."""
        reseed(self.seed)
        runs = [self.model.logits(self.x).clamp(-_HUGE, _HUGE) for _ in range(_RUNS)]
        unit = [run / (run.norm(dim=1, keepdim=True) + 1e-10) for run in runs]
        most = max(float((one - unit[0]).norm(dim=1).max()) for one in unit[1:])
        return most, [int((run.argmax(1) == self.y).sum()) for run in runs]

    @property
    def randomised(self) -> bool:
        """AutoAttack's flag of a model that answers at random."""
        spread, counts = self.spread
        return spread > 1e-4 or min(counts) != max(counts)

    @cached_property
    def rows_independent(self) -> bool:
        """True where no row's answer depends on the batch, as far as can be told."""
        try:
            most = self.batch_dependence[0]
        except NotApplicable:
            return True
        return most is not None and most <= BATCH_TOLERANCE

    @cached_property
    def batch_dependence(self) -> tuple[float | None, str]:
        """The most that a row's logits change with the other rows, in parts of their size, and when; None where the
        model refuses such a batch.

        Raises:
            NotApplicable: a single row, or answers that change anyway.
        """
        x, before = self.x, self.logits
        if len(x) < 2:
            raise NotApplicable("There is a single sample, which has no other rows to depend on.")
        if not self.repeatable or self.randomised:
            raise NotApplicable("The answers change from call to call, whatever the batch.")
        order = torch.randperm(len(x), generator=self.random(1)).to(x.device)
        half = torch.arange((len(x) + 1) // 2, device=x.device)
        singles = tuple(torch.arange(row, row + 1, device=x.device) for row in range(min(_ALONE, len(x))))
        ways = {"in another order": (order,), "in half the batch": (half,), "alone": singles}
        most, way = 0.0, "in another batch"
        for name, batches in ways.items():
            for rows in batches:
                try:
                    change = float(relative_distance(self.answers(x[rows]), before[rows]).max())
                except Exception as error:  # the model may be anybody's code
                    return None, f"{name} is refused: {one_line(error)}"
                if change > most:
                    most, way = change, name
        return most, way

    @property
    def first_rows(self) -> Tensor:
        """The first rows, for what takes many queries."""
        return self.x[: 12 if self.x[0].numel() <= LARGE_PICTURE else 6]

    def goal_of(self, x: Tensor) -> Goal:
        """The goal of the first rows, as many as x has."""
        return self.goal.take(torch.arange(len(x), device=x.device))

    @cached_property
    def gradients(self) -> Tensor:
        """Of each row's margin over its strongest rival, like x, as autograd gave it: NaN included.

        Raises:
            NotApplicable: the model is a plain function.
            Exception: whatever the model raises.
        """
        return self.loss_gradient(self.x, self.goal)[1]

    def loss_gradient(self, x: Tensor, goal: Goal, loss: str = "margin") -> tuple[Tensor, Tensor]:
        """Logits and the gradient of the goal's margin or cross-entropy at x, in full precision, not mended."""
        if self.model.access != "gradient":
            raise NotApplicable("The model is a plain function, which gives no gradients.")
        raw: list[Tensor] = []

        def listen(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            # A Classifier turns NaN into 0: what comes back to the network's own input tells.
            if inputs and isinstance(inputs[0], Tensor) and inputs[0].requires_grad:
                inputs[0].register_hook(lambda gradient: raw.append(gradient.isnan()))  # type: ignore[no-untyped-call]

        objective = goal.margin if loss == "margin" else goal.cross_entropy
        reseed(self.seed)
        handle = self.model.net.register_forward_pre_hook(listen)
        try:
            logits, _, gradient = self.model.gradient(x, objective, exact=True)
        finally:
            handle.remove()
        for holes in raw:
            gradient = gradient.masked_fill(holes, torch.nan) if holes.shape == gradient.shape else gradient
        return logits, gradient


def relative_distance(left: Tensor, right: Tensor) -> Tensor:
    """Distance of two answers [B, K] in parts of their own size, [B]; a shift of all logits counts too."""
    scale = torch.maximum(left.norm(dim=1), right.norm(dim=1)).clamp_min(1e-10)
    distance: Tensor = (left - right).norm(dim=1) / scale
    return distance
