"""Answers of networks, in whatever form they come, as one tensor of logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .rounding import sums_to_one

OUTPUTS = ("logits", "probabilities", "sigmoid", "labels")
_NAMES = ("logits", "out", "scores")  # of logits, the surest first
_TOLERANCE = 1e-4


def parts_of(out: Any) -> dict[str, Any] | None:
    """The parts of a dict, a dataclass, a tuple or a list by their names or places; None of anything else."""
    if isinstance(out, Mapping):
        return {str(key): value for key, value in out.items()}
    if dataclasses.is_dataclass(out) and not isinstance(out, type):
        return {field.name: getattr(out, field.name) for field in dataclasses.fields(out)}
    if isinstance(out, tuple | list):
        return dict(zip(getattr(out, "_fields", map(str, range(len(out)))), out, strict=True))
    return None


def certain_part(parts: Mapping[str, Any], rows: int, classes: int | None = None) -> str | None:
    """The name of the part that holds the logits, where there is no doubt; else None.

    In this order: the part called logits, or else out or scores; the only part, unless it bears a name of its own;
    the only one of shape [rows, classes]; of a tuple or a list the only one of two axes.

    Args:
        parts: see `parts_of`.
        rows: pictures that were asked about.
        classes: K where it is known.
    """
    tensors = {name: part for name, part in parts.items() if isinstance(part, Tensor)}
    named = [name for name in _NAMES if name in tensors]
    if named:
        return named[0]
    places = all(name.isdecimal() for name in parts)
    if places and len(parts) == 1 and tensors:
        return next(iter(tensors))
    scores = [
        name
        for name, part in tensors.items()
        if part.dim() == 2 and len(part) == rows and part.is_floating_point() and part.shape[1] > 1
    ]
    if classes is not None:
        scores = [name for name in scores if tensors[name].shape[1] == classes]
    return scores[0] if len(scores) == 1 and (places or classes is not None) else None


def described(parts: Mapping[str, Any]) -> str:
    """Names and shapes of the parts, for a message: `0: [2, 512], 1: [2, 10]`."""
    shown = [
        f"{name}: {list(part.shape) if isinstance(part, Tensor) else type(part).__name__}"
        for name, part in list(parts.items())[:6]
    ]
    return ", ".join(shown) + (", ..." if len(parts) > 6 else "")


def tensor_of(out: Any, rows: int, classes: int | None) -> Tensor:
    """The answer itself, or its part that holds the logits.

    Raises:
        ValueError: it is no tensor, and which part holds the logits is not certain.
    """
    if isinstance(out, Tensor):
        return out
    parts = parts_of(out)
    name = certain_part(parts, rows, classes) if parts else None
    if parts is None or name is None:
        held = f" ({described(parts)})" if parts else ""
        raise ValueError(
            f"the model returned a {type(out).__name__}{held}, not a tensor of logits: wrap it in a module that "
            "returns the logits alone"
        )
    part: Tensor = parts[name]
    return part


def logits_of(out: Tensor, kind: str, classes: int | None, x: Tensor) -> Tensor:
    """Answers of one of the `OUTPUTS` as logits [B, K]; of logits as they are.

    A single number a picture, [B] or [B, 1], is the logit of the second of two classes, or its probability; it is
    taken for that where `classes` is 2.

    Args:
        out: the answers.
        kind: one of `OUTPUTS`.
        classes: K where it is known; needed with "labels".
        x: the pictures, for their number and dtype.

    Raises:
        ValueError: the answers are not of that kind.
    """
    if kind == "labels":
        return _one_hot(out, classes or 0, x)
    single = classes == 2 and out.is_floating_point() and tuple(out.shape) in ((len(x),), (len(x), 1))
    if single:
        out = out.reshape(-1, 1)
    if not out.is_floating_point():
        return out
    if kind == "sigmoid" or (single and kind == "probabilities"):
        out = _log_odds(out)
    elif kind == "probabilities":
        out = _log(out)
    return torch.cat([torch.zeros_like(out), out], 1) if single else out


def _log(out: Tensor) -> Tensor:
    if bool((out < -_TOLERANCE).any()) or not bool(sums_to_one(out).all()):
        raise ValueError(
            "the model returned numbers that are no probabilities: a row is negative or not 1 in all; if each lies in "
            "[0,1] by itself, say outputs='sigmoid'"
        )
    return out.clamp(min=torch.finfo(out.dtype).tiny).log()


def _log_odds(out: Tensor) -> Tensor:
    """The inverse of the sigmoid: the order of the classes stays, and the gradient is that of what went into it."""
    if bool((out < -_TOLERANCE).any()) or bool((out > 1 + _TOLERANCE).any()):
        raise ValueError("the model returned numbers outside [0,1], which no sigmoid returns: say outputs='logits'")
    out = out.to(torch.promote_types(out.dtype, torch.float32))
    limits = torch.finfo(out.dtype)
    return out.clamp(min=limits.tiny).log() - (1 - out).clamp(min=limits.eps / 4).log()


def _one_hot(out: Tensor, classes: int, x: Tensor) -> Tensor:
    if out.shape != x.shape[:1] or out.is_floating_point() or out.is_complex():
        raise ValueError(
            f"the model returned {out.dtype} of shape {tuple(out.shape)} for {len(x)} pictures; whole numbers of "
            f"shape [{len(x)}], the labels, are needed"
        )
    if len(out) and not 0 <= int(out.min()) <= int(out.max()) < classes:
        raise ValueError(f"the model returned a label outside 0 to {classes - 1}")
    return torch.nn.functional.one_hot(out.long(), classes).to(torch.promote_types(x.dtype, torch.float32))
