"""Models from files: every format answers as the network it was saved from, every fault is named."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18

from robustkit.errors import ConfigError, ModelError
from robustkit.models.load import load_model
from robustkit.zoo.lenet import LeNet5


class Small(nn.Module):
    """Five classes of 1×12×12 pictures, with batch norm; `fault` spoils the answer."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.last = nn.Linear(300, 5)

    def forward(self, x: Tensor) -> object:
        z = self.last(torch.relu(self.norm(self.conv(x))).flatten(1))
        if self.fault == "tuple":
            return z, z
        if self.fault == "nan":
            return z * float("nan")
        if self.fault == "infinite":
            return z / 0
        if self.fault == "map":
            return z[:, :, None, None]
        if self.fault == "random":
            return nn.functional.dropout(z, 0.5, True)
        return z


class Runs:
    """Unpickling it makes a file called pwned."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def script(net: nn.Module, file: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net, torch.rand(2, 1, 12, 12), check_trace=False).save(str(file))
    return file


def export(net: nn.Module, file: Path, batch: int | None = None) -> Path:
    shapes = None if batch else ({0: torch.export.Dim("batch", min=1)},)
    torch.export.save(torch.export.export(net, (torch.rand(batch or 3, 1, 12, 12),), dynamic_shapes=shapes), str(file))
    return file


@pytest.fixture
def net() -> Small:
    torch.manual_seed(0)
    net = Small().eval()
    net.norm.running_mean.normal_()
    return net


@pytest.fixture
def x() -> Tensor:
    return torch.rand(7, 1, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ts"])
def test_torchscript_answers_as_it_was_saved(suffix: str, net: Small, x: Tensor, tmp_path: Path) -> None:
    model = load_model(script(net, tmp_path / f"net{suffix}"), size=12, device="cpu")
    torch.testing.assert_close(model.logits(x), net(x))
    assert (model.num_classes, model.preprocess.channels, model.forwards) == (5, 1, 7)
    assert model.mean is None


@pytest.mark.parametrize("batch", [None, 1, 3, 7])
def test_an_exported_program_takes_any_batch(batch: int | None, net: Small, x: Tensor, tmp_path: Path) -> None:
    model = load_model(export(net, tmp_path / "net.pt2", batch), device="cpu", precision="fp32")
    for size in (1, 2, 7):
        torch.testing.assert_close(model.logits(x[:size]), net(x[:size]))
    assert model.preprocess.size == (12, 12)
    assert (model.num_classes, model.preprocess.channels) == (5, 1)
    _, _, gradient = model.gradient(x, lambda logits: logits[:, 0])
    point = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(net(point)[:, 0].sum(), point)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("bounds", [{"max": 4}, {"min": 3}, {"min": 2, "max": 6}, {}])
def test_an_exported_program_with_bounds_on_its_batch(
    bounds: dict[str, int], net: Small, x: Tensor, tmp_path: Path
) -> None:
    shapes = ({0: torch.export.Dim("batch", **bounds)},)
    program = torch.export.export(net, (torch.rand(3, 1, 12, 12),), dynamic_shapes=shapes)
    torch.export.save(program, str(tmp_path / "net.pt2"))
    model = load_model(tmp_path / "net.pt2", device="cpu")
    for size in (1, 4, 7):
        torch.testing.assert_close(model.logits(x[:size]), net(x[:size]))


def test_a_state_dict_answers_as_it_was_saved_whatever_it_is_wrapped_in(tmp_path: Path) -> None:
    net = LeNet5(7).eval()
    state = net.state_dict()
    x = torch.rand(3, 1, 28, 28)
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "b.pth")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}},
        tmp_path / "c.ckpt",
    )
    torch.save({"model": {f"_orig_mod.{key}": value for key, value in state.items()}}, tmp_path / "d.bin")
    torch.save(state, tmp_path / "e.pt", _use_new_zipfile_serialization=False)
    digests = set()
    for file in sorted(tmp_path.iterdir()):
        model = load_model(file, arch="lenet5", device="cpu")
        torch.testing.assert_close(model.logits(x), net(x))
        assert model.num_classes == 7
        digests.add(model.digest)
    assert len(digests) == 1


def test_classes_are_counted_from_the_weights(tmp_path: Path) -> None:
    net = resnet18(num_classes=10).eval()
    file = tmp_path / "mine.pth"
    torch.save(net.state_dict(), file)
    model = load_model(file, arch="resnet18", size=32, labels=list("abcdefghij"), device="cpu")
    assert (model.num_classes, model.preprocess.size, model.preprocess.resize) == (10, (32, 32), 37)
    assert model.labels == tuple("abcdefghij")
    plain = load_model(file, arch="torchvision:resnet18", size=32, mean=0.5, std=0.25, device="cpu")
    assert plain.labels is None
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(plain.logits(x), net((x - 0.5) / 0.25))
    with pytest.raises(ModelError, match="did you mean resnet18"):
        load_model(file, arch="resnet19")
    with pytest.raises(ModelError, match=r"missing.*unexpected"):
        load_model(file, arch="vgg11")


@pytest.mark.parametrize(
    ("key", "value", "pattern"),
    [
        ("fc1.bias", None, r"does not fit lenet5, missing: fc1\.bias: give"),
        ("extra", torch.ones(1), r"does not fit lenet5, unexpected: extra: give"),
        ("fc1.weight", torch.ones(3, 4), r"fc1\.weight is \[3, 4\] instead of \[120, 400\]"),
        ("fc1.bias", torch.full((120,), torch.nan), r"NaN or infinite weights in fc1\.bias"),
        ("fc1.bias", torch.full((120,), torch.inf), r"NaN or infinite weights in fc1\.bias"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    key: str, value: Tensor | None, pattern: str, tmp_path: Path, refuses
) -> None:
    state = LeNet5().state_dict()
    state.pop(key, None)
    if value is not None:
        state[key] = value
    torch.save(state, tmp_path / "net.pth")
    with refuses(ModelError, pattern):
        load_model(tmp_path / "net.pth", arch="lenet5")


def test_many_keys_are_counted(tmp_path: Path, refuses) -> None:
    torch.save(resnet18().state_dict(), tmp_path / "net.pth")
    with refuses(ModelError, r"\(9 in all\); unexpected: bn1.*\(121 in all\)"):
        load_model(tmp_path / "net.pth", arch="lenet5")


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("arch", ["lenet5", None])
def test_a_pickle_that_would_run_code_is_not_run(
    protocol: int, arch: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses
) -> None:
    monkeypatch.chdir(tmp_path)
    with open("plain.pth", "wb") as stream:
        pickle.dump({"weight": Runs()}, stream, protocol=protocol)
    torch.save({"weight": Runs()}, "zipped.pth")
    for file in ("plain.pth", "zipped.pth"):
        with refuses(ModelError, r"more than weights \((posix|nt)\.system\).*run code.*safetensors"):
            load_model(file, arch=arch)
    assert not Path("pwned").exists()


def test_a_pickled_module_is_refused_as_such(tmp_path: Path, refuses) -> None:
    torch.save(LeNet5(), tmp_path / "whole.pt")
    for arch in (None, "lenet5"):
        with refuses(ModelError, r"robustkit\.zoo\.lenet\.LeNet5.*state_dict"):
            load_model(tmp_path / "whole.pt", arch=arch)


def test_an_exported_program_does_not_run_code_when_read(
    net: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses
) -> None:
    monkeypatch.chdir(tmp_path)
    export(net, tmp_path / "good.pt2", 3)
    torch.save((Runs(),), "evil.pt")
    swaps = {
        "data/sample_inputs/model.pt": (lambda old: Path("evil.pt").read_bytes(), "would run code"),
        "models/model.json": (
            lambda old: old.replace(b"torch.ops.aten.relu.default", b"torch.hub.load"),
            "calls torch.hub.load",
        ),
        "data/weights/model_weights_config.json": (
            lambda old: old.replace(b"weight_0", b"custom_obj_0"),
            "holds Python objects",
        ),
    }
    for ending, (change, pattern) in swaps.items():
        with zipfile.ZipFile("good.pt2") as good, zipfile.ZipFile("bad.pt2", "w") as bad:
            for name in good.namelist():
                content = good.read(name)
                bad.writestr(name, change(content) if name.endswith(ending) else content)
        with refuses(ModelError, pattern):
            load_model("bad.pt2")
    assert not Path("pwned").exists()


def test_a_size_in_an_exported_program_is_a_formula() -> None:
    from robustkit.models.programs import _is_formula

    assert _is_formula("Symbol('s77', positive=True, integer=True)")
    assert _is_formula("4*s0 + FloorDiv(s1, 2)")
    assert not _is_formula("__import__('os').system('touch pwned')")
    assert not _is_formula("exec(chr(49))")
    assert not _is_formula("s0.__class__")


@pytest.mark.parametrize(
    ("fault", "pattern"),
    [
        ("tuple", "returned a tuple"),
        ("nan", "returned NaN"),
        ("infinite", "infinite logits"),
        ("map", r"shape \(2, 5, 1, 1\)"),
        ("random", "in another batch"),
    ],
)
def test_a_program_that_gives_no_logits_is_found_at_once(fault: str, pattern: str, tmp_path: Path, refuses) -> None:
    net = Small(fault).eval()
    with refuses(ModelError, pattern):
        load_model(script(net, tmp_path / "net.ts"), size=12)
    with refuses(ModelError, pattern):
        load_model(export(net, tmp_path / "net.pt2", 3))


def test_a_program_saved_in_training_mode_is_found(tmp_path: Path, refuses) -> None:
    with refuses(ModelError, r"call \.eval\(\)"):
        load_model(export(Small().train(), tmp_path / "net.pt2", 3))


def test_other_faults_of_programs(net: Small, tmp_path: Path, refuses) -> None:
    file = script(net, tmp_path / "net.ts")
    with refuses(ModelError, r"does not take pictures of 1×224×224 .*mat1.*size = 32"):
        load_model(file)
    with refuses(ModelError, "returned 5 classes, but 2 labels"):
        load_model(file, size=12, labels=["a", "b"])
    with refuses(ConfigError, "its own architecture"):
        load_model(file, size=12, arch="lenet5")
    with torch.no_grad():
        net.conv.weight[0] = torch.nan
    for broken in (script(net, tmp_path / "broken.ts"), export(net, tmp_path / "broken.pt2", 3)):
        with refuses(ModelError, r"NaN or infinite weights in .*conv\.weight"):
            load_model(broken, size=12)


def test_files_that_are_no_models(net: Small, tmp_path: Path, refuses) -> None:
    whole = script(net, tmp_path / "whole.ts").read_bytes()
    program = export(net, tmp_path / "whole.pt2", 3).read_bytes()
    files = {
        "text.pth": (b"hello world", "no file that torch.save wrote"),
        "empty.pt": (b"", "is empty"),
        "notes.txt": (b"hello", "no kind of model file"),
        "no_suffix": (b"hello", "no kind of model file"),
        "cut.pth": (whole[:2000], "damaged"),
        "cut.ts": (whole[:2000], "no TorchScript"),
        "cut.pt2": (program[:2000], "no exported program"),
        "cut.safetensors": (b"0123456789", "no whole safetensors"),
        "script.pt2": (whole, "cannot be read as an exported program"),
    }
    for name, (content, pattern) in files.items():
        (tmp_path / name).write_bytes(content)
        with refuses(ModelError, pattern):
            load_model(tmp_path / name, arch="lenet5" if name.endswith(("pth", "safetensors")) else None)
    (tmp_path / "folder.pt").mkdir()
    with refuses(ModelError, "is a folder"):
        load_model(tmp_path / "folder.pt")
    with refuses(ModelError, "cannot be opened"):
        load_model(tmp_path / "missing.pt")


def test_weights_need_an_architecture(tmp_path: Path, refuses) -> None:
    torch.save(LeNet5().state_dict(), tmp_path / "net.pth")
    save_file(LeNet5().state_dict(), tmp_path / "net.safetensors")
    for name in ("net.pth", "net.safetensors"):
        with refuses(ModelError, "weights alone.*--arch"):
            load_model(tmp_path / name)
    for content, pattern in ((torch.ones(3), "holds a Tensor"), ({}, "no tensors"), ({"a": 1}, "no tensors")):
        torch.save(content, tmp_path / "net.pth")
        with refuses(ModelError, pattern):
            load_model(tmp_path / "net.pth", arch="lenet5")
