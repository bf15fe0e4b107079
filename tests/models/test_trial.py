"""What a network's answers are is found out by a try, and said; what cannot be told is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robustkit import audit
from robustkit.attacks import PGD
from robustkit.errors import ConfigError, ModelError
from robustkit.models.load import LoadedModel, load_model

X = torch.rand(6, 1, 12, 12, generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """Classes of 1×12×12 pictures; `form` shapes the answer."""

    def __init__(self, form: str = "plain", classes: int = 5) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.form = form
        self.conv, self.head = nn.Conv2d(1, 3, 3), nn.Linear(300, classes)

    def forward(self, x: Tensor) -> Tensor:
        z = 8 * self.head(torch.relu(self.conv(x)).flatten(1))
        if self.form == "softmax":
            return z.softmax(1)
        if self.form == "sigmoid":
            return z.sigmoid()
        if self.form == "labels":
            return z.argmax(1)
        if self.form == "squeezed":
            return z.squeeze(0)
        return z


class Pair(Net):
    """Features and logits."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = torch.relu(self.conv(x)).flatten(1)
        return z, 8 * self.head(z)


class Around(nn.Module):
    """A network inside another."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()


class Two(Around):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.net(x * mask)


class Bytes(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.float() / 255)


class OneByOne(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.reshape(1, 1, 12, 12))


def scripted(net: nn.Module, file: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(net.eval()).save(str(file))
    return file


def loaded(net: nn.Module, folder: Path, **options: object) -> LoadedModel:
    return load_model(scripted(net, folder / "net.ts"), size=12, device="cpu", precision="fp32", **options)


@pytest.mark.parametrize(
    ("form", "kind", "said", "expected"),
    [
        ("plain", "logits", "net.ts", lambda z: z),
        ("softmax", "probabilities", "net.ts; its output taken for probabilities", lambda z: z.log_softmax(1)),
        ("sigmoid", "sigmoid", "net.ts; its output taken for a sigmoid's, one for each class", lambda z: z),
    ],
)
def test_heads_are_told_apart(
    form: str, kind: str, said: str, expected: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    model = loaded(Net(form), tmp_path)
    assert (model.outputs, model.title, model.num_classes) == (kind, said, 5)
    torch.testing.assert_close(model.logits(X), expected(Net()(X)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("form", ["softmax", "sigmoid"])
def test_a_head_hides_no_robustness(form: str, tmp_path: Path) -> None:
    y = Net()(X).argmax(1)
    attack = PGD(eps=0.06, steps=10, restarts=1)
    plain, head = loaded(Net(), tmp_path), loaded(Net(form), tmp_path)
    left = [int((model.logits(attack(model, X, y, seed=0)).argmax(1) == y).sum()) for model in (plain, head)]
    assert left[0] == left[1] < len(X)


def test_small_logits_are_no_probabilities(tmp_path: Path) -> None:
    net = Net()
    with torch.no_grad():
        net.head.weight *= 1e-4
        net.head.bias.fill_(0.05)
    assert bool(((net(X) > 0) & (net(X) < 1)).all())
    assert loaded(net, tmp_path).outputs == "logits"


def test_what_is_said_of_the_outputs_goes_before(tmp_path: Path, refuses) -> None:
    model = loaded(Net("softmax"), tmp_path, outputs="logits")
    torch.testing.assert_close(model.logits(X), Net("softmax")(X))
    with refuses(ModelError, "numbers that are no probabilities"):
        loaded(Net(), tmp_path, outputs="probabilities")
    with refuses(ConfigError, "outputs is logits, probabilities, sigmoid, labels or auto, not 'scores'"):
        loaded(Net(), tmp_path, outputs="scores")
    with refuses(ModelError, r"returns labels, whole numbers: give .*--labels FILE"):
        loaded(Net("labels"), tmp_path)
    named = loaded(Net("labels"), tmp_path, labels=list("abcde"))
    assert (named.access, named.num_classes) == ("labels", 5)
    assert torch.equal(named.logits(X).argmax(1), Net()(X).argmax(1))


@pytest.mark.parametrize("form", ["plain", "sigmoid"])
def test_one_output_is_two_classes(form: str, tmp_path: Path, refuses) -> None:
    model = loaded(Net(form, classes=1), tmp_path, labels=["no", "yes"])
    assert (model.num_classes, model.outputs) == (2, "logits" if form == "plain" else "sigmoid")
    assert "one output for two classes" in model.title
    z = Net(classes=1)(X)
    torch.testing.assert_close(model.logits(X), torch.cat([0 * z, z], 1), rtol=1e-3, atol=1e-3)
    with refuses(ModelError, "one number a picture, for two classes, but 3 labels were given"):
        loaded(Net(form, classes=1), tmp_path, labels=["a", "b", "c"])


def test_of_features_and_logits_the_logits_are_asked_for(tmp_path: Path, refuses) -> None:
    with refuses(ModelError, r"returned a tuple \(0: \[2, 300\], 1: \[2, 5\]\): say which .*--output-name 1"):
        loaded(Pair(), tmp_path)
    for options in ({"output_name": "1"}, {"labels": list("abcde")}):
        model = loaded(Pair(), tmp_path, **options)
        torch.testing.assert_close(model.logits(X), Net()(X))
        assert model.title == "net.ts; output 1"
    with refuses(ConfigError, "has no output 'logits': it has 0: "):
        loaded(Pair(), tmp_path, output_name="logits")
    with refuses(ConfigError, "has one output: leave out --output-name"):
        loaded(Net(), tmp_path, output_name="1")


@pytest.mark.parametrize("form", ["plain", "softmax"])
def test_1001_classes_are_never_off_by_one(form: str, tmp_path: Path, refuses) -> None:
    net, labels = Net(form, classes=1001), [f"class {number}" for number in range(1000)]
    with refuses(ModelError, r"has 1001 classes: if class 0 is the background.*--drop-background"):
        loaded(net, tmp_path)
    with refuses(ModelError, r"has 1001 classes, but 1000 labels were given: .*--drop-background"):
        loaded(net, tmp_path, labels=labels)
    expected = Net(classes=1001)(X)
    dropped = loaded(net, tmp_path, labels=labels, drop_background=True)
    assert (dropped.num_classes, dropped.labels[0]) == (1000, "class 0")
    left = dropped.logits(X)
    torch.testing.assert_close(left.softmax(1), expected[:, 1:].softmax(1), rtol=1e-3, atol=1e-6)
    whole = loaded(net, tmp_path, labels=["background", *labels])
    assert whole.num_classes == 1001
    assert loaded(net, tmp_path, labels=["background", *labels], drop_background=True).labels == tuple(labels)
    with refuses(ConfigError, "has 5 classes: --drop-background is for scores of 1001"):
        loaded(Net(), tmp_path, drop_background=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("how", ["script", "frozen", "export"])
def test_programs_in_other_precisions(dtype: torch.dtype, how: str, tmp_path: Path) -> None:
    net = Net().eval().to(dtype)
    file = tmp_path / "net.ts"
    if how == "export":
        file = file.with_suffix(".pt2")
        batch = ({0: torch.export.Dim("batch", min=1)},)
        torch.export.save(torch.export.export(net, (X[:3].to(dtype),), dynamic_shapes=batch), str(file))
    elif how == "frozen":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.freeze(torch.jit.script(net)).save(str(file))
    else:
        scripted(net, file)
    model = load_model(file, size=12, device="cpu")
    expected = net(X.to(dtype)).float()
    torch.testing.assert_close(model.logits(X), expected, rtol=1e-2, atol=1e-2)
    assert model.logits(X).dtype == torch.float32
    _, _, gradient = model.gradient(X, lambda z: z[:, 0])
    x = X.to(dtype).requires_grad_()
    torch.testing.assert_close(gradient, torch.autograd.grad(net(x)[:, 0].sum(), x)[0].float(), rtol=0.05, atol=0.02)


def test_programs_of_two_inputs_are_named_as_such(tmp_path: Path, refuses) -> None:
    with refuses(ModelError, r"net\.ts takes 2 inputs: x, mask; one of \[B, C, H, W\]"):
        loaded(Two(), tmp_path)
    program = torch.export.export(Two(), (X, X))
    torch.export.save(program, str(tmp_path / "net.pt2"))
    with refuses(ModelError, r"takes 2 inputs: \[6, 1, 12, 12\], \[6, 1, 12, 12\]; one of"):
        load_model(tmp_path / "net.pt2")
    torch.export.save(torch.export.export(Bytes(), ((255 * X).to(torch.uint8),)), str(tmp_path / "net.pt2"))
    with refuses(ModelError, r"takes torch\.uint8 pictures: export it from floating numbers"):
        load_model(tmp_path / "net.pt2")


def test_a_network_that_refuses_a_batch_of_one_is_told_so(tmp_path: Path, refuses) -> None:
    with refuses(ModelError, r"net\.ts refuses a batch of one \(.*shape \(5,\).*write flatten\(1\)"):
        loaded(Net("squeezed"), tmp_path)
    for data in ((X, torch.zeros(6, dtype=torch.long)), (X[:1], torch.zeros(1, dtype=torch.long))):
        with refuses(ModelError, r"Net refuses a batch of one \(.*write flatten\(1\)"):
            audit(Net("squeezed"), data, attacks=[PGD(steps=1)], eps=[0.1])
    with refuses(ModelError, r"Net does not take pictures of 1×5×5 \(.*mat1"):
        audit(Net(), (X[:, :, :5, :5], torch.zeros(6, dtype=torch.long)), attacks=[PGD(steps=1)], eps=[0.1])


def test_a_program_of_one_picture_at_a_time_takes_any_batch(tmp_path: Path, refuses) -> None:
    torch.testing.assert_close(loaded(OneByOne(), tmp_path).logits(X), Net()(X))
    (tmp_path / "net.py").write_text(
        "import torch\nclass Net(torch.nn.Linear):\n  def forward(self, x):\n"
        "    return super().forward(x.reshape(1, 144))\nmodel = Net(144, 5)\n"
    )
    with refuses(ModelError, r"takes one picture at a time \(net\.py:4: .*let its forward take any batch"):
        load_model(f"{tmp_path / 'net.py'}:model", size=12)
