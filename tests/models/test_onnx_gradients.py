"""Gradients through ONNX files, against onnxruntime and the networks that they were exported from."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
import torchvision
from audit_tools import Cli
from torch import Tensor, nn

from robustkit import load_data, load_model
from robustkit.attacks import PGD, Classifier
from robustkit.models.onnx import conversion


def export(net: nn.Module, x: Tensor, file: Path, dynamo: bool = False, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            batch = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(net.eval(), (x,), str(file), dynamo=True, dynamic_shapes=batch, verbose=False, **options)
        else:
            options = {"opset_version": 17, "input_names": ["x"], "dynamic_axes": {"x": {0: "B"}}} | options
            torch.onnx.export(net.eval(), (x,), str(file), dynamo=False, **options)
    return file


def runtime(file: Path, x: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def same_gradients(model: Classifier, net: nn.Module, x: Tensor, within: float) -> None:
    y = torch.arange(len(x)) % 3

    def loss(logits: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, y, reduction="none")

    _, _, found = model.gradient(x, loss, exact=True)
    _, _, wanted = Classifier(net).gradient(x, loss, exact=True)
    assert wanted.abs().max() > 0
    assert (found - wanted).abs().max() <= within * wanted.abs().max()


@pytest.mark.parametrize(
    ("name", "opset", "dynamo"),
    [
        ("resnet18", 13, False),
        ("resnet18", None, True),
        ("mobilenet_v2", 17, False),
        ("mobilenet_v2", None, True),
        ("shufflenet_v2_x0_5", 20, False),
        ("shufflenet_v2_x0_5", None, True),
    ],
)
def test_torchvision_exports_have_the_gradients_of_their_networks(
    tmp_path: Path, name: str, opset: int | None, dynamo: bool
) -> None:
    torch.manual_seed(0)
    net = getattr(torchvision.models, name)(weights=None, num_classes=10).eval()
    x = torch.rand(3, 3, 64, 64)
    file = export(net, x, tmp_path / "net.onnx", dynamo, **({} if dynamo else {"opset_version": opset}))
    model = load_model(file, device="cpu", precision="fp32")
    assert (model.access, model.num_classes, model.preprocess.size) == ("gradient", 10, (64, 64)), model.note
    assert "verdicts by it in fp32" in model.note
    wanted = runtime(file, x)
    assert (model.logits(x) - wanted).abs().max() <= 1e-4 * wanted.abs().max()
    same_gradients(model, net, x, 1e-2)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("opset", [18, 20, 22])
def test_a_newer_opset_is_written_in_the_words_of_17(tmp_path: Path, opset: int, approximate: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.LayerNorm(8), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.gelu(self.conv(x), approximate=approximate)
            parts = self.norm(x.mean((2, 3))).chunk(2, dim=1)
            return self.head(parts[0] * parts[1].sigmoid() + x.amax((2, 3))[:, :4])

    torch.manual_seed(0)
    net, x = Net(), torch.rand(3, 3, 12, 12)
    model = load_model(export(net, x, tmp_path / "net.onnx", True, opset_version=opset), device="cpu")
    assert model.access == "gradient", model.note
    torch.testing.assert_close(model.logits(x), net(x).detach(), rtol=1e-4, atol=1e-5)
    same_gradients(model, net, x, 1e-4)


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = load_model("lenet-mnist", device="cpu").net
    return export(net, torch.rand(2, 1, 28, 28), tmp_path_factory.mktemp("onnx") / "lenet.onnx")


def test_pgd_on_an_export_breaks_what_pgd_on_its_network_breaks(lenet: Path) -> None:
    known = load_model("lenet-mnist", device="cpu", precision="fp32")
    model = load_model(lenet, mean=known.mean, std=known.std, device="cpu", precision="fp32")
    batch = next(load_data("mnist-samples").batches(known, 100, 100))
    robust = []
    for each in (known, model):
        points = PGD(eps=0.1, steps=20)(each, batch.x, batch.y, seed=0)
        robust.append(int((known.logits(points).argmax(1) == batch.y).sum()))
    assert 0 < robust[0] < 100
    assert abs(robust[0] - robust[1]) <= 1


def test_an_export_is_audited_from_the_command_line(cli: Cli, lenet: Path) -> None:
    options = ("--data", "mnist-samples", "--attack", "pgd:steps=20", "--eps", "0.1", "--samples", "60")
    records = []
    for number, name in enumerate((str(lenet), "lenet-mnist")):
        done = cli("audit", "--model", name, *options, "--device", "cpu", "--out", f"onnx{number}")
        assert done.status == 0, done
        records.append(json.loads((cli.folder / f"onnx{number}" / "report.json").read_text("utf-8")))
    assert "gradients by the converted network" in records[0]["run"]["prepared"]
    robust = [record["worst_case"][0]["robust"]["count"] for record in records]
    assert abs(robust[0] - robust[1]) <= 1
    wrong = cli("audit", "--model", str(lenet), *options, "--output-name", "nothing", "--out", "wrong")
    assert wrong.status == 2
    assert "has no output 'nothing' but" in wrong.stderr
    assert len(wrong.stderr.strip().splitlines()) == 1


def test_a_converted_network_that_lies_is_not_used(lenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx2torch

    honest: Callable[[Any], nn.Module] = onnx2torch.convert

    class Liar(nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.net = honest(model)

        def forward(self, x: Tensor) -> Tensor:
            z = self.net(x)
            return z + 1e-3 * z.abs().max() * torch.eye(10)[0]

    monkeypatch.setattr(onnx2torch, "convert", Liar)
    model = load_model(lenet, device="cpu")
    assert model.access == "scores"
    assert "scores alone: the converted network's logits are 0.00" in model.note
    x = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(model.logits(x), runtime(lenet, x))


def test_a_graph_that_is_too_large_for_the_converter_gives_scores(lenet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "_LARGEST", 1000)
    model = load_model(lenet, device="cpu")
    assert model.access == "scores"
    assert "the converter takes 2 GB" in model.note
