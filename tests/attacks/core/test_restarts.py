"""Starts made side by side find what they find one by one, within the room there is, and a picture that one fools
spends nothing more."""

from __future__ import annotations

import pytest
import torch
from attack_models import Counting, Trained
from torch import Tensor

from robustkit.attacks import APGD, FAB, PGD, Classifier, Square
from robustkit.attacks.core.goal import Goal
from robustkit.attacks.core.method import Best
from robustkit.attacks.core.problem import Problem
from robustkit.attacks.core.query_trace import Trace
from robustkit.attacks.core.restarts import batched_starts, best_of_starts


class Widest(Classifier):
    """Notes the largest batch that it was asked for."""

    widest = 0

    def _forward(self, x: Tensor, precision: str = "fp32") -> Tensor:
        self.widest = max(self.widest, len(x))
        return super()._forward(x, precision)


def problem(rows: int, room: int = 0) -> Problem:
    names = torch.arange(rows)
    return Problem(torch.rand(rows, 3), Goal.of(torch.zeros(rows).long(), False), names, 0, names, room=room)


@pytest.mark.parametrize("room", [1, 4, 7, 30])
def test_each_row_gets_the_best_of_its_starts_whatever_the_room(room) -> None:
    scores, sizes = torch.rand(5, 4), []

    def run(rows: Problem, starts: Tensor, which: Tensor) -> Best:
        sizes.append(len(rows.x))
        assert torch.equal(rows.rows, which)
        return Best(torch.stack([which, starts], 1).float(), scores[which, starts])

    found = batched_starts(problem(5, room), torch.tensor([0, 2, 4]), range(1, 4), run)
    chosen = scores[[0, 2, 4], 1:].argmin(1) + 1
    assert torch.equal(found.point, torch.stack([torch.tensor([0, 2, 4]), chosen], 1).float())
    assert max(sizes) <= max(room, 3)
    assert sum(sizes) == 9


def test_the_first_start_is_made_by_itself_and_what_it_fools_is_done() -> None:
    asked: list[tuple[list[int], list[int]]] = []

    def run(rows: Problem, starts: Tensor, which: Tensor) -> Best:
        asked.append((which.tolist(), starts.tolist()))
        return Best(rows.x, torch.where(which == 1, -1.0, 1.0))

    best_of_starts(problem(3), 3, True, run)
    assert asked[0] == ([0, 1, 2], [0, 0, 0])
    later = [pair for rows, starts in asked[1:] for pair in zip(rows, starts, strict=True)]
    assert later == [(0, 1), (0, 2), (2, 1), (2, 2)]


def test_a_picture_is_done_when_one_of_its_copies_is() -> None:
    copies = problem(3).side_by_side(torch.tensor([0, 2]), 3)
    reached = torch.tensor([False, True, False, False, False, False])
    assert copies.shared(reached).tolist() == [True] * 3 + [False] * 3
    left = copies.take(torch.tensor([1, 4, 5]))
    assert left.shared(torch.tensor([False, False, True])).tolist() == [False, True, True]
    assert problem(3).side_by_side(torch.tensor([1]), 1).copies is None


ATTACKS = [
    PGD(eps=0.03, steps=7, restarts=4),
    PGD(norm="l2", eps=0.3, steps=7, targets=2, restarts=2),
    APGD(norm="l1", eps=2.0, steps=12, restarts=3),
    APGD(eps=0.03, steps=8, loss="dlr", targets=3),
    FAB(norm="l2", steps=6, targets=3, restarts=2),
    Square(eps=0.03, queries=61, restarts=3),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.name}-{attack.norm}")
def test_a_picture_alone_gets_what_it_gets_among_others_and_pays_for_all_its_copies(trained: Trained, attack) -> None:
    x, y = trained.x[:10], trained.y[:10]
    net = Counting(trained.net)
    model, trace = Widest(net), Trace(len(x))
    together = attack(model, x, y, seed=3, trace=trace)
    assert model.widest <= len(x)
    assert int(trace.forwards.sum()) == net.forwards == model.forwards
    assert int(trace.backwards.sum()) == model.backwards
    spent = []
    for row in range(len(x)):
        alone = Trace(1)
        point = attack(trained.net, x[row : row + 1], y[row : row + 1], ids=torch.tensor([row]), seed=3, trace=alone)
        assert torch.allclose(point[0], together[row], atol=1e-4)
        spent.append(int(alone.forwards))
    assert trace.forwards.tolist() == spent
