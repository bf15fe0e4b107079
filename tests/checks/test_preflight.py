"""The preflight checks one by one: what they leave behind, what they cannot check, and faults the museum has not."""

from __future__ import annotations

import dataclasses
import json
import random

import numpy as np
import pytest
import torch
from museum import digits, honest
from torch import Tensor, nn

from robustkit.attacks import Classifier
from robustkit.checks import PREFLIGHT, CheckResult, preflight


def by_id(results: list[CheckResult]) -> dict[str, CheckResult]:
    return {result.id: result for result in results}


def small(classes: int = 10) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, classes))


class Around(nn.Module):
    """A function of a network's answer, or of the network and the picture."""

    def __init__(self, net: nn.Module, change: object) -> None:
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.net, x)  # type: ignore[operator]


def test_results_are_plain_values_in_the_order_of_the_table() -> None:
    results = preflight(small(), *digits(16))
    assert [result.id for result in results] == [check.id for check in PREFLIGHT]
    assert len({check.id for check in PREFLIGHT}) == len(PREFLIGHT)
    text = json.dumps([dataclasses.asdict(result) for result in results], allow_nan=False)
    assert [CheckResult(**each) for each in json.loads(text)] == results
    assert all(result.title and result.source and result.detail and result.remedy for result in results)


def test_a_result_refuses_what_a_report_cannot_hold() -> None:
    good = preflight(small(), *digits(16))[0]
    with pytest.raises(ValueError, match="status is one of"):
        dataclasses.replace(good, status="maybe")
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite"):
            dataclasses.replace(good, measured=value)


def test_the_same_seed_gives_the_same_figures() -> None:
    x, y = digits(16)
    net = Around(small(), lambda net, x: net(x) + torch.randn(len(x), 10))
    assert preflight(net, x, y, seed=3) == preflight(net, x, y, seed=3)


def test_model_inputs_and_random_generators_are_left_as_they_were() -> None:
    class Learns(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = small()
            self.norm = nn.BatchNorm1d(10)
            self.register_buffer("seen", torch.tensor(0))

        def forward(self, x: Tensor) -> Tensor:
            self.seen = self.seen + len(x)
            with torch.no_grad():
                self.net[1].weight.mul_(0.999)
            out = self.net(x + 0.01 * torch.randn_like(x) * np.random.rand() * random.random())
            return nn.functional.batch_norm(out, self.norm.running_mean, self.norm.running_var, training=True)

    x, y = digits(16)
    net = Learns()
    model = Classifier(net)
    state, pictures, labels = {k: v.clone() for k, v in net.state_dict().items()}, x.clone(), y.clone()
    flags = [parameter.requires_grad for parameter in net.parameters()]
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    found = by_id(preflight(model, x, y))
    assert found["state-changes"].status == found["randomised"].status == "fail"
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert before[2] == random.getstate()
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert net.training
    assert flags == [parameter.requires_grad for parameter in net.parameters()]
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not net._forward_pre_hooks
    assert not net.net._forward_pre_hooks
    assert torch.equal(x, pictures)
    assert torch.equal(y, labels)
    assert model.forwards > 0
    assert model.backwards > 0


def test_training_mode_is_told_only_where_it_makes_a_difference() -> None:
    x, y = digits(16)
    plain = small().train()
    assert by_id(preflight(plain, x, y))["training-mode"].status == "pass"
    dropping = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(784, 10)).train()
    norm = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 26 * 26, 10)).train()
    for net in (dropping, norm):
        state = {name: value.clone() for name, value in net.state_dict().items()}
        results = by_id(preflight(net, x, y))
        assert {name for name, result in results.items() if result.status in ("warn", "fail")} - {"chance"} == {
            "training-mode"
        }
        assert results["training-mode"].status == "warn"
        assert net.training
        assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())


def test_a_plain_function_is_checked_but_for_its_gradients() -> None:
    net, (x, y) = honest("lenet-mnist"), digits(ROWS)
    with torch.no_grad():
        results = by_id(preflight(Classifier(lambda z: net(z).numpy()), x, y))
        labels = by_id(preflight(Classifier(lambda z: net(z).argmax(1), outputs="labels", classes=10), x, y))
    gradients = {"gradient-unavailable", "gradient-zero", "gradient-nan", "saturated", "gradient-wrong"}
    assert {name for name, result in results.items() if result.status == "n/a"} == gradients
    assert {result.status for name, result in results.items() if name not in gradients} == {"pass"}
    assert all("function" in results[name].detail for name in gradients)
    unfit = gradients | {"probabilities", "step-stage", "leaps", "unstable"}
    assert {name for name, result in labels.items() if result.status == "n/a"} == unfit
    assert {result.status for name, result in labels.items() if name not in unfit} == {"pass"}


def test_known_probabilities_are_not_told_again() -> None:
    model = Classifier(Around(small(), lambda net, x: net(x).softmax(1)), outputs="probabilities")
    results = by_id(preflight(model, *digits(16)))
    assert results["probabilities"].status == "n/a"
    assert {name for name, result in results.items() if result.status in ("warn", "fail")} <= {"chance"}


ROWS = 32


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda net, x: net(x) * 1e9, {"huge-logits", "saturated"}),
        (lambda net, x: net(x) + torch.where(torch.arange(10) == 3, torch.inf, 0.0), {"huge-logits"}),
        (lambda net, x: net(x) if len(x) > 1 else 1 / 0, {"batch-dependent"}),
        (lambda net, x: net(x.detach() + (x - x.detach()) * (x > 0.5)), {"gradient-wrong"}),
        (lambda net, x: net(x + ((x * 15).round() / 15 - x).detach()), {"gradient-wrong", "step-stage", "leaps"}),
    ],
    ids=["huge", "infinite", "refuses one row", "half detached", "straight through"],
)
def test_faults_the_museum_has_not(change: object, expected: set[str]) -> None:
    x, y = digits(ROWS)
    results = preflight(Around(honest("lenet-mnist"), change).eval(), x, y)
    seen = {result.id for result in results if result.status in ("warn", "fail")}
    assert seen <= expected
    assert seen >= expected - {"leaps", "saturated"}


@pytest.mark.parametrize("how", ["grad", "backward", "optimiser", "tensor", "func"])
def test_an_optimisation_inside_is_found_however_it_is_started(how: str) -> None:
    from torch.autograd import grad  # a name of its own, taken before the check looks

    engine = torch.autograd._engine_run_backward  # type: ignore[attr-defined]

    def change(net: nn.Module, x: Tensor) -> Tensor:
        with torch.enable_grad():
            delta = torch.zeros_like(x, requires_grad=True)
            if how == "func":
                return net(x + 0 * torch.func.grad(lambda z: (z**2).sum())(delta.detach()))
            loss = ((x.detach() + delta) ** 2).sum()
            if how == "grad":
                grad(loss, delta)
            elif how == "backward":
                torch.autograd.backward(loss)
            elif how == "tensor":
                loss.backward()
            else:
                torch.optim.SGD([delta], lr=0.0).step()
        return net(x)

    found = by_id(preflight(Around(small(), change), *digits(16)))
    assert found["optimises-inside"].status == "fail"
    assert torch.autograd._engine_run_backward is engine  # type: ignore[attr-defined]


def test_relabelling_is_told_for_two_classes_and_not_for_a_weak_model() -> None:
    x, y = digits(64)
    net = honest("lenet-mnist")
    two = Around(net, lambda net, x: torch.stack([net(x)[:, :5].amax(1), net(x)[:, 5:].amax(1)], 1))
    assert by_id(preflight(two, x, y // 5))["labels-permuted"].status == "pass"
    assert by_id(preflight(two, x, 1 - y // 5))["labels-permuted"].status == "fail"
    shuffled = y[torch.randperm(64, generator=torch.Generator().manual_seed(0))]
    chance = by_id(preflight(net, x, shuffled))["chance"]
    assert (chance.status, "no more than by chance" in chance.detail) == ("fail", True)
    half = torch.where(torch.arange(64) % 2 == 0, y, shuffled)
    assert by_id(preflight(net, x, half))["labels-permuted"].status == "pass"


def test_few_samples_are_enough_to_run_and_none_is_refused() -> None:
    x, y = digits(16)
    single = by_id(preflight(small(), x[:1], y[:1]))
    assert single["batch-dependent"].status == single["labels-permuted"].status == "n/a"
    assert {name for name, result in single.items() if result.status in ("warn", "fail")} == {"chance"}
    assert single["chance"].status == "warn"
    flat = preflight(nn.Linear(784, 10), x.flatten(1), y)
    assert {r.id for r in flat if r.status in ("warn", "fail")} <= {"chance"}  # it has learnt nothing
    with pytest.raises(ValueError, match="no samples"):
        preflight(small(), x[:0], y[:0])
    with pytest.raises(ValueError, match="class 9 asked of a model that has 5 classes"):
        preflight(small(5), x, y)
