"""Comparisons: what stands under a picture is what the model says of the file, read back here without robustkit."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from audit_tools import Cli, Digits, lenet, read_png, snapshot
from PIL import Image
from torch import Tensor, nn

from robustkit import audit, load_data, load_model
from robustkit.attacks import FGSM, LBFGS, PGD
from robustkit.auditing.comparison_files import Pair, compare_picture, save_comparison
from robustkit.errors import ConfigError, DataError
from robustkit.models.load import LoadedModel, ModelSource, Preprocess
from robustkit.reports import Comparison

NORMS = {
    "linf": lambda change: np.abs(change).max(),
    "l2": lambda change: np.sqrt((change**2).sum()),
    "l1": lambda change: np.abs(change).sum(),
}
PARTS = ("original", "perturbation", "adversarial", "comparison")


def verify(model: LoadedModel, comparison: Comparison, root: Path) -> tuple[Tensor, Tensor]:
    """Judge the files again; returns the original and the adversarial."""
    pictures = []
    for stated in (comparison.original, comparison.adversarial):
        x = read_png(root / stated.file)
        pictures.append(x)
        with torch.no_grad():
            mean = torch.tensor(model.mean or (0.0,)).view(-1, 1, 1)
            std = torch.tensor(model.std or (1.0,)).view(-1, 1, 1)
            confidence, index = model.net.eval()(((x - mean) / std)[None])[0].softmax(0).max(0)
        assert stated.index == int(index)
        assert stated.label == (model.labels[index] if model.labels else str(int(index)))
        assert stated.confidence == pytest.approx(float(confidence), abs=1e-4)
    change = (pictures[1] - pictures[0]).double().numpy()
    assert comparison.size == pytest.approx(float(NORMS[comparison.norm](change)), rel=1e-6)
    assert comparison.rms == pytest.approx(float(np.sqrt((change**2).mean())), rel=1e-6)
    return pictures[0], pictures[1]


@pytest.mark.parametrize(("norm", "eps"), [("linf", [0.05, 0.1, 0.2]), ("l2", [1.0, 2.0]), ("l1", [5.0, 20.0])])
@pytest.mark.parametrize("target", [None, 3])
def test_the_pictures_of_an_audit(tmp_path: Path, norm: str, eps: list[float], target: int | None) -> None:
    model = lenet()
    attacks = [FGSM(norm=norm), PGD(norm=norm, steps=8), LBFGS(steps=5, searches=3)]
    record = audit(model, load_data("mnist-samples"), attacks, eps, samples=10, out=tmp_path, target=target, norm=norm)
    assert 3 <= len(record.comparisons) <= 6
    files = []
    for comparison in record.comparisons:
        original, _ = verify(model, comparison, tmp_path)
        place = record.samples.ids.index(comparison.sample)
        assert comparison.name == record.samples.names[place]
        assert comparison.truth == str(record.samples.labels[place])
        assert comparison.original.index == record.samples.labels[place]
        assert comparison.norm == norm
        assert comparison.target in (None if target is None else str(target), None)
        assert (comparison.eps is None) == (comparison.attack == "L-BFGS")
        if comparison.eps is not None:
            assert comparison.eps in eps
            rounding = {"linf": 0.5 / 255, "l2": 0.5 / 255 * 28, "l1": 0.5 / 255 * 784}[norm]
            assert comparison.size <= comparison.eps + rounding + 1e-6
        batch = next(load_data("mnist-samples").batches(model, 10))
        assert torch.equal(original, batch.x[batch.ids.tolist().index(comparison.sample)])
        files += [comparison.original.file, comparison.perturbation, comparison.adversarial.file]
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")) == sorted(files)
    assert len(set(files)) == len(files)


def tilted(levels: float) -> LoadedModel:
    """Answers 1 where the mean pixel is above 100 + `levels` eight-bit levels; a third class waits far off."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([-torch.ones(16), torch.ones(16), torch.zeros(16)]) * 255)
        edge = 16 * (100 + levels)
        net[1].bias.copy_(torch.tensor([edge, -edge, -1e6]))
    labels = ("low", "high", "third")
    return LoadedModel("tilted", ModelSource(net, "tilted", Preprocess((4, 4), 1), labels=labels, classes=3))


@pytest.mark.parametrize(
    ("edge", "moved", "before", "after", "undone"),
    [
        (0.2, 0.4, "high", "low", True),  # rounded back to where it came from
        (0.2, 0.6, "high", "high", False),  # rounded up to a whole level
        (0.2, 2.0, "high", "high", False),
        (0.55, 0.51, "low", "high", False),  # only the rounding makes it an attack
        (5.0, 2.0, "low", "low", False),  # it never was one
    ],
)
@pytest.mark.parametrize("target", [None, 1, 2])
def test_undone_means_that_rounding_undid_it(
    tmp_path: Path, edge: float, moved: float, before: str, after: str, undone: bool, target: int | None
) -> None:
    model = tilted(edge)
    x = torch.full((1, 4, 4), 100 / 255)
    subject = Pair(7, "grey", 0, x, x + moved / 255, FGSM(), "linf", 0.01, target)
    comparison = save_comparison(model, subject, tmp_path / "pictures", "a")
    verify(model, comparison, tmp_path)
    assert (comparison.before_label, comparison.adversarial.label) == (before, after)
    # Where another class was the target, the attack had not succeeded before either.
    assert comparison.undone == (undone and target != 2)
    assert comparison.target == (None if target is None else model.labels[target])


def test_the_perturbation_is_drawn_around_grey_with_its_full_range(tmp_path: Path) -> None:
    model = tilted(0.2)
    x = torch.full((1, 4, 4), 0.5)
    change = torch.zeros(1, 4, 4)
    change[0, 0, 0], change[0, 1, 1], change[0, 2, 2] = 0.02, -0.02, 0.01
    comparison = save_comparison(model, Pair(0, "x", 0, x, x + change, FGSM(), "linf", 0.02, None), tmp_path / "p", "a")
    drawn = read_png(tmp_path / comparison.perturbation) * 255
    assert comparison.amplification == pytest.approx(50, rel=1e-5)
    assert drawn[0, 0, 0] == 255
    assert drawn[0, 1, 1] == 0
    assert drawn[0, 2, 2] == pytest.approx(191, abs=1)
    assert set(drawn.flatten().tolist()) - {0.0, 255.0, float(drawn[0, 2, 2])} == {128.0}
    still = save_comparison(model, Pair(0, "x", 0, x, x.clone(), FGSM(), "l2", None, None), tmp_path / "p", "b")
    assert (still.size, still.rms, still.amplification, still.undone) == (0.0, 0.0, 1.0, False)


NAMES = ["a b.png", "été 写真.png", ".hidden.png", "no suffix", "two.dots.png", "-dash.png", "$x^2$ <b>.png", "%d.png"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_pictures(cli: Cli, digits: Digits, tmp_path: Path, name: str) -> None:
    shutil.copy(digits.files[2], tmp_path / name)
    out = tmp_path / "out"
    done = cli("compare", tmp_path / name, "--model", "lenet-mnist", "--eps", "0.3", "--out", out)
    assert (done.status, done.stderr) == (0, "")
    assert {path.name for path in out.iterdir()} == {f"{name}-{part}.png" for part in PARTS}
    assert done.stdout.startswith(f"{name}: 2 (")
    assert done.stdout.splitlines()[-1] == f"figure: {out / f'{name}-comparison.png'}"


def test_pictures_of_one_folder_keep_their_own_files(digits: Digits, tmp_path: Path) -> None:
    model, long = lenet(), "é" * 110
    for first, second in (("cat.png", "cat.jpg"), (f"{long}1.png", f"{long}2.png")):
        figures = []
        for name, digit in ((first, 2), (second, 5)):
            shutil.copy(digits.files[digit], tmp_path / name)
            figures.append(compare_picture(model, tmp_path / name, FGSM(), 0.3, None, 0, tmp_path / "out")[1])
        assert figures[0] != figures[1]
        assert figures[0].read_bytes() != figures[1].read_bytes()


def test_a_name_that_is_not_utf8(cli: Cli, digits: Digits, tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff.png")
    shutil.copy(digits.files[2], tmp_path / name)
    done = cli("compare", tmp_path / name, "--model", "lenet-mnist", "--eps", "0.3", "--out", tmp_path / "out")
    assert (done.status, done.stderr) == (0, "")
    assert (tmp_path / "out" / os.fsdecode(b"\xff.png-comparison.png")).is_file()


def picture(path: Path, what: str) -> None:
    ramp = np.tile(np.linspace(0, 255, 60, dtype=np.uint8), (60, 1))
    grey = Image.fromarray(ramp)
    if what == "16 bits":
        Image.fromarray(ramp.astype(np.uint16) * 257).save(path, format="PNG")
    elif what == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6
        grey.convert("RGB").resize((30, 60)).save(path, format="JPEG", exif=exif)
    elif what == "1×1":
        Image.new("RGB", (1, 1), "red").save(path, format="PNG")
    elif what == "huge":
        Image.new("L", (9000, 5000), 200).save(path, format="JPEG")
    elif what == "thin":
        Image.new("L", (1, 5000), 200).save(path, format="PNG")
    else:
        grey.convert(what).save(path, format={"CMYK": "JPEG"}.get(what, "PNG"))


@pytest.mark.parametrize("what", ["L", "RGBA", "LA", "P", "1", "CMYK", "16 bits", "rotated", "1×1", "huge", "thin"])
def test_strange_pictures(tmp_path: Path, what: str) -> None:
    picture(tmp_path / "picture", what)
    model = lenet()
    out = tmp_path / "out"
    comparison, figure = compare_picture(model, tmp_path / "picture", FGSM(), 0.1, None, 0, out)
    original, adversarial = verify(model, comparison, tmp_path)
    assert original.shape == adversarial.shape == (1, 28, 28)
    assert comparison.truth == ""
    assert figure == out / "picture-comparison.png"  # a name without a suffix
    with Image.open(figure) as drawn:
        assert min(drawn.size) > 500
        assert drawn.convert("L").getextrema() == (0, 255)


def test_eps_and_seed_and_target_of_a_picture(digits: Digits, tmp_path: Path) -> None:
    model = lenet()
    found = [
        compare_picture(model, digits.files[5], PGD(steps=10), 0.3, "3", seed, tmp_path / str(seed))[0]
        for seed in (1, 2)
    ]
    for comparison in found:
        verify(model, comparison, tmp_path / comparison.original.file.partition("/")[0] / "..")
        assert comparison.target == comparison.adversarial.label == "3"
        assert comparison.eps == 0.3
        assert comparison.size <= 0.3 + 0.5 / 255 + 1e-6
    files = [(tmp_path / str(seed) / "digit 5.png-adversarial.png").read_bytes() for seed in (1, 2)]
    assert files[0] != files[1]
    small = compare_picture(model, digits.files[5], LBFGS(), 0.3, "3", 0, tmp_path)[0]
    assert small.eps is None
    assert small.before_label == "3"


def test_refusals_in_python(digits: Digits, tmp_path: Path) -> None:
    model = lenet()
    for target, says in (("5", "already sees 5"), ("gibbon", "no class called"), (10, "from 0")):
        with pytest.raises(ConfigError, match=says):
            compare_picture(model, digits.files[5], FGSM(), 0.1, target, 0, tmp_path / "out")
    with pytest.raises(DataError, match="check the path"):
        compare_picture(model, tmp_path / "missing.png", FGSM(), 0.1, None, 0, tmp_path / "out")
    assert not (tmp_path / "out").exists()


BAD = {
    "missing picture": (["missing.png"], "check the path"),
    "folder": (["."], "is a folder"),
    "not a picture": (["text.png"], "is not a picture"),
    "cut short": (["cut.png"], "cannot be decoded"),
    "unknown target": (["good.png", "--target", "gibbon"], "no class called 'gibbon'"),
    "empty target": (["good.png", "--target", ""], "class"),
    "target already predicted": (["good.png", "--target", "5"], "choose another target"),
    "target not a class": (["good.png", "--target", "10"], "from 0"),
    "eps": (["good.png", "--eps", "7"], "did you mean 7/255"),
    "two eps": (["good.png", "--eps", "0.1,0.2"], "not a number"),
    "norm": (["good.png", "--norm", "l7"], "linf, l2, l1"),
    "attack": (["good.png", "--attack", "fgms"], "fgsm"),
    "model": (["good.png", "--model", "lenet"], "lenet-mnist"),
    "no picture": ([], "IMAGE"),
    "norm that the attack lacks": (["good.png", "--norm", "linf", "--attack", "cw"], "cw works in l2, not in linf"),
    "class that is none": (["good.png", "--attack", "patch:towards=99"], "the model has 10, from 0"),
    "two ways to go": (["good.png", "--target", "4", "--attack", "pgd:targets=3"], "give one of them"),
    "loss of too many classes": (["good.png", "--attack", "foolbox:FGSM", "--target", "4"], "foolbox FGSM takes no"),
}


@pytest.mark.parametrize(("words", "says"), BAD.values(), ids=BAD)
def test_bad_words_leave_no_folder(
    cli: Cli, digits: Digits, tmp_path: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(digits.files[5], tmp_path / "good.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(digits.files[5].read_bytes()[:60])
    before = snapshot(tmp_path)
    words = [str(tmp_path / word) if word.endswith((".png", ".")) and word[:1] != "-" else word for word in words]
    assert says in cli.refuses("compare", "--model", "lenet-mnist", "--out", tmp_path / "a" / "b", *words)
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "a").exists()


@pytest.mark.real
def test_the_famous_figure_of_a_photograph(cli: Cli, tmp_path: Path) -> None:
    spec = find_spec("foolbox")
    assert spec is not None
    assert spec.origin is not None
    photo = Path(spec.origin).parent / "data" / "imagenet_11_630.jpg"
    words = ("--attack", "pgd:steps=8", "--eps", "0.007", "--target", "gibbon", "--out", tmp_path)
    done = cli("compare", photo, *words)
    assert done.status == 0, done
    assert "gibbon" in done.stdout.splitlines()[1]
    model = load_model(device="cpu")
    x = torch.stack([read_png(tmp_path / f"{photo.name}-{part}.png") for part in ("original", "adversarial")])
    seen = model.logits(x).argmax(1).tolist()
    assert model.labels is not None
    assert [model.labels[index].split(",")[0] for index in seen][1] == "gibbon"
    assert model.labels[seen[0]] in done.stdout.splitlines()[0]
    assert float((x[1] - x[0]).abs().max()) <= 2 / 255 + 1e-6  # 0.007, rounded to whole levels
