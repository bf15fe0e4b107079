"""Checkpoints as frameworks write them: the logits of the network that was saved, by the framework's own code."""

from __future__ import annotations

import argparse
import collections
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from loader_fixtures import Refuses
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.models import googlenet, shufflenet_v2_x0_5

from robustkit.errors import ConfigError, ModelError
from robustkit.models.load import LoadedModel, load_model

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """(x - mean) / std, both buffers."""

    def __init__(self, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD, scale: float = 1) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (self.scale * x - self.mean) / self.std


class InputNormalize(nn.Module):
    """Normaliser of MadryLab's robustness."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("new_mean", torch.tensor(MEAN)[..., None, None])
        self.register_buffer("new_std", torch.tensor(STD)[..., None, None])

    def forward(self, x: Tensor) -> Tensor:
        return (torch.clamp(x, 0, 1) - self.new_mean) / self.new_std


class Attacker(nn.Module):
    """Attacker of MadryLab's robustness, which holds the network once more."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.normalize = InputNormalize()
        self.model = net


class AttackerModel(nn.Module):
    """What MadryLab's robustness trains and saves."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.normalizer = InputNormalize()
        self.model = net
        self.attacker = Attacker(net)

    def forward(self, x: Tensor) -> Tensor:
        return self.model(self.normalizer(x))


class Wrapper(nn.Module):
    """A network under a name, beside others."""

    def __init__(self, **parts: nn.Module | Tensor) -> None:
        super().__init__()
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                setattr(self, name, part)
            else:
                self.register_buffer(name, part)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = shufflenet_v2_x0_5(num_classes=10)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
    return net.eval()


@pytest.fixture
def net() -> nn.Module:
    return network()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def load(file: Path, **options: Any) -> LoadedModel:
    options = {
        "arch": "shufflenet_v2_x0_5",
        "size": 32,
        "device": "cpu",
        "precision": "fp32",
        "prepare": False,
    } | options
    return load_model(file, **options)


def normalised(net: nn.Module, x: Tensor) -> Tensor:
    """As torchvision's own weights want it."""
    return net(Normalize(*IMAGENET)(x))


def same(model: LoadedModel, x: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(model.logits(x), expected.detach(), rtol=1e-4, atol=1e-5)


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "parallel": nn.DataParallel,
    "compiled": torch.compile,
    "compiled and parallel": lambda net: nn.DataParallel(torch.compile(net)),
    "backbone": lambda net: Wrapper(backbone=net),
    "deep": lambda net: nn.DataParallel(Wrapper(encoder=torch.compile(Wrapper(net=net)))),
    "first of a sequence": lambda net: nn.Sequential(net, nn.Softmax(1)),
}


@pytest.mark.parametrize("kind", WRAPPERS)
def test_nested_wrappers_in_any_order(kind: str, net: nn.Module, x: Tensor, tmp_path: Path) -> None:
    torch.save(WRAPPERS[kind](net).state_dict(), tmp_path / "net.pth")
    model = load(tmp_path / "net.pth")
    same(model, x, normalised(net, x))
    assert not [note for note in model.prepared.notes if "preprocessing" not in note]


def test_a_part_that_was_compiled_alone(net: nn.Module, x: Tensor, tmp_path: Path) -> None:
    expected = normalised(net, x)
    net.stage2 = torch.compile(net.stage2)
    assert any(key.startswith("stage2._orig_mod.") for key in net.state_dict())
    torch.save(net.state_dict(), tmp_path / "net.pth")
    same(load(tmp_path / "net.pth"), x, expected)


NORMALISED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "sequence": lambda net: nn.Sequential(Normalize(), net),
    "sequence by name": lambda net: nn.Sequential(
        collections.OrderedDict([("normalize", Normalize()), ("model", nn.DataParallel(net))])
    ),
    "parallel sequence": lambda net: torch.compile(nn.DataParallel(nn.Sequential(Normalize(), torch.compile(net)))),
    "buffers of the wrapper": lambda net: Wrapper(mean=torch.tensor(MEAN), std=torch.tensor(STD), model=net),
    "buffers of RobustBench's networks": lambda net: Wrapper(mu=torch.tensor(MEAN), sigma=torch.tensor(STD), net=net),
    "pixels of 0 to 255": lambda net: nn.Sequential(
        Normalize(tuple(255 * m for m in MEAN), tuple(255 * s for s in STD), 255), net
    ),
}


@pytest.mark.parametrize("kind", NORMALISED)
def test_a_normaliser_in_the_file_is_used_and_said(kind: str, net: nn.Module, x: Tensor, tmp_path: Path) -> None:
    torch.save({"state_dict": NORMALISED[kind](net).state_dict()}, tmp_path / "net.pth")
    model = load(tmp_path / "net.pth")
    same(model, x, net(Normalize()(x)))
    assert "the checkpoint's own" in str(model.prepared)
    assert "mean 0.4, 0.5, 0.6, std 0.2, 0.3, 0.25" in str(model.prepared)


def test_a_normaliser_of_one_number(x: Tensor, tmp_path: Path) -> None:
    from robustkit.zoo.lenet import LeNet5

    net = LeNet5().eval()
    save_file(nn.Sequential(Normalize((0.1307,), (0.3081,)), net).state_dict(), tmp_path / "net.safetensors")
    grey = torch.rand(2, 1, 28, 28)
    same(load(tmp_path / "net.safetensors", arch="lenet5", size=None), grey, net((grey - 0.1307) / 0.3081))


def test_normalised_twice_is_refused(net: nn.Module, tmp_path: Path, refuses: Refuses) -> None:
    torch.save(nn.Sequential(Normalize(), net).state_dict(), tmp_path / "net.pth")
    for given in ({"mean": MEAN}, {"std": 0.5}, {"mean": MEAN, "std": STD}):
        with refuses(ConfigError, r"own normaliser \(0\.mean, 0\.std\).*leave out mean and std"):
            load(tmp_path / "net.pth", **given)
    torch.save(nn.Sequential(Normalize(), nn.Sequential(Normalize(), net)).state_dict(), tmp_path / "net.pth")
    with refuses(ModelError, r"normalises more than once \(0\.mean, 1\.0\.mean\)"):
        load(tmp_path / "net.pth")
    torch.save(nn.Sequential(Normalize(std=(1.0, 0.0, 1.0)), net).state_dict(), tmp_path / "net.pth")
    with refuses(ModelError, r"0\.std must be positive"):
        load(tmp_path / "net.pth")


def test_a_part_before_the_network_without_weights_is_asked_about(
    net: nn.Module, x: Tensor, tmp_path: Path, refuses: Refuses
) -> None:
    """Cohen's smoothing keeps the mean in a plain attribute: the file cannot tell it."""
    torch.save(nn.Sequential(nn.Identity(), nn.DataParallel(net)).state_dict(), tmp_path / "net.pth")
    with refuses(ConfigError, r"before the network \(1\.module\.\) comes a part without weights \(0\).*mean and std"):
        load(tmp_path / "net.pth")
    same(load(tmp_path / "net.pth", mean=MEAN, std=STD), x, net(Normalize()(x)))


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        (lambda net: nn.Sequential(nn.Conv2d(3, 3, 1), net), r"unexpected: 0\.weight, 0\.bias"),
        (lambda net: nn.Sequential(net, Normalize()), r"unexpected: 1\.mean, 1\.std"),
        (lambda net: Wrapper(model=net, head=nn.Linear(10, 2)), r"unexpected: head\.weight, head\.bias"),
        (lambda net: Wrapper(model=net, temperature=torch.tensor([1.5])), r"unexpected: temperature"),
        (lambda net: Wrapper(model=net, scaler=Normalize((0.0,) * 10, (1.0,) * 10)), r"unexpected: scaler\.mean"),
    ],
)
def test_other_layers_around_the_network_are_named(
    parts: Callable[[nn.Module], nn.Module], named: str, net: nn.Module, tmp_path: Path, refuses: Refuses
) -> None:
    torch.save(parts(net).state_dict(), tmp_path / "net.pth")
    with refuses(ModelError, rf"does not fit torchvision:shufflenet_v2_x0_5 under .*{named}"):
        load(tmp_path / "net.pth")


def test_several_networks_are_named(net: nn.Module, tmp_path: Path, refuses: Refuses) -> None:
    torch.save(Wrapper(student=net, teacher=network(1)).state_dict(), tmp_path / "net.pth")
    with refuses(ModelError, r"several networks that fit .*\(student, teacher\): save the one"):
        load(tmp_path / "net.pth")


def test_a_missing_weight_is_named_under_its_prefix(net: nn.Module, tmp_path: Path, refuses: Refuses) -> None:
    state = nn.DataParallel(net).state_dict()
    del state["module.fc.bias"]
    torch.save(state, tmp_path / "net.pth")
    with refuses(ModelError, r"under 'module\.', missing: fc\.bias: give"):
        load(tmp_path / "net.pth")


@pytest.mark.parametrize("pickled_by", ["pickle", "dill"])
def test_madrylabs_robustness(pickled_by: str, net: nn.Module, x: Tensor, tmp_path: Path) -> None:
    whole = AttackerModel(net).eval()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda epoch: 0.9**epoch)
    content = {
        "model": nn.DataParallel(whole).state_dict(),
        "optimizer": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
        "epoch": 3,
        "nat_prec1": torch.tensor(71.2),
    }
    torch.save(content, tmp_path / "net.pt", pickle_module=importlib.import_module(pickled_by))
    model = load(tmp_path / "net.pt")
    same(model, x, whole(x))
    assert "module.normalizer.new_mean" in str(model.prepared)


@pytest.mark.parametrize("name", ["model", "net"])
def test_lightning(name: str, net: nn.Module, x: Tensor, tmp_path: Path) -> None:
    module = Wrapper(**{name: net}, criterion=nn.CrossEntropyLoss(weight=torch.ones(10)))
    content = {
        "epoch": 4,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": module.state_dict(),
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": {"best_model_score": torch.tensor(0.3)}},
        "optimizer_states": [torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9).state_dict()],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "args": argparse.Namespace(arch="shufflenet")},
    }
    torch.save(content, tmp_path / "last.ckpt")
    model = load(tmp_path / "last.ckpt")
    same(model, x, normalised(net, x))
    assert "left out: criterion.weight" in str(model.prepared)


def average(net: nn.Module) -> AveragedModel:
    """The mean of two networks and their buffers."""
    averaged = AveragedModel(net, use_buffers=True)
    averaged.update_parameters(net)
    averaged.update_parameters(network(5))
    return averaged.eval()


def test_an_averaged_model(net: nn.Module, x: Tensor, tmp_path: Path, refuses: Refuses) -> None:
    averaged = average(net)
    torch.save(averaged.state_dict(), tmp_path / "net.pth")
    model = load(tmp_path / "net.pth")
    same(model, x, normalised(averaged, x))
    assert "averaged weights (EMA or SWA, of 2 models) from module" in str(model.prepared)
    assert model.title.endswith("averaged weights")
    with refuses(ConfigError, "holds averaged weights .* and no raw ones: leave out --weights"):
        load(tmp_path / "net.pth", weights="raw")


@pytest.mark.parametrize("key", ["state_dict_ema", "model_ema", "ema_state_dict", "ema"])
def test_ema_beside_raw_weights(key: str, net: nn.Module, x: Tensor, tmp_path: Path) -> None:
    """As timm and torchvision's references write them."""
    averaged = AveragedModel(nn.DataParallel(net), multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    averaged.update_parameters(nn.DataParallel(net))
    averaged.update_parameters(nn.DataParallel(network(5)))
    torch.save({"model": net.state_dict(), key: averaged.state_dict(), "epoch": 1}, tmp_path / "net.pth")
    for weights in ("auto", "ema"):
        model = load(tmp_path / "net.pth", weights=weights)
        same(model, x, normalised(averaged.eval(), x))
        assert f"from {key}.module.module; --weights raw takes those from model" in str(model.prepared)
    model = load(tmp_path / "net.pth", weights="raw")
    same(model, x, normalised(net, x))
    assert f"raw weights from model, the averaged ones ({key}.module.module) left out" in str(model.prepared)
    assert not model.title.endswith("averaged weights")


def test_ema_in_one_state_dict(net: nn.Module, x: Tensor, tmp_path: Path) -> None:
    """As ema_pytorch writes it."""
    other = network(5)
    whole = Wrapper(online_model=net, ema_model=other, initted=torch.tensor(True), step=torch.tensor(7))
    torch.save(whole.state_dict(), tmp_path / "net.pth")
    same(load(tmp_path / "net.pth"), x, normalised(other, x))
    same(load(tmp_path / "net.pth", weights="raw"), x, normalised(net, x))


def test_lightnings_weight_averaging(net: nn.Module, x: Tensor, tmp_path: Path) -> None:
    """It puts the average where the weights lay, and the weights under another key."""
    averaged = average(net)
    content = {
        "state_dict": {f"model.{key}": value for key, value in averaged.module.state_dict().items()},
        "current_model_state": {f"model.{key}": value for key, value in net.state_dict().items()},
        "averaging_state": {"n_averaged": averaged.n_averaged},
    }
    torch.save(content, tmp_path / "last.ckpt")
    same(load(tmp_path / "last.ckpt"), x, normalised(averaged, x))
    same(load(tmp_path / "last.ckpt", weights="raw"), x, normalised(net, x))


@pytest.mark.parametrize(
    "extra",
    [
        {"ema": {"decay": 0.9, "shadow_params": [torch.ones(3), torch.ones(2)]}},
        {"ema": {"shadow": {"conv1.0.weight": torch.ones(3)}}},
    ],
)
def test_an_average_that_does_not_fit_is_not_passed_over(
    extra: dict[str, Any], net: nn.Module, x: Tensor, tmp_path: Path, refuses: Refuses
) -> None:
    torch.save({"model": net.state_dict(), **extra}, tmp_path / "net.pth")
    with refuses(ModelError, r"averaged weights \(ema.*does not fit .*--weights raw"):
        load(tmp_path / "net.pth")
    same(load(tmp_path / "net.pth", weights="raw"), x, normalised(net, x))


def test_a_choice_of_weights_that_there_is_not(net: nn.Module, tmp_path: Path, refuses: Refuses) -> None:
    torch.save(net.state_dict(), tmp_path / "net.pth")
    with refuses(ConfigError, "raw weights .* and no averaged ones: leave out --weights"):
        load(tmp_path / "net.pth", weights="ema")
    with refuses(ConfigError, "weights are auto, raw or ema, not 'swa'"):
        load(tmp_path / "net.pth", weights="swa")
    with refuses(ConfigError, "has one set of weights"):
        load_model("lenet-mnist", weights="raw")
    assert load(tmp_path / "net.pth", weights="raw").num_classes == 10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_cast_and_said(dtype: torch.dtype, net: nn.Module, x: Tensor, tmp_path: Path) -> None:
    net.to(dtype)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    model = load(tmp_path / "net.pth")
    assert {p.dtype for p in model.net.parameters()} == {torch.float32}
    same(model, x, normalised(net.float(), x))
    assert f"{str(dtype)[6:]} weights, cast to float32" in str(model.prepared)


def test_quantised_weights_are_refused(net: nn.Module, tmp_path: Path, refuses: Refuses) -> None:
    state = net.state_dict()
    state["fc.weight"] = (100 * state["fc.weight"]).to(torch.int8)
    torch.save(state, tmp_path / "net.pth")
    with refuses(ModelError, r"quantised weights \(fc\.weight is int8\)"):
        load(tmp_path / "net.pth")


def test_auxiliary_heads_and_a_normaliser_at_once(tmp_path: Path) -> None:
    """GoogLeNet undoes ImageNet's normalisation inside where its own weights are: not where another was trained on."""
    torch.manual_seed(0)
    net = googlenet(num_classes=7, init_weights=False, transform_input=False, aux_logits=True).eval()
    torch.save(nn.Sequential(Normalize(), net).state_dict(), tmp_path / "net.pth")
    x = torch.rand(2, 3, 64, 64)
    same(load(tmp_path / "net.pth", arch="googlenet", size=64), x, net(Normalize()(x)))
