"""Versions of torchvision's weights: pixel for pixel what each version's own transforms make of a picture."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from loader_fixtures import Refuses
from PIL import Image
from torchvision import models as zoo

from robustkit.data.pictures import to_input
from robustkit.errors import ConfigError, ModelError
from robustkit.models.architectures import architecture
from robustkit.models.load import load_model


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


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)) for size in ((300, 411, 3), (500, 280, 3))]


VERSIONS = [
    ("mobilenet_v2", "IMAGENET1K_V1"),
    ("mobilenet_v2", "IMAGENET1K_V2"),
    ("efficientnet_b1", "IMAGENET1K_V1"),
    ("efficientnet_b1", "IMAGENET1K_V2"),
    ("regnet_y_400mf", "IMAGENET1K_V1"),
]


@pytest.mark.parametrize(("name", "version"), VERSIONS)
@pytest.mark.parametrize("way", ["torchvision", "hash", "arch"])
def test_a_version_has_its_own_preprocessing(name: str, version: str, way: str, hub: Path) -> None:
    torch.manual_seed(0)
    weights = zoo.get_model_weights(name)[version]
    net = zoo.get_model(name, weights=None)
    file = hub / weights.url.rpartition("/")[2]
    options = {"device": "cpu", "precision": "fp32", "prepare": False}
    if way == "arch":  # a name that tells nothing
        file = hub / "mine.pth"
    torch.save(net.state_dict(), file)
    if way == "torchvision":
        model = load_model(f"torchvision:{name}@{version}", **options)
    elif way == "hash":
        model = load_model(file, arch=name, **options)
        assert f"preprocessing of torchvision's {version}, which the file's name tells" in str(model.prepared)
    else:
        model = load_model(file, arch=f"torchvision:{name}@{version}", **options)
        assert model.prepared.notes == ()
    preset = weights.transforms()
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (model.mean, model.std))
    for picture in pictures():
        theirs = preset(picture)
        ours = to_input(picture, model.preprocess)
        torch.testing.assert_close((ours - mean) / std, theirs, rtol=0, atol=1e-6)
        with torch.no_grad():
            expected = net.eval()(theirs[None])
        torch.testing.assert_close(model.logits(ours[None]), expected, rtol=1e-4, atol=1e-5)


def test_every_version_that_classifies_is_read_by_name_and_by_hash() -> None:
    count = 0
    for short in zoo.list_models(module=zoo):
        for weights in zoo.get_model_weights(short):
            if weights.meta.get("categories") is None:
                continue
            preset = weights.transforms()
            expected = (*preset.crop_size, *preset.resize_size, preset.interpolation.value, *preset.mean, *preset.std)
            file = weights.url.rpartition("/")[2]
            for known in (architecture(f"{short}@{weights.name}"), architecture(short, file)):
                p = known.preprocess
                assert (p.size[0], p.resize, p.interpolation, *known.mean, *known.std) == expected, (short, weights)
                assert known.url == weights.url
                assert weights.name in known.title
            count += 1
    assert count > 100


@pytest.mark.parametrize(
    "name", ["resnet50-0676ba61.pth", "my_resnet50-0676ba61.bin", "resnet50-0676ba61 (1).pth", "0676BA61.pt"]
)
def test_the_hash_is_found_wherever_the_file_was_copied_to(name: str) -> None:
    known = architecture("resnet50", name)
    assert (known.preprocess.resize, known.title) == (256, "ResNet50, torchvision IMAGENET1K_V1")
    assert architecture("resnet50", "resnet50-11ad3fa6.pth").preprocess.resize == 232
    assert architecture("resnet50", "resnet50-10676ba61f.pth").preprocess.resize == 232  # another number


def test_a_default_that_may_be_wrong_is_said() -> None:
    (note,) = architecture("resnet50", "best.pth").notes
    assert note.startswith("preprocessing of torchvision's IMAGENET1K_V2, its default")
    assert note.endswith("--arch resnet50@IMAGENET1K_V1")
    assert architecture("resnet18", "best.pth").notes == ()  # there is one version
    assert architecture("torchvision:resnet50@DEFAULT", "best.pth").notes == ()


@pytest.mark.parametrize("name", ["resnet50@IMAGENET1K_V3", "torchvision:resnet50@IMAGENET1K_V3"])
def test_an_unknown_version_lists_the_known(name: str, refuses: Refuses) -> None:
    with refuses(ModelError, r"no weights 'IMAGENET1K_V3' of resnet50.*it has IMAGENET1K_V1, IMAGENET1K_V2$"):
        architecture(name)
    with refuses(ModelError, r"no weights 'IMAGENET1K_V3' of resnet50"):
        load_model("torchvision:resnet50@IMAGENET1K_V3", device="cpu")


def test_a_file_by_its_name_of_another_version_is_refused(refuses: Refuses) -> None:
    with refuses(ConfigError, r"by its name torchvision's IMAGENET1K_V1 of resnet50, not IMAGENET1K_V2: leave out @"):
        architecture("resnet50@IMAGENET1K_V2", "resnet50-0676ba61.pth")
    assert architecture("resnet50@IMAGENET1K_V1", "resnet50-0676ba61.pth").preprocess.resize == 256


def test_weights_without_a_last_layer_are_refused(refuses: Refuses) -> None:
    with refuses(ModelError, r"it has IMAGENET1K_V1 \(IMAGENET1K_FEATURES has no last layer"):
        architecture("vgg16@IMAGENET1K_FEATURES")
    with refuses(ModelError, r"IMAGENET1K_FEATURES of vgg16, which has no last layer"):
        architecture("vgg16", "vgg16_features-amdegroot-88682ab5.pth")


def test_without_network_the_versions_own_file_is_named(hub: Path, refuses: Refuses) -> None:
    with refuses(ModelError, r"mobilenet_v2@IMAGENET1K_V1 are not here .* mobilenet_v2-b0353104\.pth in "):
        load_model("torchvision:mobilenet_v2@IMAGENET1K_V1", device="cpu")
