"""Built-in and torchvision models by name."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from loader_fixtures import Refuses
from torchvision import models as zoo

from robustkit import audit
from robustkit.attacks import FGSM
from robustkit.data import load as data_loaders
from robustkit.data.load import data_names, load_data
from robustkit.errors import ConfigError, ModelError
from robustkit.models import loaders as models
from robustkit.models.load import LoadedModel, load_model, model_names


@pytest.fixture(scope="module")
def lite0() -> LoadedModel:
    return load_model("efficientnet-lite0", device="cpu")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch.hub cache without a network."""

    def no_network(*args: object, **options: object) -> None:
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_the_default_sees_what_is_on_the_photographs(lite0: LoadedModel) -> None:
    data = load_data("imagenet-samples")
    right, rows = 0, []
    for batch in data.batches(lite0, 7):
        logits = lite0.logits(batch.x)
        right += int((logits.argmax(1) == batch.y).sum())
        rows.append(logits)
    assert right >= 18
    assert data.skipped == []
    # The padding is worked out per layer from the picture's size; a batch must not change it.
    (whole,) = data.batches(lite0, 20)
    assert whole.x.shape == (20, 3, 224, 224)
    torch.testing.assert_close(torch.cat(rows), lite0.logits(whole.x), rtol=1e-4, atol=1e-4)


def test_the_default_knows_itself(lite0: LoadedModel) -> None:
    assert lite0.num_classes == len(lite0.labels or ()) == 1000
    assert lite0.parameters == 4_652_008
    assert lite0.mean == (127 / 255,) * 3
    assert lite0.std == (128 / 255,) * 3
    assert lite0.digest == load_model("efficientnet-lite0", device="cpu").digest
    assert len(lite0.digest) == 64


def test_another_input_size_pads_as_the_network_would_at_that_size(lite0: LoadedModel) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    small = load_model("efficientnet-lite0", size=96, device="cpu")
    assert small.preprocess.size == (96, 96)
    assert small.preprocess.resize == 110
    net = EfficientNet.from_name("efficientnet-lite0", image_size=None).eval()  # pads at each call
    net.load_state_dict(
        load_model("efficientnet-lite0", device="cpu", precision="fp32", prepare=False).net.state_dict()
    )
    x = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        expected = net((x - 127 / 255) / (128 / 255))
    torch.testing.assert_close(small.logits(x), expected, rtol=1e-4, atol=1e-4)


def test_a_digest_follows_the_weights() -> None:
    standard, trained = (load_model(name, device="cpu") for name in ("lenet-mnist", "lenet-mnist-pgd"))
    assert standard.digest != trained.digest
    assert standard.labels == tuple("0123456789")


@pytest.mark.parametrize(
    "name",
    [
        "squeezenet1_1",
        "shufflenet_v2_x0_5",
        "mnasnet0_5",
        "mobilenet_v3_small",
        "regnet_x_400mf",
        "googlenet",
    ],
)
def test_torchvision_answers_as_torchvision_does(name: str, hub: Path) -> None:
    torch.manual_seed(0)
    heads = {"aux_logits": True, "init_weights": False} if name == "googlenet" else {}
    source = zoo.get_model(name, weights=None, **heads)
    weights = zoo.get_model_weights(name).DEFAULT
    torch.save(source.state_dict(), hub / weights.url.rpartition("/")[2])
    theirs = zoo.get_model(name, weights=weights).eval()
    preset = weights.transforms()

    ours = load_model(f"torchvision:{name}", device="cpu")
    assert ours.labels == tuple(weights.meta["categories"])
    assert ours.preprocess.size == (preset.crop_size[0],) * 2
    assert ours.preprocess.resize == preset.resize_size[0]
    x = torch.rand(2, 3, *ours.preprocess.size)
    mean, std = (torch.tensor(numbers).view(1, 3, 1, 1) for numbers in (preset.mean, preset.std))
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(x), theirs((x - mean) / std))


def test_the_old_names_in_densenets_weights_are_understood(hub: Path) -> None:
    source = zoo.densenet121(weights=None)
    url = zoo.DenseNet121_Weights.DEFAULT.url
    old = {
        key.replace(".norm1.", ".norm.1.").replace(".norm2.", ".norm.2.").replace(".conv1.", ".conv.1."): value
        for key, value in source.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    torch.save(old, hub / url.rpartition("/")[2])
    ours = load_model("torchvision:densenet121", device="cpu")
    assert torch.equal(ours.net.state_dict()["features.norm5.weight"], source.features.norm5.weight)


def test_without_network_the_file_and_its_folder_are_named(hub: Path, refuses) -> None:
    with refuses(ModelError, rf"resnet18 are not here .*no network.* resnet18-f37072fd\.pth in {hub}$"):
        load_model("torchvision:resnet18")


def test_a_damaged_download_is_to_be_deleted(hub: Path, refuses) -> None:
    (hub / "resnet18-f37072fd.pth").write_bytes(b"half a file")
    with refuses(ModelError, r"resnet18-f37072fd\.pth is .*damaged.*delete it"):
        load_model("torchvision:resnet18")


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("efficientnet-lite", "no model called 'efficientnet-lite'; did you mean efficientnet-lite0"),
        ("keras:resnet50", "models of 'keras' are not known"),
        ("torchvision:resnet5", "no classifier called 'resnet5'; did you mean resnet50"),
        ("torchvision:", "no classifier called ''"),
        ("torchvision:fasterrcnn_resnet50_fpn", "an object detector"),
        ("torchvision:fcn_resnet50", "a segmentation model"),
        ("torchvision:r3d_18", "a video model"),
        ("torchvision:raft_small", "an optical-flow model"),
        ("torchvision:quantized_resnet18", "a quantised model"),
        ("", "no model called ''"),
    ],
)
def test_unknown_names_and_other_tasks_are_refused(name: str, pattern: str, refuses) -> None:
    with refuses(ModelError, pattern):
        load_model(name)


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"device": "quark"}, "device 'quark' cannot be used"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used"),
        ({"precision": "fp8"}, "precision is auto, fp32 or bf16"),
        ({"size": 0}, "size is one side"),
        ({"size": (28, 28, 28)}, "size is one side"),
        ({"std": 0}, "std must be positive"),
        ({"mean": "grey"}, "could not convert"),
        ({"arch": "lenet5"}, "has its own architecture"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], pattern: str, refuses) -> None:
    with refuses(ConfigError, pattern):
        load_model("lenet-mnist", **options)


def test_as_many_labels_as_classes(refuses) -> None:
    with refuses(ModelError, "has 10 classes, but 2 labels"):
        load_model("lenet-mnist", labels=["a", "b"])


def test_precision_is_settled_when_the_model_is_loaded() -> None:
    assert load_model("lenet-mnist", device="cpu").precision in ("fp32", "bf16")
    assert load_model("lenet-mnist", device="cpu", precision="fp32").precision == "fp32"
    assert load_model("lenet-mnist", device="cpu", precision="bf16").precision == "bf16"


def test_names_are_listed_without_torch() -> None:
    code = "import sys, robustkit.models.names as n; assert n.model_names() and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "efficientnet-lite0" in dict(model_names())


@dataclass(frozen=True)
class Weighted(FGSM):
    """An attack of somebody's, whose parameter nobody has checked."""

    weight: float = 0.0

    def __post_init__(self) -> None:
        pass


@pytest.mark.parametrize(
    "weight",
    [2**63, -(2**63) - 1, 10**5000, float("inf"), float("nan")],
    ids=["2^63", "below -2^63", "10^5000", "inf", "nan"],
)
def test_a_parameter_that_no_report_can_hold_is_refused_before_any_work(refuses: Refuses, weight: float) -> None:
    model = load_model("lenet-mnist", device="cpu")
    data = load_data("mnist-samples")
    with refuses(ConfigError, "FGSM: weight must be"):
        audit(model, data, [Weighted(weight=weight)], [0.1], samples=1)
    assert model.forwards == 0
    assert audit(model, data, [Weighted(weight=2**63 - 1)], [0.1], samples=1).clean.total == 1


def test_every_kind_of_model_and_data_has_a_line_in_the_listing() -> None:
    for loaders, listed in (
        ((models.NAMES, models.PREFIXES, models.SUFFIXES), model_names()),
        ((data_loaders.NAMES, data_loaders.PREFIXES, data_loaders.SUFFIXES), data_names()),
    ):
        text = "\n".join(f"{name} {description}" for name, description in listed)
        names, prefixes, suffixes = loaders
        others = {".bin", ".ckpt", ".ts"}  # of what .pth and TorchScript stand for
        assert not [key for key in (*names, *prefixes, *suffixes) if key not in text and key not in others]
