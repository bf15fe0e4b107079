"""timm's classifiers: random weights saved here, the preprocessing held against timm's own transform."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hub_tools import cached, hub_cache, pictures
from safetensors.torch import save_file
from timm.data import create_transform, resolve_data_config
from torch import nn

from robustkit import load_model
from robustkit.data.class_names import imagenet_labels
from robustkit.data.pictures import Preprocess, to_input
from robustkit.errors import ConfigError, ModelError
from robustkit.models.load import LoadedModel


def saved(file: Path, name: str = "test_resnet", classes: int = 7, **options: object) -> nn.Module:
    """timm's architecture with random weights, saved at `file`."""
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=classes, **options).eval()
    save_file(net.state_dict(), file) if file.suffix == ".safetensors" else torch.save(net.state_dict(), file)
    return net


def check_alike(model: LoadedModel, net: nn.Module, transform) -> None:
    """The same input, pixel by pixel, and the same logits, from pictures of many sizes."""
    for picture in pictures():
        theirs = transform(picture)
        x = to_input(picture, model.preprocess)
        mean, std = (torch.tensor(each)[:, None, None] for each in (model.mean, model.std))
        torch.testing.assert_close((x - mean) / std, theirs, rtol=0, atol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(model.logits(x[None]), net(theirs[None]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("test_resnet", ".pth"), ("test_vit", ".safetensors"), ("test_convnext", ".pth"), ("test_efficientnet", ".pth")],
)
def test_a_file_in_timms_architecture_answers_as_timm_does(tmp_path: Path, name: str, suffix: str) -> None:
    net = saved(tmp_path / f"net{suffix}", name)
    model = load_model(tmp_path / f"net{suffix}", arch=f"timm:{name}", device="cpu")
    config = resolve_data_config({}, model=net)
    check_alike(model, net, create_transform(**config, is_training=False))
    assert (model.num_classes, model.labels, model.title) == (7, None, f"net{suffix} (timm:{name})")
    assert model.parameters == sum(each.numel() for each in net.parameters())


@pytest.mark.parametrize(
    "changes",
    [
        {"crop_mode": "squash", "interpolation": "bilinear", "crop_pct": 0.9},
        {"crop_mode": "squash", "crop_pct": 1.0},
        {"crop_pct": 0.875, "interpolation": "bicubic"},
        {"interpolation": "nearest"},
        {"input_size": (3, 96, 64), "crop_pct": 1.0},
        {"input_size": (3, 96, 64), "crop_mode": "squash", "crop_pct": 0.8},
    ],
    ids=str,
)
def test_every_way_to_fit_a_picture_gives_timms_pixels(tmp_path: Path, monkeypatch, changes: dict) -> None:
    net = saved(tmp_path / "net.pth")
    config = {**resolve_data_config({}, model=net), **changes}
    monkeypatch.setattr("timm.data.resolve_data_config", lambda *_, **__: config)
    model = load_model(tmp_path / "net.pth", arch="timm:test_resnet", device="cpu")
    check_alike(model, net, create_transform(**config, is_training=False))


@pytest.mark.parametrize(
    "changes", [{"crop_mode": "border"}, {"input_size": (3, 96, 64), "crop_pct": 0.8}, {"interpolation": "random"}]
)
def test_what_cannot_be_done_pixel_by_pixel_is_refused(tmp_path: Path, monkeypatch, refuses, changes: dict) -> None:
    net = saved(tmp_path / "net.pth")
    config = {**resolve_data_config({}, model=net), **changes}
    monkeypatch.setattr("timm.data.resolve_data_config", lambda *_, **__: config)
    with refuses(ModelError, r"timm:test_resnet is preprocessed in a way that cannot be done here \(.+\): give size"):
        load_model(tmp_path / "net.pth", arch="timm:test_resnet", device="cpu")
    height, width = config["input_size"][1:]
    model = load_model(tmp_path / "net.pth", arch="timm:test_resnet", size=(height, width), mean=0.5, device="cpu")
    assert (model.preprocess, model.mean, model.std) == (Preprocess((height, width)), (0.5,), None)


def test_another_size_gets_timms_preprocessing_for_that_size(tmp_path: Path) -> None:
    for name, options in (("test_resnet", {}), ("test_vit", {"img_size": 96})):
        net = saved(tmp_path / "net.pth", name, **options)
        model = load_model(tmp_path / "net.pth", arch=f"timm:{name}", size=96, device="cpu")
        config = resolve_data_config({"input_size": (3, 96, 96)}, model=net)
        assert model.preprocess.size == (96, 96)
        check_alike(model, net, create_transform(**config, is_training=False))


def test_weights_of_features_have_no_classifier(tmp_path: Path, refuses) -> None:
    for name in ("test_resnet", "test_vit"):
        saved(tmp_path / "net.pth", name, classes=0)
        with refuses(ModelError, r"net\.pth has no classifier \(\w+(\.\w+)? of timm:test_\w+\), its weights make"):
            load_model(tmp_path / "net.pth", arch=f"timm:{name}", device="cpu")


def test_a_file_of_another_architecture_is_refused(tmp_path: Path, refuses) -> None:
    saved(tmp_path / "net.pth", "test_convnext")
    with refuses(ModelError, "has no classifier|does not fit timm:test_resnet"):
        load_model(tmp_path / "net.pth", arch="timm:test_resnet", device="cpu")
    saved(tmp_path / "net.pth", "test_vit")
    with refuses(ModelError, "does not fit timm:vit_tiny_patch16_224"):
        load_model(tmp_path / "net.pth", arch="timm:vit_tiny_patch16_224", device="cpu")


def test_names_that_timm_has_not(tmp_path: Path, refuses) -> None:
    saved(tmp_path / "net.pth")
    with refuses(ModelError, "timm has no model called 'test_resnot'; did you mean test_resnet"):
        load_model(tmp_path / "net.pth", arch="timm:test_resnot", device="cpu")
    with refuses(
        ModelError, r"timm has no weights called 'test_resnet\.nobody'; those of test_resnet are test_resnet\.r"
    ):
        load_model("timm:test_resnet.nobody", device="cpu")
    with refuses(ConfigError, "has its own architecture"):
        load_model("timm:test_resnet", arch="resnet18", device="cpu")


def test_weights_of_its_own_come_from_the_cache_and_nowhere_else(tmp_path: Path, monkeypatch, refuses) -> None:
    cache = hub_cache(tmp_path / "hub", monkeypatch)
    wanted = r"the weights of timm:test_resnet are not in the Hugging Face cache .* --arch timm:test_resnet$"
    with refuses(ModelError, wanted):
        load_model("timm:test_resnet", device="cpu")
    repo = timm.get_pretrained_cfg("test_resnet").hf_hub_id
    net = saved(cached(cache, repo) / "model.safetensors", classes=1000)
    model = load_model("timm:test_resnet", device="cpu")
    check_alike(model, net, create_transform(**resolve_data_config({}, model=net), is_training=False))
    assert model.labels == imagenet_labels()
    assert model.title == "test_resnet, timm"


def test_weights_that_timm_makes_features_with_are_refused(refuses) -> None:
    with refuses(ModelError, "timm:vit_small_patch14_dinov2 has no classifier"):
        load_model("timm:vit_small_patch14_dinov2", device="cpu")
    bare = next(name for name in timm.list_models() if not timm.is_model_pretrained(name))
    with refuses(ModelError, f"timm has no weights of timm:{bare}: give a file of yours"):
        load_model(f"timm:{bare}", device="cpu")


def test_broken_weights_are_refused(tmp_path: Path, refuses) -> None:
    net = saved(tmp_path / "net.pth")
    state = net.state_dict()
    state["fc.bias"][0] = np.nan
    torch.save(state, tmp_path / "net.pth")
    with refuses(ModelError, r"NaN or infinite weights in fc\.bias"):
        load_model(tmp_path / "net.pth", arch="timm:test_resnet", device="cpu")


def test_without_timm_there_is_the_command_that_installs_it(monkeypatch, refuses) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with refuses(ModelError, r"timm:resnet18 needs timm: pip install 'robustkit\[timm\]'"):
        load_model("timm:resnet18", device="cpu")
