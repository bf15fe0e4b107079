"""Names that PyTorch does not promise and that checks and adaptive attacks go by; a use fails aloud where one broke.

docs/private_names.md says what is used, why, and which operations escape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, autograd
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode

ENGINE = "_engine_run_backward"  # of torch.autograd: grad, backward and Tensor.backward all call it by this name

SIGMOIDS = {"sigmoid", "sigmoid_", "special_expit"}  # by the names that a `TorchFunctionMode` is told


class BrokenInternals(RuntimeError):
    """This version of PyTorch lacks something that it does not promise and that we rely on."""

    def __init__(self, missing: str) -> None:
        super().__init__(f"PyTorch {torch.__version__} {missing}: report it, or use a version that is tested")


@contextmanager
def counted_optimisation() -> Iterator[list[int]]:
    """Count, in the one number of the list, backward passes and optimiser steps, however Python starts them.

    Raises:
        BrokenInternals: the engine has lost its name, or its callers no longer go through it.
    """
    engine: Any = getattr(autograd, ENGINE, None)
    if engine is None:
        raise BrokenInternals(f"has no torch.autograd.{ENGINE}")
    calls = [0]

    def counting(*args: Any, **extra: Any) -> tuple[Tensor, ...]:
        calls[0] += 1
        answer: tuple[Tensor, ...] = engine(*args, **extra)
        return answer

    def step(*_: object) -> None:
        calls[0] += 1

    setattr(autograd, ENGINE, counting)
    hook = register_optimizer_step_pre_hook(step)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            leaf = torch.ones((), requires_grad=True)
            torch.autograd.grad(2 * leaf, leaf)
        if calls[0] != 1:
            raise BrokenInternals(f"differentiates without torch.autograd.{ENGINE}")
        calls[0] = 0
        yield calls
    finally:
        hook.remove()
        setattr(autograd, ENGINE, engine)


@cache
def tensor_data_getter() -> Any:
    """The function by which a `TorchFunctionMode` is told of `tensor.data`: a getter, which has no name of its own.

    Raises:
        BrokenInternals: none is told.
    """
    told = _told_of(lambda: torch.zeros(()).data)
    if not told:
        raise BrokenInternals("tells a TorchFunctionMode nothing of tensor.data")
    return told[-1]


@cache
def require_function_names() -> None:
    """Make sure that a `TorchFunctionMode` is told the functions of PyTorch by the names that adaptive attacks go by.

    Raises:
        BrokenInternals: with the first name that is not told.
    """
    for name, call in _NAMED.items():
        if name not in [getattr(func, "__name__", "") for func in _told_of(call)]:
            raise BrokenInternals(f"tells a TorchFunctionMode of “{name}” by no such name")


def sigmoid_outputs(call: Callable[[], object]) -> list[Tensor]:
    """What the sigmoids that Python calls return during a call.

    Raises:
        BrokenInternals: as `require_function_names`.
    """
    require_function_names()
    heard: list[Tensor] = []

    class Listening(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            answer = func(*args, **(kwargs or {}))
            if getattr(func, "__name__", "") in SIGMOIDS and isinstance(answer, Tensor):
                heard.append(answer)
            return answer

    with Listening():
        call()
    return heard


def _told_of(call: Callable[[], object]) -> list[Any]:
    """The functions that a `TorchFunctionMode` is told of during a call."""
    told: list[Any] = []

    class Listening(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            told.append(func)
            return func(*args, **(kwargs or {}))

    with Listening():
        call()
    return told


_X = torch.ones(1, 1)
# One way of spelling each; that the others are told too is tested, not asked for at run time.
_NAMED: dict[str, Callable[[], object]] = {
    "round": lambda: _X.round(),
    "floor": lambda: torch.floor(_X),
    "sign": lambda: _X.sign(),
    "detach": lambda: _X.detach(),
    "ge": lambda: _X >= 0.5,
    "gt": lambda: _X > 0.5,
    "le": lambda: _X <= 0.5,
    "lt": lambda: _X < 0.5,
    "__invert__": lambda: ~(_X > 0.5),
    "float": lambda: (_X > 0.5).float(),
    "to": lambda: (_X > 0.5).to(torch.float32),
    "mul": lambda: _X * (_X > 0.5),
    "where": lambda: torch.where(_X > 0.5, _X, _X),
    "masked_fill": lambda: _X.masked_fill(_X > 0.5, 0),
    "softmax": lambda: _X.softmax(1),
    "sigmoid": lambda: _X.sigmoid(),
    "conv2d": lambda: torch.nn.functional.conv2d(_X[None, None], _X[None, None]),
    "linear": lambda: torch.nn.functional.linear(_X, _X),
    "matmul": lambda: torch.matmul(_X, _X),
}
