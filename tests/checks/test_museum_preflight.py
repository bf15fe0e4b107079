"""The preflight checks on broken evaluations, each with one fault, and on honest models, where none may fire."""

from __future__ import annotations

import pytest
import torch
from museum import EPS, MUSEUM, Exhibit, digits, honest
from scipy.stats import binomtest
from torch import nn

from robustkit import load_data, load_model
from robustkit.attacks import PGD, Classifier
from robustkit.checks import PREFLIGHT, CheckResult, preflight

ROWS = 32


def fired(results: list[CheckResult]) -> set[str]:
    return {result.id for result in results if result.status in ("warn", "fail")}


def skipped(results: list[CheckResult]) -> set[str]:
    return {result.id for result in results if result.status == "n/a"}


@pytest.mark.parametrize("exhibit", MUSEUM, ids=lambda exhibit: exhibit.name)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_checks_of_the_fault_fire_and_no_others(exhibit: Exhibit, seed: int) -> None:
    x, y = digits(ROWS)
    seen = fired(preflight(exhibit.net(), x, exhibit.labels(y), seed))
    assert exhibit.fires & {check.id for check in PREFLIGHT} <= seen
    assert seen <= exhibit.fires | exhibit.related


def test_every_check_has_an_exhibit_or_a_test_of_its_own() -> None:
    shown = {check for exhibit in MUSEUM for check in exhibit.fires}
    assert {check.id for check in PREFLIGHT} - shown == {"huge-logits"}


@pytest.mark.parametrize("name", list(EPS))
@pytest.mark.parametrize("count", [64, 20])
def test_none_fires_on_the_networks_of_the_zoo(name: str, count: int) -> None:
    results = preflight(honest(name), *digits(count))
    assert {result.status for result in results} == {"pass"}


@pytest.mark.real
def test_none_fires_on_the_imagenet_network_and_wrong_pixels_and_labels_show() -> None:
    model = load_model("efficientnet-lite0", device="cpu", precision="fp32")
    batch = next(load_data("imagenet-samples").batches(model, 20, 20))
    results = preflight(model, batch.x, batch.y)
    assert not fired(results)
    assert skipped(results) == {"labels-permuted"}  # 19 classes among 20 photographs
    assert fired(preflight(model, batch.x, batch.y.roll(1))) == {"labels-permuted", "chance"}
    shift, scale = (torch.tensor(numbers).view(3, 1, 1) for numbers in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = model.net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            # Right would be to undo what was done to the pixels before.
            return self.net(((x * 128 + 127) / 255 - shift) / scale * 255 / 128 - 127 / 128)

    twice = Classifier(Twice().eval(), mean=model.mean, std=model.std)
    assert fired(preflight(twice, batch.x, batch.y)) - {"chance"} == {"wrong-range"}


def by_chance(said: torch.Tensor, y: torch.Tensor, classes: int) -> set[str]:
    """What must fire: answers dealt to other pictures, or guesses, are right as often, or there is one class alone."""
    others = [said[i] == y[j] for i in range(len(y)) for j in range(len(y)) if i != j]
    level = max(1 / classes, float(torch.stack(others).double().mean()))
    lucky = binomtest(int((said == y).sum()), len(y), level, alternative="greater").pvalue > 0.05
    return {"chance"} if lucky or len(set(y.tolist())) == 1 else set()


ACTIVATIONS = (nn.ReLU, nn.GELU, nn.Softplus, nn.Tanh, nn.Hardswish)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_networks_that_have_learnt_nothing_have_no_other_fault(
    activation: type[nn.Module], classes: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(classes)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        activation(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(8 * 49, classes),
    )
    x, y = digits(ROWS)
    results = preflight(net.to(dtype).eval(), x.to(dtype), y % classes)
    learnt = net(x.to(dtype)).argmax(1)
    assert fired(results) == by_chance(learnt, y % classes, classes)
    assert not skipped(results)
    assert fired(preflight(net, x.to(dtype), learnt)) == by_chance(learnt, learnt, classes)


def test_none_fires_on_a_resnet_with_random_weights() -> None:
    import torchvision

    torch.manual_seed(0)
    net = torchvision.models.resnet18(num_classes=10).eval()
    x = torch.rand(16, 3, 32, 32)
    assert fired(preflight(net, x, torch.arange(16) % 10)) == {"chance"}  # it has learnt nothing


@pytest.mark.parametrize("name", ["cold", "quantised", "detached", "flipped", "k-winners", "batch-statistics"])
def test_the_plain_audit_overstates(name: str) -> None:
    exhibit = next(exhibit for exhibit in MUSEUM if exhibit.name == name)
    x, y = digits(64)
    eps = EPS[exhibit.base]

    def robust(net: nn.Module) -> float:
        model = Classifier(net)
        points = PGD(eps=eps, steps=20)(model, x, y)
        return float((model.logits(points).argmax(1) == y).float().mean())

    assert robust(exhibit.net()) > robust(honest(exhibit.base)) + 0.1
