"""Problem of an attack: a batch, the goal of each row, and the check that both fit the model."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.classifier import Classifier
from .goal import Goal
from .query_trace import Trace
from .validation import check_count, require


@dataclass(frozen=True)
class Problem:
    """A batch to attack: rows of pictures, what is wanted of each, and the names that seed their randomness."""

    x: Tensor  # [B, ...] in [0,1]
    goal: Goal
    ids: Tensor  # int64 [B], on the CPU
    seed: int
    rows: Tensor  # int64 [B], on the CPU: places in the batch that the caller gave
    trace: Trace | None = None
    logits: Tensor | None = None  # [B, K] of x, where somebody has asked already
    copies: Tensor | None = None  # int64 [B], equal where rows are one picture, attacked in several ways side by side
    room: int = 0  # rows that the caller gave at once, and so has memory for

    def take(self, keep: Tensor) -> Problem:
        host = keep.cpu()
        logits, copies = (None if each is None else each[keep] for each in (self.logits, self.copies))
        ids, rows, goal = self.ids[host], self.rows[host], self.goal.take(keep)
        return dataclasses.replace(self, x=self.x[keep], goal=goal, ids=ids, rows=rows, logits=logits, copies=copies)

    def side_by_side(self, rows: Tensor, times: int) -> Problem:
        """So many copies of each of these rows, one after the other."""
        if times == 1:
            return self.take(rows)
        copies = torch.arange(len(rows), device=rows.device).repeat_interleave(times)
        taken = self.take(rows.repeat_interleave(times))
        return dataclasses.replace(taken, copies=copies, room=max(self.room, len(rows)))

    def shared(self, reached: Tensor) -> Tensor:
        """Share a success: true if any copy of the row's picture reached the goal, bool [B]."""
        if self.copies is None:
            return reached
        there = torch.zeros(self.room, dtype=torch.bool, device=reached.device)
        there[self.copies[reached]] = True
        return there[self.copies]

    def spend(self, forwards: int, backwards: int = 0) -> None:
        """Note what was asked of the model outside the loop, per row."""
        if self.trace is not None:
            self.trace.spend(self.rows, forwards, backwards)

    def note_starts(self, found: Tensor) -> None:
        """Record for which rows an adversarial start was found, bool [B]."""
        if self.trace is not None:
            self.trace.unstarted[self.rows] = ~found.cpu()


def validated(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    *,
    target: Tensor | None,
    ids: Tensor | None,
    seed: int,
    trace: Trace | None,
) -> Problem:
    """Validate the arguments of a call; see `Attack`.

    Raises:
        ValueError: they do not fit each other or the model.
    """
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
    check_count("seed", seed, 0, 2**64 - 1)
    y = _integers("y", y, x, "labels")
    if target is not None:
        target = _integers("target", target, x, "targets")
        clash = (target == y).nonzero()
        require(not len(clash), f"target equals the label in {len(clash)} rows, first in row {_first(clash)}")
    ids = torch.arange(len(x)) if ids is None else _integers("ids", ids, x, "ids").cpu()
    goal = Goal.of(y, False) if target is None else Goal.of(target, True)
    if target is not None:  # the labels are not asked for, but one out of range is a mistake all the same
        goal = dataclasses.replace(goal, highest=max(goal.highest, Goal.of(y, False).highest))
    require(trace is None or len(trace.forwards) == len(x), "the trace is for a batch of another size")
    x = x.clone() if x.is_inference() else x.detach()
    return Problem(x, goal, ids, seed, rows=torch.arange(len(x)), trace=trace, room=len(x))


def _first(rows: Tensor) -> int:
    return int(rows[0]) if len(rows) else -1


def _integers(name: str, values: Tensor, x: Tensor, what: str) -> Tensor:
    require(
        isinstance(values, Tensor) and values.dtype == torch.int64 and values.shape == x.shape[:1],
        f"{name} must be int64 of shape [{len(x)}], one of the {what} per row"
        + (f", got {values.dtype} of shape {tuple(values.shape)}" if isinstance(values, Tensor) else ""),
    )
    require(len(x) == 0 or bool((values >= 0).all()), f"{name} holds a negative number")
    # What was made in inference mode cannot take part in a gradient.
    return values.clone().to(x.device) if values.is_inference() else values.to(x.device)
