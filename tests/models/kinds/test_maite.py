"""MAITE's protocols for image classification, both ways, by maite's own protocols and tasks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from audit_tools import lenet
from loader_fixtures import Refuses
from maite.protocols import generic
from maite.tasks import evaluate, predict
from torch import Tensor, nn

import robustkit
from robustkit import audit, load_data, to_maite
from robustkit.attacks import PGD, Classifier, Square
from robustkit.errors import ConfigError, DataError, ModelError

NAMES = ["cat", "dog", "owl"]


class Theirs:
    """A data set as the protocol's own documentation writes one."""

    def __init__(self, images: Sequence[Any], targets: np.ndarray, names: Sequence[str] = NAMES) -> None:
        self.images, self.targets = images, targets
        self.metadata = {"id": "their-data", "index2label": dict(enumerate(names))}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, np.ndarray, dict[str, Any]]:
        return self.images[index], self.targets[index], {"id": index}


class Linear:
    """A model as the protocol's own documentation writes one, on pixels as the data set has them."""

    def __init__(self, weights: Tensor, scale: float = 1.0, softmax: bool = False, whole: bool = False) -> None:
        self.metadata = {"id": "their-model", "index2label": dict(enumerate(NAMES))}
        self.weights, self.scale, self.softmax, self.whole = weights.numpy(), scale, softmax, whole

    def __call__(self, batch: Sequence[Any]) -> Sequence[np.ndarray]:
        arrays = [np.asarray(each) for each in batch]
        if self.whole and any(array.dtype != np.uint8 for array in arrays):
            raise TypeError("bytes are wanted")
        out = np.stack([array.ravel() for array in arrays]) / self.scale @ self.weights.T
        if self.softmax:
            out = np.exp(out) / np.exp(out).sum(1, keepdims=True)
        return list(out)


class TorchLinear(nn.Module):
    """A model made of torch, which is a module too."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.metadata = {"id": "their-module"}
        self.layer = nn.Linear(*weights.T.shape, bias=False)
        self.layer.weight.data.copy_(weights)
        self.dropout = nn.Dropout(0.5)

    def forward(self, batch: Sequence[Any]) -> list[Tensor]:
        x = torch.stack([torch.as_tensor(each) for each in batch]).float()
        return list(self.dropout(self.layer(x.flatten(1))))


class Accuracy:
    """Share of right answers, as a metric of the protocol."""

    def __init__(self) -> None:
        self.metadata = {"id": "accuracy"}
        self.reset()

    def reset(self) -> None:
        self.right: list[bool] = []

    def update(self, predictions: Any, targets: Any, metadata: Any) -> None:
        assert len(predictions) == len(targets) == len(metadata)
        self.right += [int(np.argmax(p)) == int(np.argmax(t)) for p, t in zip(predictions, targets, strict=True)]

    def compute(self) -> dict[str, float]:
        return {"accuracy": float(np.mean(self.right))}


@pytest.fixture
def weights() -> Tensor:
    return torch.randn(3, 3 * 4 * 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def x() -> Tensor:
    return torch.rand(12, 3, 4, 5, generator=torch.Generator().manual_seed(1))


def one_hot(x: Tensor, weights: Tensor) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[(x.flatten(1) @ weights.T).argmax(1).numpy()]


def figures(record: robustkit.reports.AuditRecord) -> list[Any]:
    return [record.clean, record.worst_case, [(each.curve, each.distances) for each in record.attacks]]


@pytest.mark.parametrize("as_tensors", [False, True])
def test_a_model_and_data_of_maite_are_audited_as_the_bare_ones(weights, x, as_tensors: bool) -> None:
    theirs = Theirs(list(x) if as_tensors else list(x.numpy()), one_hot(x, weights))
    assert isinstance(theirs, generic.Dataset)
    assert isinstance(Linear(weights), generic.Model)
    record = audit(Linear(weights), theirs, [Square(queries=40)], [0.02, 0.1])
    bare = Classifier(lambda each: each.flatten(1) @ weights.T)
    y = torch.from_numpy(theirs.targets.argmax(1))
    assert figures(record) == figures(audit(bare, (x, y), [Square(queries=40)], [0.02, 0.1]))
    assert (record.model.name, record.data.name) == ("their-model", "their-data")
    assert set(record.classes.values()) <= set(NAMES)
    assert 0 < record.worst_case[-1].robust.count < 12 or record.worst_case[0].robust.count < 12


def test_a_model_made_of_torch_gives_gradients_and_keeps_its_mode(weights, x) -> None:
    model, theirs = TorchLinear(weights).train(), Theirs(list(x.numpy()), one_hot(x, weights))
    model.dropout.eval()
    record = audit(model, theirs, [PGD(steps=10)], [0.02])
    assert (model.training, model.layer.training, model.dropout.training) == (True, True, False)
    bare = Classifier(nn.Sequential(nn.Flatten(), model.layer))
    y = torch.from_numpy(theirs.targets.argmax(1))
    assert figures(record) == figures(audit(bare, (x, y), [PGD(steps=10)], [0.02]))
    # A linear model's distances are known: what PGD leaves are the rows whose nearest boundary is further.
    logits = x.flatten(1) @ weights.T
    gaps = logits.gather(1, y[:, None]) - logits
    reach = (weights[y][:, None] - weights[None]).abs().sum(2)
    nearest = torch.where(reach > 0, gaps / reach.clamp_min(1e-9), torch.inf).amin(1)
    assert record.worst_case[0].robust.count <= int((nearest > 0.02).sum()) + 1
    with pytest.raises(ConfigError, match="PGD needs gradients"):
        audit(Linear(weights), theirs, [PGD()], [0.02])


@pytest.mark.parametrize("whole", [False, True])
def test_a_model_that_goes_with_bytes_gets_0_to_255(weights, x, whole: bool) -> None:
    levels = (x * 255).round()
    theirs = Theirs(list(levels.to(torch.uint8).numpy()), one_hot(levels, weights))
    record = audit(Linear(weights, 255.0, whole=whole), theirs, [Square(queries=20)], [0.05])
    assert record.clean.count == 12
    bare = Classifier(
        lambda each: ((each * 255).round() / 255 if whole else each).flatten(1).double() @ weights.T.double()
    )
    y = torch.from_numpy(theirs.targets.argmax(1))
    direct = audit(bare, (levels / 255, y), [Square(queries=20)], [0.05])
    assert record.worst_case == direct.worst_case


def test_probabilities_are_known_as_such(weights, x) -> None:
    from robustkit.models.kinds.maite import from_maite

    model = from_maite(Linear(weights, softmax=True), x)
    assert (model.outputs, model.access, model.labels) == ("probabilities", "scores", tuple(NAMES))
    torch.testing.assert_close(model.logits(x).exp(), (x.flatten(1) @ weights.T).softmax(1), rtol=1e-5, atol=1e-6)


def test_classes_go_by_their_names_and_pictures_of_bytes_are_resized(weights) -> None:
    digits = load_data("mnist-samples")
    model = robustkit.load_model("lenet-mnist", device="cpu", labels=[str(digit) for digit in range(10)])
    batch = next(digits.batches(model, 10))
    order = [int(name) for name in "9876543210"]  # their class 0 is our digit 9
    large = batch.x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    images = list((large * 255).round().to(torch.uint8).numpy())
    targets = np.eye(10)[[order.index(int(y)) for y in batch.y]]
    theirs = Theirs(images, targets, [str(name) for name in order])
    record = audit(model, theirs, [Square(queries=2)], [0.01])
    assert record.clean.count == int((model.logits(batch.x).argmax(1) == batch.y).sum())
    theirs.metadata["index2label"] = dict(enumerate(NAMES * 4))
    with pytest.raises(DataError, match="cat"):
        audit(model, theirs, [Square(queries=2)], [0.01])


def test_ours_come_out_as_maite_has_them() -> None:
    model, data = lenet(), load_data("mnist-samples")
    theirs, samples = to_maite(model), to_maite(data, model)
    assert isinstance(theirs, generic.Model)
    assert isinstance(samples, generic.Dataset)
    assert len(samples) == len(data)
    picture, target, metadata = samples[3]
    assert (picture.shape, picture.dtype, target.shape, target.sum()) == ((1, 28, 28), np.float32, (10,), 1)
    assert isinstance(metadata["id"], str)
    assert theirs.metadata == {"id": "lenet-mnist", "index2label": {i: model.class_name(i) for i in range(10)}}
    few = Theirs([samples[i][0] for i in range(30)], np.stack([samples[i][1] for i in range(30)]))
    found, predictions, _ = evaluate(
        model=theirs, dataset=few, metric=Accuracy(), batch_size=8, return_augmented_data=False, return_preds=True
    )
    batch = next(data.batches(model, 30))
    logits = model.logits(batch.x)
    assert found["accuracy"] == pytest.approx(float((logits.argmax(1) == batch.y).float().mean()))
    rows = torch.from_numpy(np.stack([row for part in predictions for row in part]))
    torch.testing.assert_close(rows, logits, rtol=1e-5, atol=1e-5)


def test_maite_predicts_with_ours_on_ours_and_audits_come_round() -> None:
    model = lenet()
    samples = to_maite(load_data("mnist-samples"), model)
    predictions, _ = predict(model=to_maite(model), dataset=samples, batch_size=250)
    assert sum(map(len, predictions)) == len(samples)
    there_and_back = audit(to_maite(model), samples, [Square(queries=10)], [0.1], samples=5)
    direct = audit(model, load_data("mnist-samples"), [Square(queries=10)], [0.1], samples=5)
    assert figures(there_and_back) == figures(direct)


def test_what_does_not_fit_is_said_in_one_line(weights, x, refuses: Refuses) -> None:
    model, targets = Linear(weights), one_hot(x, weights)
    images = list(x.numpy())
    for bad, reason in (
        (Theirs([], targets), "is empty"),
        (Theirs([each.transpose(1, 2, 0) for each in images], targets), r"\[C, H, W\] is needed"),
        (Theirs([each.astype(int) for each in images], targets), "uint8, or float"),
        (Theirs([each * 255 for each in images], targets), r"goes from .*: give uint8, or scale"),
        (Theirs(images, targets.argmax(1)), "a number a class is needed"),
        (Theirs(images, np.eye(4)[targets.argmax(1)]), "has 4 classes, their-model has 3"),
    ):
        with refuses(DataError, f"^their-data.*{reason}"):
            audit(model, bad, [Square()], [0.1])
    good = Theirs(images, targets)
    for function, reason in (
        (lambda batch: [np.ones(3)], r"gives .*\[1, 3\] for 4 pictures"),
        (lambda batch: [np.ones(1) for _ in batch], "one score a class"),
        (lambda batch: 1 / 0, "does not take pictures of 3×4×5"),
    ):
        broken = type("Broken", (), {"metadata": {"id": "b"}, "__call__": lambda self, batch, f=function: f(batch)})()
        with refuses(ModelError, f"^b .*{reason}"):
            audit(broken, good, [Square()], [0.1])
    with refuses(DataError, r"takes pictures of \[1, 28, 28\]"):
        to_maite(lenet())(images)
    with refuses(DataError, "float in"):
        to_maite(lenet())([np.full((1, 28, 28), 7.0)])
    with refuses(ConfigError, "to_maite takes a model"):
        to_maite(load_data("mnist-samples"))


def test_maite_is_not_imported() -> None:
    code = (
        "import sys; sys.modules['maite'] = None\n"
        "from robustkit import load_data, load_model, to_maite, audit\n"
        "from robustkit.attacks import Square\n"
        "model = load_model('lenet-mnist', device='cpu')\n"
        "data = to_maite(load_data('mnist-samples'), model)\n"
        "print(audit(to_maite(model), data, [Square(queries=2)], [0.1], samples=2).clean.total)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "2\n"
