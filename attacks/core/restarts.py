"""Random restarts of one search: the first by itself, the others side by side in a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .method import Best
from .problem import Problem

Run = Callable[[Problem, Tensor, Tensor], Best]  # of rows, the number of each one's start, and which rows they are


def best_of_starts(problem: Problem, starts: int, early_stop: bool, run: Run) -> Best:
    """Run a search from several starts and keep the best point of each row.

    The first start runs by itself, the others side by side, which costs small batches less. With early_stop a row that
    one of them fools is left out of those that follow.
    """
    best = Best(problem.x.clone(), problem.x.new_full((len(problem.x),), torch.inf))
    left = torch.arange(len(problem.x), device=problem.x.device)
    for numbers in (range(1), range(1, starts)):
        if early_stop:
            left = left[best.score[left] >= 0]
        if len(left) and len(numbers):
            found = batched_starts(problem, left, numbers, run)
            best.offer(left, found.point, found.score)
    return best


def batched_starts(problem: Problem, left: Tensor, numbers: range, run: Run) -> Best:
    """Run the starts of these numbers for the rows `left`, in one batch as far as there is room; the best of each."""
    many, parts = len(numbers), []
    for some in torch.split(left, max(1, max(problem.room, len(left)) // many)):
        starts = torch.tensor(numbers).repeat(len(some))
        found = run(problem.side_by_side(some, many), starts, some.repeat_interleave(many))
        first = torch.arange(len(some), device=some.device) * many
        chosen = first + found.score.view(-1, many).argmin(1)
        parts.append(Best(found.point[chosen], found.score[chosen]))
    return Best(torch.cat([part.point for part in parts]), torch.cat([part.score for part in parts]))
