"""Models made faster: the same answers, the same robustness, and a report that says what was done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from audit_tools import Cli
from torch import Tensor, nn
from torchvision import models as zoo

from robustkit import audit, load_data, load_model, reports
from robustkit.attacks import PGD, Classifier
from robustkit.models import speedup
from robustkit.models.load import LoadedModel
from robustkit.models.speedup import Speedup, fold, speed_up


def settled(net: nn.Module, seed: int = 0) -> nn.Module:
    """The network in eval mode, its batch norms as if they had seen data."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                if values is not None:
                    values.data.uniform_(0.5, 2, generator=generator)
    return net.eval()


class Block(nn.Module):
    """A residual block: of three batch norms two follow a convolution that nobody else looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = (nn.Conv2d(3, 3, 3, padding=1, bias=False) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        first = self.norms[0](self.one(x)).relu()
        second = self.norms[1](self.two(first))
        third = self.three(second + x)
        return (self.norms[2](third) + third).mean((2, 3))


class Standardised(nn.Conv2d):
    """Convolves with other weights than it holds."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight / self.weight.norm(), self.bias)


class Loud(nn.BatchNorm2d):
    """More than a batch norm."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


class Asks(nn.Module):
    """Looks at its input's values: no symbolic trace goes through it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x if x.sum() > 0 else -x)
        return out


class Views(nn.Module):
    """Calls view on what comes out of a convolution, which fails channels_last."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.first(x).view(len(x), -1))
        return out


def ended(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def shared_norm() -> nn.Module:
    norm = nn.BatchNorm2d(3)
    return ended(nn.Conv2d(3, 3, 3), norm, nn.Conv2d(3, 3, 3), norm)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: ended(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU()), 1),
        (lambda: ended(nn.Conv2d(3, 6, 3, groups=3, bias=False), nn.BatchNorm2d(6, affine=False)), 1),
        (Block, 2),
        (lambda: ended(nn.BatchNorm2d(3), nn.Conv2d(3, 5, 3)), 0),
        (lambda: ended(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, track_running_stats=False)), 0),
        (lambda: ended(nn.Conv2d(3, 5, 3), Loud(5)), 0),
        (shared_norm, 0),
        (Asks, 0),
        (lambda: ended(nn.Conv2d(3, 5, 3)), 0),
        (lambda: zoo.resnet18(num_classes=7), 20),
        (lambda: zoo.mobilenet_v2(num_classes=7), 52),
    ],
    ids=[
        "plain",
        "grouped",
        "residual",
        "before",
        "untracked",
        "more",
        "shared",
        "untraceable",
        "none",
        "resnet",
        "v2",
    ],
)
def test_what_can_be_folded_is_and_answers_the_same(make: Callable[[], nn.Module], count: int) -> None:
    torch.manual_seed(0)
    net = settled(make()).double()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64) + 0.1
    before = net(x)
    folded, found = fold(net)
    assert found == count
    assert (folded is net) == (count == 0)
    assert not any(module.training for module in folded.modules())
    torch.testing.assert_close(folded(x), before, rtol=1e-9, atol=1e-9)
    # The one that was given stays as it is.
    assert torch.equal(net(x), before)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_folding_that_moves_the_logits_is_dropped() -> None:
    net = settled(ended(Standardised(3, 5, 3, bias=False), nn.BatchNorm2d(5)))
    assert fold(net)[1] == 1
    model = Classifier(net)
    prepared = speed_up(model, (3, 8, 8), True, "fp32")
    assert model.net is net
    assert (prepared.folded, prepared.difference) == (0, 0.0)
    assert str(prepared) == "channels_last, fp32 gradients"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 of ten classes; treat as read-only."""
    path = tmp_path_factory.mktemp("resnet") / "net.pth"
    torch.manual_seed(0)
    torch.save(settled(zoo.resnet18(num_classes=10)).state_dict(), path)
    return path


def resnet(weights: Path, prepare: bool = True) -> LoadedModel:
    return load_model(weights, arch="resnet18", size=32, device="cpu", precision="fp32", prepare=prepare)


def test_a_loaded_model_keeps_its_name_tag_and_its_logits(weights: Path) -> None:
    model, plain = resnet(weights), resnet(weights, False)
    assert (model.digest, model.parameters) == (plain.digest, plain.parameters)
    assert model.parameters == sum(parameter.numel() for parameter in plain.net.parameters())
    assert (model.prepared.folded, plain.prepared.folded) == (20, 0)
    x = torch.rand(4, 3, 32, 32)
    ours, theirs = model.logits(x), plain.logits(x)
    assert 0 < model.prepared.difference <= 1e-3 * float(theirs.abs().max())
    assert float((ours - theirs).abs().max()) <= 1e-4 * float(theirs.abs().max())
    assert plain.prepared.difference == 0.0
    assert str(plain.prepared) == "channels_last, fp32 gradients"
    assert "batch norm folded (20)" in str(model.prepared)
    assert "logits differ by at most" in str(model.prepared)


# The trial


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, bool], float]:
    """Seconds that a gradient is said to take, by precision and layout."""
    table = {("fp32", True): 1.0, ("bf16", True): 1.0, ("fp32", False): 1.0}
    monkeypatch.setattr(speedup, "_seconds", lambda model, x: table[model.precision, model.layout.wanted])
    monkeypatch.setattr(speedup, "computes_in_bf16", lambda device: True)
    return table


@pytest.mark.parametrize(
    ("faster", "way"),
    [
        ({}, "channels_last, fp32 gradients"),
        ({("bf16", True): 0.9}, "channels_last, fp32 gradients"),
        ({("bf16", True): 0.8}, "channels_last, bf16 gradients"),
        ({("fp32", False): 0.8}, "fp32 gradients"),
        ({("fp32", False): 0.5, ("bf16", True): 0.8}, "fp32 gradients"),
        ({("bf16", True): float("inf")}, "channels_last, fp32 gradients"),
    ],
    ids=["even", "hardly", "bf16", "layout", "both", "fails"],
)
def test_what_is_clearly_faster_is_taken(times: dict[tuple[str, bool], float], faster: dict, way: str) -> None:
    times |= faster
    model = Classifier(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3)))
    prepared = speed_up(model, (3, 8, 8), True, "auto")
    assert prepared.way == way
    assert model.precision == way[-14:-10]
    assert model.layout.wanted == way.startswith("channels_last")
    assert prepared.seconds[way] == min(1.0, 1.0, *faster.values()) or way == "channels_last, fp32 gradients"
    assert (model.forwards, model.backwards) == (0, 0)
    assert str(prepared).startswith(f"{way}: {prepared.seconds[way]:.2f} s a batch of 16, against ")
    assert "inf" not in str(prepared)


@pytest.mark.parametrize(("seconds", "rows"), [(0.001, 256), (0.03, 48), (0.2, 16)])
def test_a_cheap_gradient_is_timed_on_as_many_rows_as_an_audit_takes(
    times: dict[tuple[str, bool], float], seconds: float, rows: int
) -> None:
    times |= dict.fromkeys(times, seconds)
    model = Classifier(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3)))
    assert speed_up(model, (3, 8, 8), True, "auto").rows == rows


def test_a_precision_that_is_asked_for_is_not_questioned(times: dict[tuple[str, bool], float]) -> None:
    times[("bf16", True)] = 0.1
    for precision in ("fp32", "bf16"):
        model = Classifier(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3)))
        prepared = speed_up(model, (3, 8, 8), True, precision)
        assert (model.precision, prepared.seconds) == (precision, {})
        assert str(prepared) == f"channels_last, {precision} gradients"


def test_a_device_that_emulates_bf16_is_not_tried_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speedup, "computes_in_bf16", lambda device: False)
    model = Classifier(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 3)))
    assert not any("bf16" in way for way in speed_up(model, (3, 8, 8), True, "auto").seconds)
    assert model.precision == "fp32"


def test_a_network_that_does_not_stand_a_layout_is_not_tried_in_it() -> None:
    model = Classifier(Views().eval())
    prepared = speed_up(model, (3, 8, 8), True, "auto")
    assert not model.layout.wanted
    assert "channels_last" not in str(prepared)


def test_a_model_without_gradients_is_left_alone() -> None:
    asked = []
    model = Classifier(lambda x: asked.append(x))
    assert speed_up(model, (3, 8, 8), True, "auto") == Speedup()
    assert str(Speedup()) == ""
    assert not asked


# What bf16 must not do


def robust(name: str, precision: str, data: str, samples: int, steps: int, grid: list[float]) -> list[int]:
    model = load_model(name, device="cpu", precision=precision)
    record = audit(model, load_data(data), [PGD(steps=steps)], grid, samples=samples)
    return [point.robust.count for point in record.worst_case]


@pytest.mark.parametrize("name", ["lenet-mnist", "lenet-mnist-pgd"])
def test_bf16_finds_what_fp32_finds_on_digits(name: str) -> None:
    figures = [robust(name, precision, "mnist-samples", 200, 40, [0.2, 0.3]) for precision in ("fp32", "bf16")]
    assert all(abs(full - half) <= 1 for full, half in zip(*figures, strict=True)), figures


@pytest.mark.real
def test_bf16_finds_what_fp32_finds_on_photographs() -> None:
    grid = [0.5 / 255, 1 / 255]
    figures = [
        robust("efficientnet-lite0", precision, "imagenet-samples", 18, 20, grid) for precision in ("fp32", "bf16")
    ]
    assert all(abs(full - half) <= 1 for full, half in zip(*figures, strict=True)), figures


@pytest.mark.real
def test_the_default_model_is_folded_whole() -> None:
    model = load_model(device="cpu", precision="fp32")
    assert model.prepared.folded == 49
    assert model.prepared.difference < 1e-4
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.net.modules())


# What the report says


def test_the_report_says_what_was_done(weights: Path, tmp_path: Path) -> None:
    model = resnet(weights)
    x = torch.rand(2, 3, 32, 32)
    record = audit(model, (x, model.logits(x).argmax(1)), [PGD(steps=1)], [0.01])
    assert record.run.prepared == str(model.prepared)
    again = reports.AuditRecord.from_json(record.to_json())
    assert again.run.prepared == record.run.prepared
    reports.write(record, tmp_path / "out")
    assert "batch norm folded (20), channels_last, fp32 gradients" in (tmp_path / "out" / "index.html").read_text()
    # A network of one's own is taken as it is, and nothing is said.
    own = settled(ended(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)))
    record = audit(own, (x, own(x).argmax(1)), [PGD(steps=1)], [0.01])
    assert record.run.prepared == ""
    assert any(isinstance(module, nn.BatchNorm2d) for module in own.modules())


def test_the_command_line_can_leave_it(cli: Cli, weights: Path, tmp_path: Path) -> None:
    config = tmp_path / "audit.toml"
    config.write_text('size = 32\narch = "resnet18"\nprepare = false\nbatch-size = "auto"\n')
    words = ("audit", "--model", weights, "--data", "mnist-samples", "--attack", "fgsm", "--eps", "0.1", "--samples", 1)
    rest = ("--config", config, "--precision", "fp32", "--out", tmp_path / "out")
    done = cli(*words, *rest)
    assert done.status == 0, done
    assert reports.read(tmp_path / "out" / "report.json").run.prepared == "channels_last, fp32 gradients"
    assert "the model: channels_last, fp32 gradients" in done.stdout
    config.write_text("prepare = 1\n")
    assert "must be true or false" in cli.refuses(*words, *rest)
