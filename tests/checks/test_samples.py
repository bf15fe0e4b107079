"""The checks of the samples: accuracy against chance, and the preprocessing that fits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from museum import digits, honest
from torch import Tensor, nn

from robustkit import audit
from robustkit.attacks import FGSM, Classifier
from robustkit.checks import CheckResult, preflight
from robustkit.checks.check import Finding
from robustkit.checks.samples.chance import against_chance

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET = "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"


def status(found: Finding) -> str:
    return "fail" if found.wrong else "warn" if found.doubt else "pass"


def told(model: nn.Module | Classifier, x: Tensor, y: Tensor, name: str) -> CheckResult:
    return next(result for result in preflight(model, x, y) if result.id == name)


@pytest.mark.parametrize(
    ("truth", "said", "classes", "expected"),
    [
        ([3, 500, 77], [3, 500, 77], 1000, "pass"),
        ([0, 1, 0], [0, 1, 0], 2, "warn"),
        ([0, 1] * 10, [0, 1] * 10, 2, "pass"),
        ([0] * 16 + [1] * 16, ([0] * 8 + [1] * 8) * 2, 2, "fail"),
        (list(range(16)), list(range(1, 17)), 20, "fail"),
        ([5], [5], 1000, "warn"),
        ([5], [6], 1000, "warn"),
        ([5] * 30, [5] * 30, 10, "warn"),  # so would a constant answer be
        ([5] * 30, [6] * 30, 10, "fail"),
        ([0] * 90 + [1] * 10, [0] * 100, 2, "fail"),  # the best constant is no model
        ([0] * 90 + [1] * 10, [0] * 76 + [1] * 24, 2, "pass"),  # fewer are right, but the pictures tell
        ([0, 1, 2], [4, 4, 4], 10, "warn"),
    ],
)
def test_better_than_chance_is_shown_or_told_to_be_open(
    truth: list[int], said: list[int], classes: int, expected: str
) -> None:
    assert status(against_chance(truth, said, classes)) == expected


def test_the_p_value_is_that_of_the_binomial_distribution() -> None:
    found = against_chance([3, 500, 77], [3, 500, 77], 1000)
    assert found.measured == pytest.approx(1e-9)
    assert found.detail == "3 of 3 samples are right, against 0.1 % by chance (p = 1e-09)."
    one = against_chance([3, 500, 77, 20], [3, 1, 1, 1], 1000)  # 1 - (1 - 1/1000)^4
    assert one.measured == pytest.approx(1 - 0.999**4)
    even = against_chance([0, 1, 0], [0, 1, 0], 2)
    assert even.measured == pytest.approx(0.5**3)
    assert "cannot be told with so few samples" in even.detail


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("count", [8, 20, 32])
@pytest.mark.parametrize("skew", [False, True])
def test_answers_that_do_not_depend_on_the_picture_pass_no_oftener_than_the_level(
    classes: int, count: int, skew: bool
) -> None:
    random = np.random.default_rng(classes * count)
    shares = np.arange(classes, 0, -1) ** (2.0 * skew)
    draws = random.choice(classes, (800, 2, count), p=shares / shares.sum())
    passed = [status(against_chance(*draw.tolist(), classes)) == "pass" for draw in draws]
    assert np.mean(passed) < 0.07
    constant = [status(against_chance(draw[0].tolist(), [0] * count, classes)) == "pass" for draw in draws]
    assert not any(constant) or classes == 10
    assert np.mean(constant) < 0.05


@pytest.mark.parametrize("accuracy", [0.8, 0.95])
def test_models_that_have_learnt_something_do_not_fail(accuracy: float) -> None:
    random = np.random.default_rng(0)
    for classes, count in ((2, 32), (10, 20), (1000, 20)):
        found = []
        for _ in range(200):
            truth = random.integers(classes, size=count)
            wrong = (truth + random.integers(1, classes, size=count)) % classes
            said = np.where(random.random(count) < accuracy, truth, wrong)
            found.append(status(against_chance(truth.tolist(), said.tolist(), classes)))
        assert "fail" not in found
        assert found.count("pass") > 190


def test_an_audit_holds_all_its_samples_against_chance() -> None:
    x, y = digits(100)
    x, y = (torch.cat([part[y == 0].repeat_interleave(4, 0), part[y == 1].repeat_interleave(4, 0)]) for part in (x, y))
    assert told(honest("lenet-mnist"), x[:32], y[:32], "chance").status == "warn"  # sorted: a single class
    record = audit(honest("lenet-mnist"), (x, y), [FGSM()], [0.1], checks=True)
    (found,) = (check for check in record.checks if check.id == "chance")
    assert found.status == "pass"
    assert f"{len(x)} of {len(x)} samples are right" in found.detail


@pytest.mark.parametrize(("rows", "verdict"), [(16, "do not trust"), (3, "with reservations")])
def test_no_verdict_trusts_what_is_not_shown_to_be_better_than_chance(rows: int, verdict: str) -> None:
    x, y = digits(rows)
    wrong = (y + torch.randint(1, 10, y.shape, generator=torch.Generator().manual_seed(0))) % 10
    record = audit(honest("lenet-mnist"), (x, wrong), [FGSM()], [0.1], checks=True)
    assert record.clean.count == 0
    assert record.verdict == verdict


class Behind(nn.Module):
    """LeNet-5 behind a function of what the network is shown, that takes it back to the digits."""

    def __init__(self, back: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.back = honest("lenet-mnist"), back

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(self.back(x))
        return out


def coloured(x: Tensor) -> Tensor:
    """The digit in red, its negative in blue."""
    return torch.cat([x, 0.5 * x, 1 - x], 1)


def red(seen: Tensor) -> Tensor:
    return seen[:, :1] * STD[0] + MEAN[0]


@pytest.mark.parametrize(
    ("model", "what", "remedy"),
    [
        (Classifier(Behind(red).eval()), "with the normalisation (ImageNet's)", f"Give {IMAGENET}."),
        (
            Classifier(Behind(lambda seen: seen[:, :1] / 2 + 0.5).eval()),
            "with the normalisation (that to [-1,1])",
            "Give --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5.",
        ),
        (
            Classifier(Behind(lambda seen: seen[:, :1] / 255).eval()),
            "with the pixels times 255",
            "Give --mean 0,0,0 --std 0.00392157,0.00392157,0.00392157.",
        ),
        (
            Classifier(Behind(lambda seen: seen[:, 2:]).eval()),
            "with the channels in the order blue, green, red",
            "Put x.flip(1) as the network's first step",
        ),
        (
            Classifier(Behind(lambda seen: red(seen.flip(1))).eval()),
            "in the order blue, green, red and the normalisation (ImageNet's)",
            f"Give {IMAGENET}, and put x.flip(1)",
        ),
        (
            Classifier(Behind(lambda seen: seen[:, 1:2]).eval(), MEAN, STD),
            "with the model's own normalisation left out",
            "leave out mean and std",
        ),
        (
            Classifier(Behind(red).eval(), [255 * m for m in MEAN], [255 * s for s in STD]),
            "with the normalisation (ImageNet's)",
            f"Give {IMAGENET}.",
        ),
    ],
    ids=["ImageNet", "[-1,1]", "255", "BGR", "BGR and ImageNet", "twice", "mean in 255"],
)
def test_the_preprocessing_that_fits_is_named_with_its_options(model: Classifier, what: str, remedy: str) -> None:
    x, y = digits(32)
    found = told(model, coloured(x), y, "wrong-range")
    assert found.status == "fail"
    assert what in found.detail
    assert "100 % with" in found.detail
    assert "(p = " in found.detail
    assert remedy in found.remedy


def test_a_preprocessing_that_costs_only_some_samples_is_a_doubt_and_named() -> None:
    x, y = digits(32)
    found = told(Behind(lambda seen: 0.3081 * seen + 0.1307).eval(), x, y, "wrong-range")
    assert found.status == "warn"
    assert found.detail.startswith("81 % are right, and 100 % with the normalisation (MNIST's) (p = 0.016)")
    assert found.remedy.startswith("Give --mean 0.1307 --std 0.3081.")


def test_the_remedy_mends_the_fault() -> None:
    x, y = digits(32)
    mended = Classifier(Behind(red).eval(), MEAN, STD)
    assert told(mended, coloured(x), y, "wrong-range").status == "pass"
    assert told(mended, coloured(x), y, "chance").status == "pass"


class Head(nn.Module):
    """A small network of which nothing is known, and its head."""

    def __init__(self, head: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.head = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x))


@pytest.mark.parametrize(
    "head", [torch.sigmoid, nn.Sigmoid(), torch.special.expit, lambda z: z.clone().sigmoid_()], ids=range(4)
)
def test_a_sigmoid_is_heard_where_its_answers_stay_in_the_middle(head: Callable[[Tensor], Tensor]) -> None:
    x, y = digits(16)
    assert bool(((Head(head)(x) - 0.5).abs() < 0.3).all())
    found = told(Head(head).eval(), x, y, "probabilities")
    assert (found.status, found.remedy) == ("fail", "Return what goes into the sigmoid.")


def test_a_sigmoid_that_cannot_be_heard_is_told_by_its_ends() -> None:
    x, y = digits(16)
    net = nn.Sequential(honest("lenet-mnist"), nn.Sigmoid()).eval()
    traced = torch.jit.trace(net, x)
    for model in (Classifier(traced), Classifier(lambda z: net(z).detach())):
        assert told(model, x, y, "probabilities").status == "fail"


def test_logits_that_happen_to_lie_in_the_unit_interval_are_no_sigmoids() -> None:
    x, y = digits(16)
    net = Head(lambda z: 0.5 + 0.1 * z).eval()
    assert bool(((net(x) > 0) & (net(x) < 1)).all())
    assert told(net, x, y, "probabilities").status == "pass"
