"""A perturbation is shortened to the boundary along its own direction, at a fixed cost."""

from __future__ import annotations

import torch
from torch import nn

from robustkit.attacks import Classifier
from robustkit.attacks.core.goal import Goal
from robustkit.attacks.core.method import Best
from robustkit.attacks.core.problem import Problem
from robustkit.attacks.geometry import norms
from robustkit.attacks.minimum_norm.line_search import shorten


def test_it_ends_just_past_the_boundary_and_touches_nothing_else() -> None:
    # The first pixel decides: class 0 above 0.5, class 1 below.
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    net[1].weight.data = torch.tensor([[10.0, 0, 0, 0], [-10.0, 0, 0, 0]])
    net[1].bias.data = torch.tensor([-5.0, 5.0])
    model = Classifier(net)
    x = torch.tensor([[0.9, 0.3, 0.3, 0.3], [0.7, 0.3, 0.3, 0.3]]).view(2, 1, 2, 2)
    far = torch.tensor([[0.0, 0.3, 0.3, 0.3], [0.7, 0.3, 0.3, 0.3]]).view(2, 1, 2, 2)  # the second was not fooled
    problem = Problem(x, Goal.of(torch.tensor([0, 0]), False), torch.arange(2), 0, torch.arange(2))
    found = shorten(model, problem, Best(far.clone(), torch.tensor([0.9, torch.inf])), norms.get("l2"))
    distance = (found.point - x).flatten(1).norm(dim=1)
    assert 0.4 < float(distance[0]) <= 0.4 + 0.9 / 256 + 1e-6
    assert float(found.score[0]) == float(distance[0])
    assert torch.equal(found.point[1], x[1])
    assert torch.isinf(found.score[1])
    assert int(model.logits(found.point[:1]).argmax()) == 1
    assert model.forwards == 8 + 1  # the row without a perturbation costs nothing
    assert model.backwards == 0
