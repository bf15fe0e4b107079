"""ONNX files that cannot be converted, written by the onnx package from weights of a torch layer: scores alone."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from robustkit import audit, load_model
from robustkit.attacks import PGD, GaussianNoise
from robustkit.errors import ConfigError, ModelError


@pytest.fixture(autouse=True)
def no_converter(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if onnx2torch were not installed."""
    monkeypatch.setitem(sys.modules, "onnx2torch", None)


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(144, 5)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(7, 1, 12, 12, generator=torch.Generator().manual_seed(1))


def save(layer: nn.Linear, file: Path, shape: tuple[str | int, ...] = ("B", 1, 12, 12), inputs: int = 1) -> Path:
    weights = [
        numpy_helper.from_array(layer.weight.detach().numpy().T.copy(), "w"),
        numpy_helper.from_array(layer.bias.detach().numpy(), "b"),
    ]
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("Gemm", ["flat", "w", "b"], ["z"])]
    takes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "extra")[:inputs]]
    gives = [helper.make_tensor_value_info("z", TensorProto.FLOAT, (shape[0], 5))]
    graph = helper.make_graph(nodes, "net", takes, gives, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(file))
    return file


@pytest.mark.parametrize("batch", ["B", 1, 3])
def test_an_onnx_file_answers_as_the_layer_it_came_from(layer, x: Tensor, tmp_path: Path, batch: str | int) -> None:
    model = load_model(save(layer, tmp_path / "net.onnx", (batch, 1, 12, 12)), device="cpu")
    torch.testing.assert_close(model.logits(x), layer(x.flatten(1)).detach())
    assert (model.access, model.num_classes, model.preprocess.size) == ("scores", 5, (12, 12))
    assert model.preprocess.channels == 1
    assert len(model.digest) == 64


def test_it_takes_the_attacks_that_need_no_gradient(layer, x: Tensor, tmp_path: Path) -> None:
    model = load_model(save(layer, tmp_path / "net.onnx"), device="cpu")
    y = model.logits(x).argmax(1)
    record = audit(model, (x, y), [GaussianNoise(norm="l2")], [0.5, 30.0], norm="l2")
    assert record.clean.count == 7
    assert record.worst_case[-1].robust.count < 7
    with pytest.raises(
        ConfigError, match=r"PGD needs gradients.*scores alone: onnx2torch is not installed: pip install"
    ):
        audit(model, (x, y), [PGD()], [0.1])


def test_what_is_no_onnx_classifier_is_refused_in_one_line(layer, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    save(layer, tmp_path / "flat.onnx", ("B", 144))
    save(layer, tmp_path / "two.onnx", inputs=2)
    for file, reason in (("bad", "cannot be read as ONNX"), ("flat", "one float input"), ("two", "one float input")):
        with pytest.raises(ModelError, match=reason) as caught:
            load_model(tmp_path / f"{file}.onnx")
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="leave out --arch"):
        load_model(save(layer, tmp_path / "net.onnx"), arch="resnet18")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"pip install 'robustkit\[onnx\]'"):
        load_model(tmp_path / "net.onnx")


def test_numbers_pass_as_they_are(layer, tmp_path: Path) -> None:
    model = load_model(save(layer, tmp_path / "net.onnx"), device="cpu")
    x = torch.zeros(2, 1, 12, 12)
    assert np.allclose(model.logits(x).numpy(), layer.bias.detach().numpy(), atol=1e-6)
