"""The model and samples under examination, and what several checks ask of them, asked once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from robustkit.attacks.core.goal import Goal
from robustkit.attacks.model.classifier import Classifier
from robustkit.checks.check import NotApplicable
from robustkit.text import one_line

_HUGE = 1e30  # stands for an infinite logit, so that differences stay finite
_RUNS = 5  # of equal queries, as in AutoAttack
COMPANY = 1e-2  # that a row's logits may change with the other rows, in parts of their size: kernels round differently
_ALONE = 4  # rows asked one by one
LARGE = 20_000  # values in a picture from which on it is dear to ask about


class Probe:
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
        self.kept = kept(model.net)

    def answers(self, x: Tensor) -> Tensor:
        """Logits [B, K] of x, infinite ones made large."""
        reseed(self.seed)
        return self.model.logits(x).clamp(-_HUGE, _HUGE)

    def random(self, stream: int) -> torch.Generator:
        """A generator of the check's own."""
        return torch.Generator().manual_seed(self.seed * 1000 + stream)

    @cached_property
    def logits(self) -> Tensor:
        return self.answers(self.x)

    @property
    def broken(self) -> bool:
        """Whether a logit is infinite."""
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
    def steady(self) -> bool:
        """Whether the same question from the same random state gets the same answer."""
        return bool((apart(self.answers(self.x), self.logits) < 1e-4).all())

    @cached_property
    def spread(self) -> tuple[float, list[int]]:
        """The largest distance between normalised logits of equal queries, and how many answers of each are right."""
        reseed(self.seed)
        runs = [self.model.logits(self.x).clamp(-_HUGE, _HUGE) for _ in range(_RUNS)]
        unit = [run / (run.norm(dim=1, keepdim=True) + 1e-10) for run in runs]
        most = max(float((one - unit[0]).norm(dim=1).max()) for one in unit[1:])
        return most, [int((run.argmax(1) == self.y).sum()) for run in runs]

    @property
    def random_answers(self) -> bool:
        """AutoAttack's flag of a model that answers at random."""
        spread, counts = self.spread
        return spread > 1e-4 or min(counts) != max(counts)

    @cached_property
    def apart_from_others(self) -> bool:
        """Whether a row's answer is its own, as far as can be told."""
        try:
            most = self.company[0]
        except NotApplicable:
            return True
        return most is not None and most <= COMPANY

    @cached_property
    def company(self) -> tuple[float | None, str]:
        """The most that a row's logits change with the other rows, in parts of their size, and when; None where the
        model refuses such a batch.

        Raises:
            NotApplicable: a single row, or answers that change anyway.
        """
        x, before = self.x, self.logits
        if len(x) < 2:
            raise NotApplicable("There is a single sample, which has no company to depend on.")
        if not self.steady or self.random_answers:
            raise NotApplicable("The answers change from call to call, whatever the company.")
        order = torch.randperm(len(x), generator=self.random(1)).to(x.device)
        half = torch.arange((len(x) + 1) // 2, device=x.device)
        singles = tuple(torch.arange(row, row + 1, device=x.device) for row in range(min(_ALONE, len(x))))
        ways = {"in another order": (order,), "in half the company": (half,), "alone": singles}
        most, way = 0.0, "in other company"
        for name, batches in ways.items():
            for rows in batches:
                try:
                    change = float(apart(self.answers(x[rows]), before[rows]).max())
                except Exception as error:  # the model may be anybody's code
                    return None, f"{name} is refused: {one_line(error)}"
                if change > most:
                    most, way = change, name
        return most, way

    @property
    def few(self) -> Tensor:
        """The first rows, for what takes many queries."""
        return self.x[: 12 if self.x[0].numel() <= LARGE else 6]

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
        return self.slope(self.x, self.goal)[1]

    def slope(self, x: Tensor, goal: Goal, loss: str = "margin") -> tuple[Tensor, Tensor]:
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


def apart(left: Tensor, right: Tensor) -> Tensor:
    """How far two answers [B, K] lie apart, in parts of their own size [B]; a shift of all logits counts too."""
    scale = torch.maximum(left.norm(dim=1), right.norm(dim=1)).clamp_min(1e-10)
    distance: Tensor = (left - right).norm(dim=1) / scale
    return distance


def reseed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def untouched_random_state() -> Iterator[None]:
    """The global random generators of torch, NumPy and Python are afterwards as they were."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    cpu, array, plain = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        np.random.set_state(array)
        random.setstate(plain)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


Kept = dict[str, tuple[Tensor, Tensor]]


def kept(net: nn.Module) -> Kept:
    """Every weight and buffer by name, with a copy of its values."""
    return {name: (tensor, tensor.detach().clone()) for name, tensor in tensors(net)}


def changed(net: nn.Module, before: Kept) -> list[str]:
    """Names of the weights and buffers that are no longer what they were."""
    now = dict(tensors(net))
    return sorted(
        name
        for name in now.keys() | before.keys()
        if name not in now or name not in before or not _same(now[name], before[name][1])
    )


@torch.no_grad()
def put_back(net: nn.Module, before: Kept) -> None:
    """Undo what `changed` would list."""
    for name in changed(net, before):
        owner, _, key = name.rpartition(".")
        module = net.get_submodule(owner)
        if name not in before:
            delattr(module, key)
            continue
        tensor, values = before[name]
        tensor.copy_(values)
        if getattr(module, key, None) is not tensor:
            setattr(module, key, tensor)


def tensors(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from net.named_parameters()
    yield from net.named_buffers()


def _same(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and left.dtype == right.dtype and bool(torch.equal(left, right))
