"""Models and data of timm and Hugging Face through the command line, made here and read offline."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import timm
import torch
import transformers
from audit_tools import Cli
from PIL import Image
from timm.data import create_transform, resolve_data_config

NAMES = ("owl", "cat", "dog")  # as the model numbers them; the data has them in another order
FEATURES = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=sorted(NAMES))})


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    """Twelve pictures of one colour and some noise each, of odd sizes."""
    noise = np.random.default_rng(0)
    found = []
    for number in range(12):
        colour = noise.integers(0, 256, 3) * 0.8
        pixels = colour + noise.integers(0, 50, (41 + 3 * number, 60 - number, 3))
        found.append(Image.fromarray(np.uint8(pixels)))
    return found


def keep(folder: Path, pictures: list[Image.Image], answers: list[int]) -> Path:
    """A saved data set that calls each picture what a model calls it."""
    labels = [sorted(NAMES).index(NAMES[answer]) for answer in answers]
    splits = {"test": datasets.Dataset.from_dict({"image": pictures, "label": labels}, features=FEATURES)}
    splits["train"] = datasets.Dataset.from_dict({"image": pictures[:2], "label": [0, 1]}, features=FEATURES)
    datasets.DatasetDict(splits).save_to_disk(folder)
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory, photographs: list[Image.Image]) -> Path:
    """A folder of a model, `vit`, and one of pictures that are what it takes them for, `pets`."""
    root = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(image_size=32, patch_size=8, id2label=dict(enumerate(NAMES)), **sizes)
    net = transformers.ViTForImageClassification(config).eval()
    own = transformers.ViTImageProcessor(size={"height": 32, "width": 32})
    with torch.no_grad():
        inputs = torch.cat([own(images=each, return_tensors="pt")["pixel_values"] for each in photographs])
        net.classifier.weight *= 20
        net.classifier.bias -= net(inputs).logits.mean(0)
        logits = net(inputs).logits
    assert len(set(logits.argmax(1).tolist())) == 3
    net.save_pretrained(root / "vit")
    own.save_pretrained(root / "vit")
    keep(root / "pets", photographs, logits.argmax(1).tolist())
    return root


def test_an_audit_of_a_model_and_data_of_hugging_faces(cli: Cli, hub: Path) -> None:
    words = ("--model", f"hf:{hub / 'vit'}", "--data", f"hf:{hub / 'pets'}:test?image=image&label=label")
    attack = ("--attack", "pgd:steps=5", "--eps", "0.001,0.5", "--device", "cpu")
    done = cli("audit", *words, *attack, "--out", "hub", "--fail-under", "0.5=0")
    assert done.status == 0, done
    report = json.loads((cli.folder / "hub" / "report.json").read_text("utf-8"))
    assert (report["clean"]["count"], report["clean"]["total"]) == (12, 12)
    assert report["model"]["title"] == "vit (ViTForImageClassification)"
    assert report["data"]["title"] == "pets, test split"
    assert report["worst_case"][1]["robust"]["count"] < 12
    assert "owl" in (cli.folder / "hub" / "index.html").read_text("utf-8")


def test_an_audit_of_a_file_in_timms_architecture(cli: Cli, tmp_path: Path, photographs: list[Image.Image]) -> None:
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=3).eval()
    transform = create_transform(**resolve_data_config({}, model=net), is_training=False)
    with torch.no_grad():
        inputs = torch.stack([transform(each) for each in photographs])
        net.fc.bias -= net(inputs).mean(0)
        answers = net(inputs).argmax(1).tolist()
    torch.save(net.state_dict(), tmp_path / "net.pth")
    keep(tmp_path / "pets", photographs, answers)
    (tmp_path / "audit.toml").write_text(f"labels = {json.dumps(NAMES)}\n")
    words = ("--model", tmp_path / "net.pth", "--arch", "timm:test_resnet", "--config", tmp_path / "audit.toml")
    done = cli("audit", *words, "--data", tmp_path / "pets", "--attack", "fgsm", "--eps", "0.1", "--out", "timm")
    assert done.status in (0, 1), done
    report = json.loads((cli.folder / "timm" / "report.json").read_text("utf-8"))
    assert (report["clean"]["count"], report["clean"]["total"]) == (12, 12)
    assert report["model"]["title"] == "net.pth (timm:test_resnet)"


def test_what_is_not_there_is_one_line(cli: Cli, hub: Path, tmp_path: Path) -> None:
    vit = ("audit", "--model", hub / "vit", "--attack", "fgsm", "--eps", "0.1", "--out", "none")
    assert "--arch timm:resnet18" in cli.refuses("audit", "--model", "timm:resnet18", "--out", "none")
    assert "hf download nobody/net" in cli.refuses("audit", "--model", "hf:nobody/net", "--out", "none")
    assert "could not be fetched" in cli.refuses(*vit, "--data", "hf:nobody/pets")
    assert "there are test, train" in cli.refuses(*vit, "--data", f"hf:{hub / 'pets'}:validation")
    net = transformers.ViTModel.from_pretrained(hub / "vit")
    net.save_pretrained(tmp_path / "features")
    assert "head is not in the file" in cli.refuses("audit", "--model", tmp_path / "features", "--out", "none")


def test_the_listing_has_the_new_names(cli: Cli) -> None:
    listed = cli("models").stdout
    assert all(name in listed for name in ("timm:NAME", "hf:ORG/NAME", "hf:NAME[:SPLIT]"))
