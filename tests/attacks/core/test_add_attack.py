"""A new attack is a step and its hyperparameters: it runs, finds a known optimum and is parsed like any other."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from attack_models import Trained, linear, wrong

from robustkit.attacks.core.attack import Attack
from robustkit.attacks.core.query_trace import Trace
from robustkit.attacks.registry import ATTACKS
from robustkit.cli.parsing import parse_attack

SOURCE = '''
from dataclasses import dataclass
from typing import ClassVar

import torch

from robustkit.attacks.core.attack import Attack
from robustkit.attacks.core.method import Method, State
from robustkit.attacks.core.search import search
from robustkit.attacks.geometry import norms


class Uphill(Method[State]):
    """Normalised gradient ascent on the margin."""

    def __init__(self, goal, norm, eps, step):
        self.goal, self.norm, self.eps, self.step = goal, norm, eps, step

    def begin(self, problem):
        return State(problem.x.clone(), torch.zeros(len(problem.x), dtype=torch.bool))

    def objective(self, state, logits):
        return -self.goal.margin(logits)

    def score(self, problem, state, margin):
        return margin

    def advance(self, problem, state, seen):
        state.point = self.norm.climb(problem.x, state.point, seen.gradient, self.step, self.eps)


@dataclass(frozen=True)
class Climb(Attack):
    """Normalised gradient ascent."""

    name: ClassVar[str] = "climb"
    title: ClassVar[str] = "Climb"
    paper: ClassVar[str] = "none"

    norm: str = "l2"
    eps: float = 0.5
    steps: int = 10

    def run(self, model, problem):
        method = Uphill(problem.goal, norms.get(self.norm), self.eps, self.eps / 4)
        return search(model, problem, method, self.steps).point
'''


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    folder: Path = tmp_path_factory.mktemp("somebodys")
    (folder / "somebodys_attack.py").write_text(SOURCE, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        return importlib.import_module("somebodys_attack")


def test_it_runs_through_the_public_call(package: ModuleType, trained: Trained) -> None:
    attack, trace = package.Climb(eps=2.0), Trace(len(trained.x))
    adv = attack(trained.net, trained.x, trained.y, seed=1, trace=trace)
    assert float((adv - trained.x).flatten(1).norm(dim=1).max()) <= 2.0 + 1e-6
    assert int(wrong(trained.net, adv, trained.y).sum()) > int(wrong(trained.net, trained.x, trained.y).sum())
    assert trace.backwards.tolist() == [10] * len(trained.x)
    assert attack.thorough() == attack  # it has no early stopping
    assert attack.at(0.1) == package.Climb(eps=0.1)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_it_finds_the_optimum_of_a_linear_model(package: ModuleType, norm: str) -> None:
    """Of two classes the margin falls by eps times the dual norm of the difference of their weights."""
    weight = torch.tensor([[0.3, -0.2, 0.5, 0.1], [-0.1, 0.4, 0.2, -0.6]])
    net, eps = linear(weight, torch.zeros(2)), 0.05
    x, y = torch.full((1, 4), 0.5), torch.tensor([0])
    adv = package.Climb(norm=norm, eps=eps, steps=40)(net, x, y)
    slope = weight[0] - weight[1]
    dual = {"linf": slope.abs().sum(), "l2": slope.norm(), "l1": slope.abs().max()}[norm]
    torch.testing.assert_close(((x - adv) @ slope)[0], eps * dual, rtol=1e-4, atol=1e-6)


def test_once_registered_the_command_line_knows_it(package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    kind: type[Attack] = package.Climb
    monkeypatch.setitem(ATTACKS, kind.name, kind)
    assert parse_attack("climb:steps=3", "linf") == package.Climb(norm="linf", steps=3)
