"""Networks in code of the user's: what is found in it, what is refused, and with which line of theirs."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from robustkit.errors import ConfigError, ModelError
from robustkit.models.load import load_model

LAYERS = """
from torch import nn

class Block(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 3, 3), nn.ReLU())
"""
CODE = """
import torch
from torch import nn
from robustkit.attacks import Classifier
{imported}

class Net(nn.Module):
    def __init__(self, num_classes=5):
        super().__init__()
        self.block = Block()
        self.head = nn.Linear(300, num_classes)

    def forward(self, x):
        return self.head(self.block(x).flatten(1))

def seeded():
    torch.manual_seed(0)
    return Net()

ready = seeded()
wrapped = Classifier(ready, mean=0.5, std=0.25, labels=list("abcde"))

def make():
    return seeded().train()

def softmax():
    return Classifier(nn.Sequential(ready, nn.Softmax(1)), outputs="probabilities")

def half():
    return seeded().half()

def needs(path):
    return ready

def broken():
    return ready.no_such_thing

def number():
    return 7
"""
LINE = 1 + CODE.splitlines().index("    return ready.no_such_thing")
X = torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(3))


@pytest.fixture(params=["from layers import Block", "from .layers import Block"])
def code(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "layers.py").write_text(LAYERS)
    file = tmp_path / "net.py"
    file.write_text(CODE.format(imported=request.param))
    return file


def their_own(file: Path) -> types.ModuleType:
    """The same file, run by Python's own machinery."""
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location("theirs.net", file)
    sys.modules["theirs"] = types.ModuleType("theirs")
    sys.modules["theirs"].__path__ = [str(file.parent)]
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path.remove(str(file.parent))
    for name in ("layers", "theirs", "theirs.layers"):
        sys.modules.pop(name, None)
    return module


@pytest.mark.parametrize("name", ["ready", "make", "wrapped", "softmax", "half"])
def test_a_module_a_classifier_or_a_function_that_returns_one(name: str, code: Path) -> None:
    net = their_own(code).ready
    model = load_model(f"{code}:{name}", size=12, device="cpu", precision="fp32")
    assert "layers" not in sys.modules
    point = (X - 0.5) / 0.25 if name == "wrapped" else X
    expected = net(point).log_softmax(1) if name == "softmax" else net(point)
    tolerance = {"rtol": 2e-2, "atol": 2e-3} if name == "half" else {}
    torch.testing.assert_close(model.logits(X), expected, **tolerance)
    _, _, gradient = model.gradient(X, lambda logits: logits[:, 0])
    x = X.clone().requires_grad_()
    point = (x - 0.5) / 0.25 if name == "wrapped" else x
    expected = net(point).log_softmax(1) if name == "softmax" else net(point)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected[:, 0].sum(), x)[0], **tolerance)
    assert (model.num_classes, model.preprocess.channels, model.preprocess.size) == (5, 1, (12, 12))
    assert model.labels == (tuple("abcde") if name == "wrapped" else None)


def test_the_report_names_file_and_hash(code: Path) -> None:
    first = load_model(f"{code}:ready", size=12, device="cpu")
    assert first.title == f"net.py:ready (sha256 {hashlib.sha256(code.read_bytes()).hexdigest()[:16]}…)"
    assert load_model(f"{code}:ready", size=12, device="cpu").digest == first.digest
    code.write_text(code.read_text() + "\n# changed\n")
    changed = load_model(f"{code}:ready", size=12, device="cpu")
    assert changed.title != first.title
    assert changed.digest != first.digest


def test_two_folders_with_modules_of_one_name(tmp_path: Path) -> None:
    models = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "layers.py").write_text(f"factor = {number}.0")
        (folder / "net.py").write_text(
            "import torch\nfrom layers import factor\ndef model():\n    import layers\n"
            "    torch.manual_seed(0)\n    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 4))\n"
            "    net[1].weight.data *= factor\n    net[1].bias.data *= layers.factor\n    return net\n"
        )
        models.append(load_model(f"{folder / 'net.py'}:model", size=12, device="cpu"))
    torch.testing.assert_close(models[1].logits(X), 2 * models[0].logits(X))


def test_a_module_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses) -> None:
    package = tmp_path / "mypackage_of_nets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "layers.py").write_text(LAYERS)
    (package / "net.py").write_text(CODE.format(imported="from .layers import Block"))
    monkeypatch.chdir(tmp_path)
    model = load_model("mypackage_of_nets.net:ready", size=12, device="cpu")
    assert model.title.startswith("mypackage_of_nets.net:ready (sha256 ")
    torch.testing.assert_close(model.logits(X), sys.modules["mypackage_of_nets.net"].ready(X))
    with refuses(ModelError, rf"cannot be loaded \(net\.py:{LINE}: AttributeError: .*no_such_thing"):
        load_model("mypackage_of_nets.net:broken", size=12)
    with refuses(ModelError, r"mypackage_of_nets\.net has no 'redy'; did you mean ready"):
        load_model("mypackage_of_nets.net:redy", size=12)
    with refuses(ModelError, r"cannot be loaded \(No module named 'mypackage_of_nets\.nett'\)"):
        load_model("mypackage_of_nets.nett:ready", size=12)
    with refuses(ModelError, "models of 'nopackage.net' are not known"):
        load_model("nopackage.net:ready", size=12)


@pytest.mark.parametrize(
    ("name", "kind", "pattern"),
    [
        ("net.py:broken", ModelError, rf"cannot be loaded \(net\.py:{LINE}: AttributeError: .*no_such_thing"),
        ("net.py:needs", ModelError, r"takes arguments \(path\): write a function of none"),
        ("net.py:Net", ModelError, "is a class, .*write a function that returns one"),
        ("net.py:number", ModelError, "gives a int: let it be a torch.nn.Module, a Classifier, or a function"),
        ("net.py:LIST", ModelError, "has no 'LIST'"),
        ("net.py:redy", ModelError, "did you mean ready"),
        ("net.py", ModelError, r"is code: say what in it makes the network, such as .*net\.py:model"),
        ("missing.py:model", ModelError, "is not there: check the path"),
    ],
)
def test_what_is_refused(
    name: str, kind: type[Exception], pattern: str, tmp_path: Path, refuses: Callable[..., object]
) -> None:
    (tmp_path / "layers.py").write_text(LAYERS)
    (tmp_path / "net.py").write_text(CODE.format(imported="from layers import Block"))
    with refuses(kind, pattern):
        load_model(tmp_path / name, size=12)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("import torch\n\nmodel = undefined\n", r"\(net\.py:3: NameError: name 'undefined' is not defined\)"),
        ("def model(:\n    pass\n", r"\(net\.py:1: SyntaxError: "),
        ("import no_such_module_anywhere\n", r"\(net\.py:1: ModuleNotFoundError: "),
        ("import sys\nsys.exit('no data')\n", r"\(net\.py:2: SystemExit: no data\)"),
        ("import beside\n", r"\(beside\.py:2: ZeroDivisionError: "),
        (
            "from torch import nn\nclass Net(nn.Module):\n  def forward(self, x):\n    return x.foo\nmodel = Net()\n",
            r"does not take pictures of 3×12×12 \(net\.py:4: AttributeError: .*foo",
        ),
    ],
)
def test_errors_in_their_code_name_their_line(text: str, pattern: str, tmp_path: Path, refuses) -> None:
    (tmp_path / "beside.py").write_text("\n1 / 0\n")
    (tmp_path / "net.py").write_text(text)
    with refuses(ModelError, pattern):
        load_model(f"{tmp_path / 'net.py'}:model", size=12)


def test_the_size_is_never_guessed_among_several(tmp_path: Path, refuses) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "any_size = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))\n"
        "digits = nn.Sequential(nn.Flatten(), nn.Linear(784, 3))\n"
        "odd = nn.Sequential(nn.Flatten(), nn.Linear(300, 3))\n"
    )
    with refuses(ModelError, "takes pictures of 224×224 and 32×32 and 28×28 alike: say the size .*--size 32"):
        load_model(f"{tmp_path / 'net.py'}:any_size")
    assert load_model(f"{tmp_path / 'net.py'}:any_size", size=(9, 7)).preprocess.size == (9, 7)
    digits = load_model(f"{tmp_path / 'net.py'}:digits")
    assert (digits.preprocess.size, digits.preprocess.channels) == ((28, 28), 1)
    with refuses(ModelError, "does not take pictures of 224×224 .*--size 32"):
        load_model(f"{tmp_path / 'net.py'}:odd")
    assert load_model(f"{tmp_path / 'net.py'}:odd", size=10).preprocess.channels == 3


@pytest.mark.parametrize("maker", ["Net", "seeded"])
def test_an_architecture_of_theirs_with_a_checkpoint(maker: str, code: Path, tmp_path: Path, refuses) -> None:
    torch.manual_seed(5)
    classes = 7 if maker == "Net" else 5
    net = their_own(code).Net(classes)
    torch.save({"state_dict": net.state_dict()}, tmp_path / "w.pth")
    model = load_model(tmp_path / "w.pth", arch=f"{code}:{maker}", size=12, mean=0.1, std=0.5, device="cpu")
    torch.testing.assert_close(model.logits(X), net((X - 0.1) / 0.5))
    assert model.num_classes == classes
    assert model.title.startswith(f"w.pth (net.py:{maker} (sha256 ")
    torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "other.pth")
    with refuses(ModelError, r"does not fit net\.py:.*missing"):
        load_model(tmp_path / "other.pth", arch=f"{code}:{maker}", size=12)
    with refuses(ModelError, rf"cannot be loaded \(net\.py:{LINE}: AttributeError"):
        load_model(tmp_path / "w.pth", arch=f"{code}:broken", size=12)
    with refuses(ModelError, "made a int, not a torch.nn.Module"):
        load_model(tmp_path / "w.pth", arch=f"{code}:number", size=12)
    with refuses(ModelError, "is a Net: an architecture is a class, or a function"):
        load_model(tmp_path / "w.pth", arch=f"{code}:ready", size=12)
    with refuses(ConfigError, "has its own architecture"):
        load_model(f"{code}:ready", arch="resnet18", size=12)
