"""Image classifiers of transformers: tiny ones saved here, the preprocessing held against their own processors."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from hub_tools import cached, hub_cache, pictures
from torch import nn

from robustkit import load_model
from robustkit.data.pictures import to_input
from robustkit.errors import ConfigError, ModelError
from robustkit.models.load import LoadedModel

LABELS = ("cat", "dog", "great white shark", "owl", "toad")
SQUARE = {"height": 32, "width": 32}
CROP = {"height": 32, "width": 32}


def vit(kind: str = "ViTForImageClassification", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(image_size=32, patch_size=8, **{**sizes, "num_labels": 5, **options})
    return getattr(transformers, kind)(config).eval()


def resnet(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **{"num_labels": 5, **options}
    )
    return transformers.ResNetForImageClassification(config).eval()


def convnext() -> nn.Module:
    torch.manual_seed(0)
    config = transformers.ConvNextConfig(hidden_sizes=[8] * 4, depths=[1] * 4, num_labels=5)
    return transformers.ConvNextForImageClassification(config).eval()


def processor(kind: str = "ViT", **options: Any) -> Any:
    return getattr(transformers, f"{kind}ImageProcessor")(**({"size": SQUARE} | options))


def saved(folder: Path, net: nn.Module, processing: Any) -> Path:
    net.save_pretrained(folder)
    if processing is not None:
        processing.save_pretrained(folder)
    return folder


def inputs(model: LoadedModel, picture: Any) -> torch.Tensor:
    """What the network is given, normalised, in the order of its own channels."""
    x = to_input(picture, model.preprocess)
    if model.mean is not None:
        mean, std = (torch.tensor(each)[:, None, None] for each in (model.mean, model.std))
        x = (x - mean) / std
    return x.flip(0) if model.net.flipped else x


WAYS = [
    ("ViT", {}),
    ("ViT", {"resample": 3, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.2, 0.3, 0.4]}),
    ("ViT", {"do_normalize": False}),
    ("ViT", {"size": {"height": 40, "width": 32}}),
    ("ConvNext", {"size": {"shortest_edge": 32}, "crop_pct": 0.875}),
    ("ConvNext", {"size": {"shortest_edge": 32}, "crop_pct": 0.9, "resample": 2}),
    ("ConvNext", {"size": {"shortest_edge": 384}}),
    ("Bit", {"size": {"shortest_edge": 37}, "crop_size": CROP}),
    ("CLIP", {"size": {"shortest_edge": 32}, "crop_size": CROP}),
    ("DeiT", {"size": {"height": 37, "width": 37}, "crop_size": CROP}),
    ("Levit", {"size": {"shortest_edge": 32}, "crop_size": CROP}),
    ("PoolFormer", {"size": {"shortest_edge": 32}, "crop_size": CROP}),
    ("MobileNetV2", {"size": {"shortest_edge": 36}, "crop_size": CROP}),
    ("EfficientNet", {"rescale_offset": True, "rescale_factor": 1 / 127.5}),
    ("MobileViT", {"size": {"shortest_edge": 36}, "crop_size": CROP}),
]


@pytest.mark.parametrize(("kind", "options"), WAYS, ids=[f"{kind}-{number}" for number, (kind, _) in enumerate(WAYS)])
def test_an_image_processor_is_reproduced_pixel_by_pixel(tmp_path: Path, kind: str, options: dict) -> None:
    net = resnet()
    model = load_model(saved(tmp_path / "net", net, processor(kind, **options)), device="cpu")
    own = {
        backend: transformers.AutoImageProcessor.from_pretrained(tmp_path / "net", backend=backend)
        for backend in ("pil", "torchvision")
    }
    for picture in pictures():
        ours = inputs(model, picture)
        theirs = {key: each(images=picture, return_tensors="pt")["pixel_values"] for key, each in own.items()}
        torch.testing.assert_close(ours, theirs["pil"][0].float(), rtol=0, atol=1e-4)
        # torchvision's own resize of 8-bit pixels rounds otherwise than Pillow's, here and there by one level.
        level = 1 / 255 / (min(model.std) if model.std else 1)
        assert float((ours - theirs["torchvision"][0]).abs().mean()) < 0.5 * level
        x = to_input(picture, model.preprocess)[None]
        with torch.no_grad():
            torch.testing.assert_close(model.logits(x), net(theirs["pil"].float()).logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("make", [vit, convnext, resnet])
def test_a_folder_that_save_pretrained_wrote_answers_as_transformers_does(tmp_path: Path, make) -> None:
    net = make()
    folder = saved(tmp_path / "net", net, processor())
    picture = pictures()[0]
    theirs = net(processor()(images=picture, return_tensors="pt")["pixel_values"]).logits
    for name in (str(folder), f"hf:{folder}"):
        model = load_model(name, device="cpu")
        x = to_input(picture, model.preprocess)[None]
        torch.testing.assert_close(model.logits(x), theirs.detach(), rtol=1e-2, atol=1e-3)
        assert (model.num_classes, model.labels, model.access) == (5, None, "gradient")
        assert model.title == f"net ({type(net).__name__})"
    assert model.parameters == sum(each.numel() for each in net.parameters())


def test_labels_are_those_of_id2label(tmp_path: Path, refuses) -> None:
    folder = saved(tmp_path / "net", vit(id2label=dict(enumerate(LABELS))), processor())
    assert load_model(folder, device="cpu").labels == LABELS
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(number + 1): label for number, label in enumerate(LABELS)}
    (folder / "config.json").write_text(json.dumps(config))
    with refuses(ConfigError, "id2label in config.json does not number its 5 classes from 0"):
        load_model(folder, device="cpu")


def test_a_filter_that_torchvision_has_not_is_done_as_by_pillow_and_said(tmp_path: Path) -> None:
    model = load_model(saved(tmp_path / "net", vit(), processor(resample=4)), device="cpu")
    own = transformers.AutoImageProcessor.from_pretrained(tmp_path / "net", backend="pil")
    for picture in pictures():
        theirs = own(images=picture, return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(inputs(model, picture), theirs, rtol=0, atol=1e-5)
    assert model.title == "net (ViTForImageClassification, pictures resized as by its Pillow backend)"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Bit", {"size": {"shortest_edge": 36}, "do_center_crop": False}),
        ("Bit", {"size": {"shortest_edge": 20}, "crop_size": CROP}),
        ("ViT", {"do_resize": False}),
        ("Perceiver", {"crop_size": {"height": 40, "width": 40}}),
    ],
)
def test_what_cannot_be_done_pixel_by_pixel_is_refused(tmp_path: Path, refuses, kind: str, options: dict) -> None:
    folder = saved(tmp_path / "net", resnet(), processor(kind, **options))
    with refuses(ModelError, f"what its {kind}ImageProcessor(Pil)? does to a picture cannot be done here"):
        load_model(folder, device="cpu")
    model = load_model(folder, size=32, mean=0.5, std=0.25, device="cpu")
    assert (model.preprocess.size, model.mean, model.std) == ((32, 32), (0.5,), (0.25,))


def test_a_model_of_grey_pictures(tmp_path: Path) -> None:
    net = vit(num_channels=1)
    own = processor(image_mean=[0.13], image_std=[0.31])
    model = load_model(saved(tmp_path / "net", net, own), device="cpu")
    assert model.preprocess.channels == 1
    for picture in pictures("L"):
        x = to_input(picture, model.preprocess)[None]
        theirs = own(images=picture, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(model.logits(x), net(theirs).logits.detach(), rtol=1e-2, atol=1e-3)


def test_a_backbone_without_its_head_is_refused(tmp_path: Path, refuses) -> None:
    head = r"its classification head is not in the file \(classifier\.bias, classifier\.weight\)"
    with refuses(ModelError, head):
        load_model(saved(tmp_path / "features", vit("ViTModel"), processor()), device="cpu")
    with refuses(ModelError, head):
        load_model(saved(tmp_path / "masked", vit("ViTForMaskedImageModeling"), processor()), device="cpu")


def test_weights_of_part_of_the_network_are_refused(tmp_path: Path, refuses) -> None:
    from safetensors.torch import load_file, save_file

    folder = saved(tmp_path / "net", resnet(), processor())
    file = folder / "model.safetensors"
    state = load_file(file)
    broken = {key: value for key, value in state.items() if "stages.1" not in key}
    save_file(broken, file, metadata={"format": "pt"})
    with refuses(ModelError, r"weights of its ResNetForImageClassification are not in the file \(resnet\.encoder"):
        load_model(folder, device="cpu")
    state["classifier.1.bias"][0] = np.nan
    save_file(state, file, metadata={"format": "pt"})
    with refuses(ModelError, r"NaN or infinite weights in classifier\.1\.bias"):
        load_model(folder, device="cpu")
    file.write_bytes(b"no weights")
    with refuses(ModelError, "the weights of .* cannot be loaded"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize(("dtype", "name"), [(torch.float16, "float16"), (torch.bfloat16, "bfloat16")])
def test_half_precision_is_run_in_float32_and_said(tmp_path: Path, dtype: torch.dtype, name: str) -> None:
    model = load_model(saved(tmp_path / "net", vit().to(dtype), processor()), device="cpu")
    assert model.title == f"net (ViTForImageClassification, {name} weights run in float32)"
    assert {each.dtype for each in model.net.parameters()} == {torch.float32}


def test_what_is_no_classifier_of_pictures_is_refused(tmp_path: Path, refuses) -> None:
    config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=16)
    with refuses(ModelError, "is a gpt2, of which there is no image classifier"):
        load_model(saved(tmp_path / "text", transformers.GPT2LMHeadModel(config), None), device="cpu")
    for task, said in (("multi_label_classification", "multi label classification"), ("regression", "regression")):
        with refuses(ModelError, f"is made for {said}: one class for each picture is needed"):
            load_model(saved(tmp_path / task, vit(problem_type=task), processor()), device="cpu")
    with refuses(ModelError, "is made for 1 output"):
        load_model(saved(tmp_path / "one", vit(num_labels=1), processor()), device="cpu")


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path, refuses) -> None:
    folder = saved(tmp_path / "net", vit(), processor())
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    with refuses(ModelError, "it brings code of its own, which is not run"):
        load_model(folder, device="cpu")
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path, refuses) -> None:
    with refuses(ModelError, "has no image processor that can be read"):
        load_model(saved(tmp_path / "bare", vit(), None), device="cpu")
    assert load_model(tmp_path / "bare", size=32, mean=0.5, std=0.5, device="cpu").preprocess.size == (32, 32)
    (tmp_path / "empty").mkdir()
    with refuses(ModelError, "empty has no config.json"):
        load_model(f"hf:{tmp_path / 'empty'}", device="cpu")
    with refuses(ModelError, "is no folder, and no name such as hf:google/vit"):
        load_model("hf:./nowhere/at/all", device="cpu")
    with refuses(ConfigError, "has its own architecture"):
        load_model(tmp_path / "bare", arch="resnet18", device="cpu")


def test_a_name_of_the_hub_comes_from_the_cache_and_nowhere_else(tmp_path: Path, monkeypatch, refuses) -> None:
    cache = hub_cache(tmp_path / "hub", monkeypatch)
    with refuses(ModelError, "hf:nobody/tiny is not in the Hugging Face cache .*: run hf download nobody/tiny"):
        load_model("hf:nobody/tiny", device="cpu")
    net = vit(id2label=dict(enumerate(LABELS)))
    saved(cached(cache, "nobody/tiny"), net, processor())
    model = load_model("hf:nobody/tiny", device="cpu")
    picture = pictures()[0]
    theirs = net(processor()(images=picture, return_tensors="pt")["pixel_values"]).logits.detach()
    x = to_input(picture, model.preprocess)[None]
    torch.testing.assert_close(model.logits(x), theirs, rtol=1e-2, atol=1e-3)
    assert (model.labels, model.title) == (LABELS, "nobody/tiny (ViTForImageClassification)")


def test_without_transformers_there_is_the_command_that_installs_it(monkeypatch, refuses) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with refuses(ModelError, r"hf:google/vit needs transformers: pip install 'robustkit\[hf\]'"):
        load_model("hf:google/vit", device="cpu")


def test_a_folder_that_timm_saved_for_the_hub(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=5).eval()
    timm.models.save_for_hf(net, tmp_path / "net", model_config={"label_names": list(LABELS)})
    model = load_model(f"hf:{tmp_path / 'net'}", device="cpu")
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=net), is_training=False)
    for picture in pictures():
        theirs = transform(picture)
        torch.testing.assert_close(inputs(model, picture), theirs, rtol=0, atol=1e-5)
        x = to_input(picture, model.preprocess)[None]
        torch.testing.assert_close(model.logits(x), net(theirs[None]).detach(), rtol=1e-3, atol=1e-4)
    assert model.labels == LABELS
