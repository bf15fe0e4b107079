"""ONNX graphs of every layout, type and number of outputs, against the networks that they were exported from."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from robustkit import audit, load_model, reports
from robustkit.attacks import PGD, Classifier, GaussianNoise
from robustkit.checks.doctor import doctor
from robustkit.data.load import tensor_data
from robustkit.errors import ConfigError, ModelError


class Net(nn.Module):
    """A little network with features; `baked` reshapes to the batch size that it is exported with."""

    def __init__(self, baked: int | None = None) -> None:
        super().__init__()
        self.baked = baked
        self.conv, self.hidden, self.head = nn.Conv2d(3, 6, 3, stride=2), nn.Linear(150, 7), nn.Linear(7, 5)

    def features(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        return self.hidden(x.flatten(1) if self.baked is None else x.reshape(self.baked, 150)).tanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Around(nn.Module):
    """The network with something before it and something after it."""

    def __init__(self, net: Net, before: Any = lambda x: x, after: Any = lambda net, h: net.head(h)) -> None:
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, x: Tensor) -> Any:
        return self.after(self.net, self.net.features(self.before(x)))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(5, 3, 12, 12, generator=torch.Generator().manual_seed(1))


def export(net: nn.Module, x: Tensor, file: Path, names: tuple[str, ...] = ("z",), batch: bool = True) -> Path:
    options: dict[str, Any] = {"dynamic_axes": {name: {0: "B"} for name in ("x", *names)}} if batch else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), (x,), str(file), dynamo=False, input_names=["x"], output_names=list(names), **options
        )
    return file


def run(file: Path, x: Tensor, name: str | None = None) -> Tensor:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None if name is None else [name], {"x": x.numpy()})[0])


def gradient(model: Classifier | nn.Module, x: Tensor) -> Tensor:
    model = model if isinstance(model, Classifier) else Classifier(model)
    return model.gradient(x, lambda logits: logits[:, 0] - logits[:, 1], exact=True)[2]


def test_a_graph_of_channels_last_pictures_is_given_them(net: Net, x: Tensor, tmp_path: Path) -> None:
    wide = torch.rand(5, 3, 12, 12)
    file = export(Around(net, lambda x: x.permute(0, 3, 1, 2)), wide.permute(0, 2, 3, 1), tmp_path / "net.onnx")
    model = load_model(file, device="cpu")
    assert (model.access, model.preprocess.channels, model.preprocess.size) == ("gradient", 3, (12, 12)), model.note
    torch.testing.assert_close(model.logits(x), net(x).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient(model, x), gradient(net, x), rtol=1e-4, atol=1e-6)


def test_a_graph_of_bytes_is_judged_by_its_own_answers(net: Net, x: Tensor, tmp_path: Path) -> None:
    bytes_ = (x * 255).round().to(torch.uint8)
    file = export(Around(net, lambda x: x.float() / 255), bytes_, tmp_path / "net.onnx")
    model = load_model(file, device="cpu")
    assert model.access == "gradient", model.note
    assert "straight through the rounding" in model.note
    assert "verdicts by onnxruntime" in model.note
    assert torch.equal(model.logits(x), run(file, bytes_))  # onnxruntime's own to the last bit
    assert torch.equal(model.logits(bytes_ / 255 + 0.4 / 255), model.logits(x))
    torch.testing.assert_close(gradient(model, x), gradient(net, bytes_ / 255), rtol=1e-4, atol=1e-5)
    y = model.logits(x).argmax(1)
    points = PGD(eps=0.3, steps=10)(model, x, y, seed=0)
    assert (run(file, (points * 255).round().to(torch.uint8)).argmax(1) != y).any()
    found = {each.id: each for each in doctor(model, tensor_data(x, y), 5, 0)}
    for check in ("step-stage", "leaps"):  # the rounding is the file's own, and answered already
        assert found[check].status == "n/a"
        assert "whole grey levels" in found[check].detail
    with pytest.raises(ConfigError, match="leave out mean and std"):
        load_model(file, mean=0.5, std=0.25)


def test_a_graph_in_half_precision_is_judged_by_its_own_answers(net: Net, x: Tensor, tmp_path: Path) -> None:
    wanted, slope = net(x).detach(), gradient(net, x)
    file = export(net.half(), x.half(), tmp_path / "net.onnx")
    model = load_model(file, device="cpu")
    assert model.access == "gradient", model.note
    assert "half precision; verdicts by onnxruntime" in model.note
    assert torch.equal(model.logits(x), run(file, x.half()).float())
    torch.testing.assert_close(model.logits(x), wanted, rtol=1e-2, atol=1e-2)
    assert (gradient(model, x) - slope).abs().max() < 1e-2 * slope.abs().max()


def test_a_graph_in_double_precision_is_attacked_in_it(net: Net, x: Tensor, tmp_path: Path) -> None:
    layer = nn.Sequential(nn.Flatten(), nn.Linear(432, 5)).double()
    file = export(layer, x.double(), tmp_path / "net.onnx")
    model = load_model(file, device="cpu")
    assert model.access == "gradient", model.note
    assert "verdicts by it in fp64" in model.note
    torch.testing.assert_close(model.logits(x), run(file, x.double()).float())
    slope = (layer[1].weight[0] - layer[1].weight[1]).detach().float().view(1, 3, 12, 12)
    torch.testing.assert_close(gradient(model, x), slope.expand(5, -1, -1, -1))
    with pytest.raises(ModelError, match=r"implementation for Conv.*: export it in float32"):
        load_model(export(net.double(), x.double(), tmp_path / "net.onnx"))


@pytest.mark.parametrize("batch", [1, 2, 8])
@pytest.mark.parametrize("baked", [True, False])
def test_a_fixed_batch_is_filled_or_split(x: Tensor, tmp_path: Path, batch: int, baked: bool) -> None:
    torch.manual_seed(0)
    net = Net(batch if baked else None)
    file = export(net, torch.rand(batch, 3, 12, 12), tmp_path / "net.onnx", batch=False)
    model = load_model(file, device="cpu")
    assert model.access == "gradient", model.note
    net.baked = None
    torch.testing.assert_close(model.logits(x), net(x).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient(model, x), gradient(net, x), rtol=1e-4, atol=1e-6)


def both(net: Net, h: Tensor) -> tuple[Tensor, Tensor]:
    return h, net.head(h)


def test_features_are_never_taken_for_logits_in_silence(net: Net, x: Tensor, tmp_path: Path) -> None:
    file = export(Around(net, after=both), x, tmp_path / "net.onnx", ("first", "second"))
    with pytest.raises(ModelError, match=r"first .*second .*--output-name NAME") as caught:
        load_model(file)
    assert "\n" not in str(caught.value)
    model = load_model(file, output_name="second", device="cpu")
    assert (model.access, model.num_classes) == ("gradient", 5)
    torch.testing.assert_close(model.logits(x), net(x).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient(model, x), gradient(net, x), rtol=1e-4, atol=1e-6)
    with pytest.raises(ConfigError, match=r"no output 'third' but first"):
        load_model(file, output_name="third")
    with pytest.raises(ConfigError, match="leave out --output-name"):
        load_model("lenet-mnist", output_name="z")


def labelled(net: Net, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    z = net.head(h)
    return z.argmax(1), h, z.softmax(1)


def softened(net: Net, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    z = net.head(h)
    return h, z.softmax(1), z


@pytest.mark.parametrize(
    ("after", "names", "taken"),
    [
        (both, ("features", "logits"), "logits"),
        (labelled, ("label", "h", "p"), "p"),
        (softened, ("h", "p", "z"), "z"),
    ],
)
def test_of_several_outputs_the_certain_one_is_taken(
    net: Net, tmp_path: Path, after: Any, names: tuple[str, ...], taken: str
) -> None:
    torch.manual_seed(3)
    nn.init.normal_(net.conv.weight, std=0.5)  # pictures of several classes
    x = torch.rand(5, 3, 12, 12)
    file = export(Around(net, after=after), x, tmp_path / "net.onnx", names)
    model = load_model(file, device="cpu")
    assert model.num_classes == 5
    assert model.note.startswith(f"ONNX, output {taken} of {len(names)}, gradients")
    assert model.outputs == ("probabilities" if taken == "p" else "logits")
    answers = model.logits(x).exp() if taken == "p" else model.logits(x)
    torch.testing.assert_close(answers, run(file, x, taken), rtol=1e-4, atol=1e-5)


def add(file: Path, nodes: list[Any], outputs: list[Any], domain: str = "") -> Path:
    """The file with nodes after its own and other outputs."""
    model = onnx.load(str(file))
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 2))
    onnx.save(model, str(file))
    return file


def test_scores_are_taken_before_class_names_are_put_to_them(net: Net, x: Tensor, tmp_path: Path) -> None:
    file = export(Around(net, after=lambda net, h: net.head(h).softmax(1)), x, tmp_path / "net.onnx", ("p",))
    names = ["cat", "dog", "emu", "fox", "gnu"]
    node = helper.make_node("ZipMap", ["p"], ["scores"], domain="ai.onnx.ml", classlabels_strings=names)
    pairs = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    maps = helper.make_value_info("scores", helper.make_sequence_type_proto(pairs))
    best = helper.make_node("ArgMax", ["p"], ["label"], axis=1, keepdims=0)
    label = helper.make_tensor_value_info("label", TensorProto.INT64, ["B"])
    add(file, [node, best], [label, maps], "ai.onnx.ml")
    model = load_model(file, device="cpu")
    assert (model.access, model.labels) == ("gradient", tuple(names)), model.note
    assert "output scores of 2" in model.note
    assert model.outputs == "probabilities"
    torch.testing.assert_close(model.logits(x).exp(), net(x).softmax(1).detach(), rtol=1e-4, atol=1e-5)


def test_an_operator_that_is_not_known_leaves_scores_and_says_so(net: Net, x: Tensor, tmp_path: Path) -> None:
    file = export(net, x, tmp_path / "net.onnx", ("y",))
    unknown = helper.make_node("Hardmax", ["y"], ["hard"], axis=1)
    total = helper.make_node("Add", ["y", "hard"], ["z"])
    add(file, [unknown, total], [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["B", 5])])
    model = load_model(file, device="cpu")
    assert model.access == "scores"
    torch.testing.assert_close(model.logits(x), run(file, x))
    with pytest.raises(ConfigError, match=r"PGD needs gradients.*Hardmax is not known to the converter"):
        audit(model, (x, torch.zeros(5, dtype=torch.int64)), [PGD()], [0.1])
    record = audit(model, (x, model.logits(x).argmax(1)), [GaussianNoise(norm="l2")], [1.0], norm="l2")
    reports.write(record, tmp_path / "report")
    written = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert written["run"]["prepared"] == "ONNX, scores alone: Hardmax is not known to the converter"
    assert "Hardmax is not known" in (tmp_path / "report" / "index.html").read_text("utf-8")


def test_weights_in_a_file_of_their_own_belong_to_the_digest(net: Net, x: Tensor, tmp_path: Path) -> None:
    file = export(net, x, tmp_path / "net.onnx")
    onnx.save(onnx.load(str(file)), str(file), save_as_external_data=True, location="net.data", size_threshold=0)
    data = tmp_path / "net.data"
    model = load_model(file, device="cpu")
    assert model.access == "gradient"
    torch.testing.assert_close(model.logits(x), net(x).detach(), rtol=1e-4, atol=1e-5)
    whole = data.read_bytes()
    data.write_bytes(whole[:-4] + b"\0\0\0\0")
    assert load_model(file, device="cpu").digest != model.digest
    for damage in (lambda: data.write_bytes(whole[:9]), data.unlink):
        damage()
        with pytest.raises(ModelError, match="cannot be read as ONNX") as caught:
            load_model(file)
        assert "\n" not in str(caught.value)


def test_the_size_is_asked_for_where_the_graph_leaves_it_open(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    x, file = torch.rand(2, 1, 9, 11), tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"x": {0: "B", 1: "C", 2: "H", 3: "W"}}
        torch.onnx.export(net, (x,), str(file), dynamo=False, input_names=["x"], dynamic_axes=axes)
    with pytest.raises(ModelError, match="pictures of any size: give that of its training, such as --size 224"):
        load_model(file)
    model = load_model(file, size=(9, 11), device="cpu")
    assert (model.access, model.preprocess.channels) == ("gradient", 1), model.note
    torch.testing.assert_close(model.logits(x), net(x).detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match="does not take pictures of 2×2"):
        load_model(file, size=2)


def test_another_size_than_the_graphs_is_refused(net: Net, x: Tensor, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes pictures of 12×12 alone: leave out --size"):
        load_model(export(net, x, tmp_path / "net.onnx"), size=32)
