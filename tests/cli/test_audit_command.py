"""The command line in processes of its own: exit statuses, one line for every bad input, nothing half-written."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from audit_tools import QUICK, Cli, Digits, interrupted, lenet, snapshot, wait_for
from PIL import Image
from torch import nn

from robustkit import load_data, reports


@pytest.fixture(scope="module")
def older(cli: Cli) -> Path:
    """A good report that bad runs must leave as it is."""
    done = cli(*QUICK, "--attack", "pgd:steps=3", "--out", "older", "--fail-under", "0.1=0")
    assert done.status == 0, done
    assert done.stdout.rstrip().endswith("report: older/index.html")
    return cli.folder / "older"


BAD = {
    "model unknown": (["--model", "lenet-mnits"], "lenet-mnist"),
    "model empty": (["--model", ""], "model"),
    "model of torchvision unknown": (["--model", "torchvision:resnet51"], "resnet50"),
    "model file missing": (["--model", "missing.pth"], "missing.pth"),
    "data unknown": (["--data", "mnist"], "mnist-samples"),
    "data empty": (["--data", ""], "--data is empty"),
    "data that does not fit": (["--data", "imagenet-samples"], "10"),
    "attack unknown": (["--attack", "pdg"], "pgd"),
    "attack empty": (["--attack", ""], "no attack ''"),
    "parameter unknown": (["--attack", "pgd:step=3"], "did you mean steps"),
    "parameter without a value": (["--attack", "pgd:steps"], "KEY=VALUE"),
    "parameter of a wrong type": (["--attack", "pgd:steps=many"], "whole number"),
    "parameter out of range": (["--attack", "pgd:steps=0"], "at least 1"),
    "parameter given twice": (["--attack", "pgd:steps=3,steps=4"], "given twice"),
    "parameter not finite": (["--attack", "pgd:step_size=nan"], "step_size"),
    "parameter divided by zero": (["--attack", "pgd:step_size=1/0"], "is a number"),
    "parameter that is not true or false": (["--attack", "pgd:random_start=maybe"], "true or false"),
    "parameter of a class that is none": (["--attack", "patch:towards=99"], "towards=99 is no class: the model has 10"),
    "parameter of too many classes": (["--attack", "pgd:targets=10000"], "the model has 10 classes: give at most 9"),
    "parameter of fab": (["--attack", "fab:targets=10"], "FAB: targets=10, but the model has 10 classes"),
    "parameter and a target": (["--attack", "pgd:targets=3", "--target", "4"], "give one of them"),
    "parameter of a patch and a target": (["--attack", "patch:towards=3", "--target", "4"], "give one of them"),
    "parameters that need more queries": (["--attack", "nes:samples=51,queries=10"], "more queries or fewer samples"),
    "probes that need more queries": (["--attack", "hopskipjump:probes=9,queries=9"], "more queries or fewer probes"),
    "parameter eps": (["--attack", "pgd:eps=0.1"], "--eps"),
    "norm unknown": (["--norm", "l3"], "linf, l2, l1"),
    "eps 0": (["--eps", "0"], "positive"),
    "eps -1": (["--eps", "-1"], "positive"),
    "eps nan": (["--eps", "nan"], "positive"),
    "eps inf": (["--eps", "inf"], "positive"),
    "eps abc": (["--eps", "abc"], "not a number"),
    "eps 1/0": (["--eps", "1/0"], "not a number"),
    "eps 2": (["--eps", "2"], "did you mean 2/255"),
    "eps 8": (["--eps", "0.1,8"], "did you mean 8/255"),
    "eps empty": (["--eps", ""], "eps is empty"),
    "eps commas": (["--eps", ",,"], "eps is empty"),
    "samples 0": (["--samples", "0"], "--samples"),
    "samples abc": (["--samples", "abc"], "--samples"),
    "batch size 0": (["--batch-size", "0"], "--batch-size"),
    "seed -1": (["--seed", "-1"], "--seed"),
    "seed too large": (["--seed", "1" * 20], "seed must be"),
    "batch size too large": (["--batch-size", "1" * 20], "batch_size must be"),
    "device unknown": (["--device", "gpu"], "device"),
    "precision unknown": (["--precision", "fp8"], "precision"),
    "arch without a file": (["--arch", "resnet18"], "--arch"),
    "target unknown": (["--target", "gibbon"], "gibbon"),
    "target out of range": (["--target", "10"], "from 0"),
    "target no digit": (["--target", "²"], "²"),
    "floor malformed": (["--fail-under", "0.5"], "EPS=FLOOR"),
    "floor empty": (["--fail-under", ""], "EPS=FLOOR"),
    "floor over 1": (["--fail-under", "0.1=30"], "from 0 to 1"),
    "floor nan": (["--fail-under", "0.1=nan"], "from 0 to 1"),
    "floor at an eps not in the grid": (["--fail-under", "0.2=0.5"], "add it to --eps"),
    "floor without an eps": (["--fail-under", "=0.5"], "eps"),
    "max drop without baseline": (["--max-drop", "0.1"], "--baseline"),
    "max drop over 1": (["--baseline", "older/report.json", "--max-drop", "1.1"], "from 0 to 1"),
    "max drop nan": (["--baseline", "older/report.json", "--max-drop", "nan"], "from 0 to 1"),
    "baseline missing": (["--baseline", "missing.json"], "missing.json"),
    "baseline a folder": (["--baseline", "."], "cannot be read"),
    "baseline of another norm": (["--baseline", "older/report.json", "--norm", "l2"], "same --norm"),
    "baseline of other data": (["--baseline", "older/report.json", "--data", "DIGITS"], "same --data"),
    "baseline of more samples": (["--baseline", "older/report.json", "--samples", "5"], "--samples"),
    "baseline of other eps": (["--baseline", "older/report.json", "--eps", "0.2"], "same --eps"),
    "option unknown": (["--stepz", "3"], "--help"),
    "argument unknown": (["extra"], "extra"),
    "out empty": (["--out", ""], "--out is empty"),
    "config missing": (["--config", "missing.toml"], "missing.toml"),
}


@pytest.mark.parametrize(("words", "says"), BAD.values(), ids=BAD)
def test_bad_words_are_one_line_and_touch_nothing(
    cli: Cli, digits: Digits, older: Path, words: list[str], says: str
) -> None:
    before = snapshot(older)
    words = [str(digits.folder) if word == "DIGITS" else word for word in words]
    assert says in cli.refuses(*QUICK, "--out", "older", *words)
    assert snapshot(older) == before
    assert [path.name for path in older.iterdir() if path.name.startswith(".")] == []


CONFIGS = {
    "unknown key": ("stepz = 3", "stepz"),
    "broken": ("model = [", "config"),
    "table": ("[audit]\nseed = 1", "audit"),
    "samples a fraction": ("samples = 1.5", "whole number"),
    "samples a text": ('samples = "4"', "whole number"),
    "samples true": ("samples = true", "whole number"),
    "seed a float": ("seed = 1e3", "whole number"),
    "max drop a text": ('max_drop = "x"', "a number"),
    "eps true": ("eps = true", "one value"),
    "eps nested": ("eps = [[0.1]]", "not a number"),
    "attack a number": ("attack = 5", "list"),
    "attack numbers": ("attack = [1]", "list"),
    "floors of numbers": ("fail-under = 0.5", "list"),
    "floors of texts": ('fail-under = {"0.1" = "x"}', "EPS=FLOOR"),
    "model a list": ('model = ["a"]', "one value"),
    "mean a text": ('mean = "abc"', "one number or one per channel"),
    "mean nested": ("mean = [[0.1]]", "one number or one per channel"),
    "std zero": ("std = 0.0", "std must be positive"),
    "size a fraction": ("size = 28.5", "one side in pixels"),
    "labels a number": ("labels = 5", "class names"),
    "labels too few": ('labels = ["a", "b"]', "10 classes"),
    "config in config": ('config = "x"', "config"),
    "not UTF-8": ("# \udcff", "config"),
}


@pytest.mark.parametrize(("text", "says"), CONFIGS.values(), ids=CONFIGS)
def test_bad_config_files(cli: Cli, tmp_path: Path, text: str, says: str) -> None:
    config = tmp_path / "audit.toml"
    config.write_bytes(text.encode("utf-8", "surrogateescape"))
    words = ("audit", "--model", "lenet-mnist", "--config", config, "--out", tmp_path / "out")
    assert says in cli.refuses(*words)
    assert not (tmp_path / "out").exists()


WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def test_a_config_file_works_and_the_command_line_goes_before(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "audit.toml"
    config.write_text(
        'model = "lenet-mnist"\nattack = ["fgsm", "pgd:steps=2"]\neps = ["26/255", 0.3]\nsamples = 3\nseed = 5\n'
        f'batch-size = 2\nout = "{tmp_path / "out"}"\nfail-under = {{"0.3" = 0.0}}\nlabels = {json.dumps(WORDS)}\n',
        "utf-8",
    )
    assert cli("audit", "--config", config).status == 0
    record = reports.read(tmp_path / "out" / "report.json")
    assert [attack.name for attack in record.attacks] == ["fgsm", "pgd"]
    assert [point.text for point in record.worst_case] == ["26/255", "0.3"]
    assert (len(record.samples.ids), record.run.seed, record.run.batch_size) == (3, 5, 2)
    assert [gate.kind for gate in record.gates] == ["fail-under"]
    assert set(record.classes.values()) <= set(WORDS)
    assert cli("audit", "--config", config, "--attack", "bim:steps=1", "--samples", "2", "--seed", "6").status == 0
    record = reports.read(tmp_path / "out" / "report.json")
    assert [attack.name for attack in record.attacks] == ["bim"]
    assert (len(record.samples.ids), record.run.seed, record.run.batch_size) == (2, 6, 2)


def damaged(folder: Path, digits: Digits) -> Path:
    shutil.copytree(digits.folder, folder)
    (folder / "3" / "a text.png").write_text("no picture")
    (folder / "4" / "cut short.png").write_bytes(digits.files[4].read_bytes()[:60])
    (folder / "5" / "empty.jpg").touch()
    return folder


def test_broken_files_among_good_ones_are_skipped_and_named(cli: Cli, digits: Digits, tmp_path: Path) -> None:
    folder = damaged(tmp_path / "data", digits)
    out = tmp_path / "out"
    done = cli("audit", "--model", "lenet-mnist", "--data", folder, "--attack", "fgsm", "--eps", "0.1", "--out", out)
    assert done.status == 0, done
    assert "3 files could not be read" in done.stdout
    record = reports.read(out / "report.json")
    assert record.clean.total == record.clean.count == 10
    names = {skipped.file for skipped in record.data.skipped}
    assert names == {"3/a text.png", "4/cut short.png", "5/empty.jpg"}
    assert not names & set(record.samples.names)
    page = (out / "index.html").read_text("utf-8")
    assert all(name in page for name in names)
    # The same folder as its own baseline, counted with and without what was skipped.
    words = ("audit", "--model", "lenet-mnist", "--data", folder, "--attack", "fgsm", "--eps", "0.1", "--out", out)
    for more in ((), ("--samples", "10")):
        again = cli(*words, "--baseline", out / "report.json", *more)
        assert again.status == 0, again


def folder_of(tmp_path: Path, what: str, digits: Digits) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    if what == "no class folders":
        shutil.copy(digits.files[0], folder)
    if what == "empty class folders":
        (folder / "0").mkdir()
    if what == "other classes":
        for name in ("cat", "dog"):
            (folder / name).mkdir()
            shutil.copy(digits.files[0], folder / name)
    if what == "all broken":
        for name in ("0", "1"):
            (folder / name).mkdir()
            (folder / name / "a.png").write_text("no picture")
    return folder


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("nothing", "is empty"),
        ("no class folders", "one sub-folder of pictures per class"),
        ("empty class folders", "without a file"),
        ("other classes", "cat"),
        ("all broken", "none of the 2 samples can be read"),
    ],
)
def test_folders_that_will_not_do(cli: Cli, digits: Digits, tmp_path: Path, what: str, says: str) -> None:
    folder = folder_of(tmp_path, what, digits)
    words = ("audit", "--model", "lenet-mnist", "--attack", "fgsm", "--eps", "0.1", "--out", tmp_path / "a" / "b")
    if what == "all broken":  # which shows only when they are read
        done = cli(*words, "--data", folder)
        assert done.status == 2
        progress, line = done.stderr.splitlines()
        assert "reading the pictures" in progress
    else:
        line = cli.refuses(*words, "--data", folder)
    assert says in line
    assert not (tmp_path / "a").exists()


class Command:
    """What pickle runs when it reads this back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def checkpoint(path: Path, what: str) -> None:
    state = dict(lenet().net.state_dict())
    first = next(iter(state))
    if what == "missing":
        del state[first]
    if what == "unexpected":
        state["spare.weight"] = torch.ones(1)
    if what == "shape":
        state[first] = state[first][..., :1]
    if what == "NaN":
        state[first] = state[first] * float("nan")
    torch.save(state, path)
    if what == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    if what == "code":
        torch.save({**state, "spare": Command(path.with_suffix(".ran"))}, path)
    if what == "bare code":
        path.write_bytes(pickle.dumps(Command(path.with_suffix(".ran"))))


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("missing", "weight"),
        ("unexpected", "spare.weight"),
        ("shape", "weight"),
        ("NaN", "NaN"),
        ("cut", "model.pth"),
        ("code", "would run"),
        ("bare code", "would run"),
    ],
)
def test_checkpoints_that_will_not_do(cli: Cli, older: Path, tmp_path: Path, what: str, says: str) -> None:
    before = snapshot(older)
    path = tmp_path / "model.pth"
    checkpoint(path, what)
    line = cli.refuses(*QUICK, "--model", path, "--arch", "lenet5", "--data", "mnist-samples", "--out", "older")
    assert says in line
    assert not path.with_suffix(".ran").exists()
    assert snapshot(older) == before
    if "code" in what:  # it would have run
        with path.open("rb") as file:
            pickle.load(file) if what == "bare code" else torch.load(file, weights_only=False)
        assert path.with_suffix(".ran").exists()


def test_a_normalisation_that_does_not_fit(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "audit.toml").write_text("mean = [0.1, 0.2, 0.3]")
    done = cli(*QUICK, "--config", tmp_path / "audit.toml", "--out", tmp_path / "out")
    assert done.status == 2
    assert done.stderr.splitlines()[-1] == "robustkit: mean and std have 3 channels, the pictures 1"
    assert not (tmp_path / "out").exists()


def test_a_good_checkpoint_is_audited(cli: Cli, tmp_path: Path) -> None:
    checkpoint(tmp_path / "model.pth", "good")
    words = ("--model", tmp_path / "model.pth", "--arch", "lenet5", "--data", "mnist-samples", "--out", tmp_path / "r")
    assert cli(*QUICK, *words).status == 0
    assert reports.read(tmp_path / "r" / "report.json").clean.total == 4


class Odd(nn.Module):
    """A TorchScript model that breaks on some pictures or on all."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.flat = nn.Flatten()
        self.linear = nn.Linear(784, 10)
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.linear(self.flat(x))
        # Digits are mostly black; the random pictures of a first try are not.
        if self.how == "NaN on digits" and bool(x.mean() < 0.4):
            return out * float("nan")
        if self.how == "NaN":
            return out * float("nan")
        if self.how == "three classes":
            return out[:, :3]
        return out


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("tuple", "returned a tuple"),
        ("NaN", "returned NaN"),
        ("NaN on digits", "returned NaN"),
        ("three classes", "3 other classes"),
    ],
)
def test_programs_that_will_not_do(cli: Cli, tmp_path: Path, how: str, says: str) -> None:
    path = tmp_path / "model.pt"
    torch.jit.script(Pair() if how == "tuple" else Odd(how)).save(str(path))
    (tmp_path / "audit.toml").write_text("size = 28\n")
    words = ("--model", path, "--data", "mnist-samples", "--config", tmp_path / "audit.toml")
    done = cli(*QUICK, *words, "--out", tmp_path / "out")
    assert done.status == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert len(lines) == 1
    assert says in lines[0]
    assert "defect" not in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["audit", "compare", "report"])
def test_a_folder_that_cannot_be_written(cli: Cli, digits: Digits, older: Path, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("in the way")
    words = {"audit": QUICK, "compare": ("compare", digits.files[0], "--model", "lenet-mnist")}
    words["report"] = ("report", older / "report.json")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "cannot write there" in cli.refuses(*words[command], "--out", out)
    assert snapshot(tmp_path) == {"file": b"in the way"}


def spoil(path: Path, source: Path, what: str) -> None:
    text = source.read_text("utf-8")
    body = json.loads(text)
    if what == "cut short":
        text = text[: len(text) // 2]
    if what == "another version":
        text = json.dumps({**body, "version": 99})
    if what == "edited":
        text = text.replace('"count": 4', '"count": 3', 1)
    if what == "not JSON":
        text = "<html>"
    if what == "a list":
        text = "[]"
    if what == "empty":
        text = ""
    assert text != source.read_text("utf-8")
    path.write_text(text, "utf-8")


@pytest.mark.parametrize("what", ["cut short", "another version", "edited", "not JSON", "a list", "empty"])
def test_records_that_will_not_do(cli: Cli, older: Path, tmp_path: Path, what: str) -> None:
    path = tmp_path / "report.json"
    spoil(path, older / "report.json", what)
    line = cli.refuses(*QUICK, "--baseline", path, "--out", tmp_path / "out")
    assert "report.json" in line
    assert cli.refuses("report", path, "--out", tmp_path / "out") == line
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_gates_decide_the_exit_status(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = cli(*QUICK, "--out", out, "--fail-under", "0.1=0", "--fail-under", "0.3=1")
    assert done.status == 1
    assert "FAILED  robust accuracy at ε = 0.3" in done.stdout
    assert "passed  robust accuracy at ε = 0.1" in done.stdout
    record = reports.read(out / "report.json")
    assert [gate.passed for gate in record.gates] == [True, False]
    tree = ET.parse(out / "junit.xml").getroot()
    assert [
        len(list(case.iter("failure"))) for case in tree.iterfind(".//testcase[@classname='robustkit.fail-under']")
    ] == [0, 1]
    assert cli(*QUICK, "--out", out, "--fail-under", "0.1=0").status == 0


def test_checks_run_by_default_and_fail_a_strict_build_alone(cli: Cli, tmp_path: Path) -> None:
    data, out = tmp_path / "shifted.npz", tmp_path / "out"
    batch = next(load_data("mnist-samples").batches(lenet(), 30, 30))
    np.savez(data, x=batch.x.numpy(), y=((batch.y + 1) % 10).numpy())
    words = (*QUICK, "--data", data, "--samples", "30", "--out", out)
    done = cli(*words)
    assert done.status == 0
    assert "can these numbers be trusted? do not trust" in done.stdout
    assert "fail  labels-permuted: 0 % are right" in done.stdout
    assert reports.read(out / "report.json").verdict == "do not trust"
    strict = cli(*words, "--strict")
    assert strict.status == 1
    assert "FAILED  no check of the evaluation fails: 1 of" in strict.stdout
    assert cli(*QUICK, "--out", out, "--strict").status == 0
    none = cli(*QUICK, "--out", out, "--no-checks")
    assert "can these numbers be trusted? not checked" in none.stdout
    assert not reports.read(out / "report.json").checks
    assert "--strict" in cli.refuses(*QUICK, "--out", out, "--strict", "--no-checks")
    (tmp_path / "audit.toml").write_text("checks = false\n")
    assert cli(*QUICK, "--out", out, "--config", tmp_path / "audit.toml").status == 0
    assert not reports.read(out / "report.json").checks
    (tmp_path / "audit.toml").write_text("strict = 1\n")
    assert "strict must be true or false" in cli.refuses(*QUICK, "--config", tmp_path / "audit.toml")


def test_a_baseline_holds_or_is_undercut(cli: Cli, tmp_path: Path) -> None:
    strong, weak = ("--model", "lenet-mnist-pgd", "--eps", "0.1,0.2"), ("--eps", "0.1,0.2,0.3")
    words = ("--samples", "12", "--data", "mnist-samples")
    assert cli(*QUICK, *strong, *words, "--out", tmp_path / "strong").status == 0
    baseline = ("--baseline", tmp_path / "strong" / "report.json")
    same = cli(*QUICK, *strong, *words, *baseline, "--out", tmp_path / "same")
    assert same.status == 0
    assert same.stdout.count("passed  ") == 3  # clean accuracy and both ε
    dropped = cli(*QUICK, *weak, *words, *baseline, "--out", tmp_path / "weak")
    assert dropped.status == 1
    record = reports.read(tmp_path / "weak" / "report.json")
    assert [gate.eps for gate in record.gates] == [None, 0.1, 0.2]  # of the grid, what both have
    old = reports.read(tmp_path / "strong" / "report.json")
    for gate, now, then in zip(record.gates[1:], record.worst_case, old.worst_case, strict=False):
        assert gate.required == pytest.approx(then.robust.value)
        assert gate.passed == (now.robust.count >= then.robust.count)
    drop = max(t.robust.value - n.robust.value for n, t in zip(record.worst_case, old.worst_case, strict=False))
    assert drop > 0
    for allowed, status in ((drop, 0), (drop - 0.01, 1)):
        words_now = (*QUICK, *weak, *words, *baseline, "--max-drop", f"{allowed:.12f}")
        assert cli(*words_now, "--out", tmp_path / "weak").status == status


def test_a_new_report_replaces_the_old_one_whole(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert cli(*QUICK, "--attack", "pgd:steps=2", "--out", out).status == 0
    assert cli(*QUICK, "--eps", "0.3", "--out", out).status == 0
    record = reports.read(out / "report.json")
    files = {f for c in record.comparisons for f in (c.original.file, c.perturbation, c.adversarial.file)}
    assert files
    assert {f"comparisons/{path.name}" for path in (out / "comparisons").iterdir()} == files
    assert (out / "notes.txt").read_text() == "mine"
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_a_report_is_redrawn(cli: Cli, older: Path, tmp_path: Path) -> None:
    done = cli("report", older / "report.json", "--out", tmp_path / "again")
    assert (done.status, done.stdout) == (0, f"report: {tmp_path / 'again' / 'index.html'}\n")
    for name in ("index.html", "report.json", "junit.xml", "summary.md"):
        assert (tmp_path / "again" / name).read_bytes() == (older / name).read_bytes()


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
def test_a_signal_leaves_what_was_finished(cli: Cli, tmp_path: Path, numbers: list[signal.Signals]) -> None:
    out = tmp_path / "out"
    words = ("--samples", "40", "--batch-size", "20", "--attack", "pgd:steps=100000,early_stop=false")
    process = cli.start(*QUICK, *words, "--fail-under", "0.1=1", "--out", out)
    wait_for(process, "PGD, 2 of 2 attacks")
    for number in numbers:
        process.send_signal(number)
    record = interrupted(process, out)
    assert [attack.judged for attack in record.attacks] == [20, 0]
    # What is incomplete is no baseline.
    assert "interrupted" in cli.refuses(*QUICK, "--baseline", out / "report.json", "--out", tmp_path / "x")


def test_a_signal_before_anything_is_finished_keeps_the_old_report(cli: Cli, older: Path) -> None:
    before = snapshot(older)
    process = cli.start(*QUICK, "--out", older)
    wait_for(process, "reading the pictures")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    if process.returncode == 3 and "what was finished" not in stderr:
        assert "robustkit: interrupted\n" in stderr
        assert snapshot(older) == before
    assert not [path for path in older.iterdir() if path.name.startswith(".")]


def test_fresh_interpreters_give_the_same_statuses(cli: Cli, tmp_path: Path) -> None:
    words = (*QUICK, "--out", tmp_path / "out")
    runs = [cli.start(*words), cli.start(*words[:-1], tmp_path / "2", "--fail-under", "0.3=1"), cli.start("audit", "x")]
    results = [(*run.communicate(timeout=100), run.returncode) for run in runs]
    assert [status for *_, status in results] == [0, 1, 2]
    assert results[2][1].count("\n") == 1


@pytest.mark.parametrize(("floor", "status"), [("0", 0), ("1", 1)])
def test_a_reader_that_goes_away_does_not_change_the_verdict(cli: Cli, tmp_path: Path, floor: str, status: int) -> None:
    process = cli.start(*QUICK, "--fail-under", f"0.3={floor}", "--out", tmp_path / "out")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    assert process.wait(60) == status


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_greek_letters(cli: Cli, tmp_path: Path, encoding: str) -> None:
    process = cli.start(*QUICK, "--fail-under", "0.3=0", "--out", tmp_path / "out", PYTHONIOENCODING=encoding)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "clean accuracy" in stdout


def test_a_long_path_is_printed_in_one_piece(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / ("very-long-name-" * 8) / ("another long name " * 5).strip()
    done = cli(*QUICK, "--out", out)
    assert f"report: {out / 'index.html'}" in done.stdout.splitlines()


def test_names_that_are_not_utf8(cli: Cli, tmp_path: Path, digits: Digits) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9 <b>")
    shutil.copytree(digits.folder, folder)
    shutil.copy(digits.files[0], folder / "0" / os.fsdecode(b"\xff\n.png"))
    (folder / "1" / os.fsdecode(b"\xfe.png")).write_text("no picture")
    done = cli(*QUICK, "--samples", "12", "--data", folder, "--out", folder / "report")
    assert done.status == 0, done
    assert len(reports.read(folder / "report" / "report.json").data.skipped) == 1


def test_the_same_attack_twice_is_told_apart(cli: Cli, tmp_path: Path) -> None:
    attacks = ("--attack", "pgd:steps=2", "--attack", "pgd:steps=3")
    done = cli(*QUICK, *attacks, "--out", tmp_path / "out")
    assert "PGD steps=2 " in done.stdout
    assert "PGD steps=3 " in done.stdout


def test_progress_in_a_log_is_a_line_for_each_new_thing(cli: Cli, tmp_path: Path) -> None:
    done = cli(*QUICK, "--samples", "40", "--batch-size", "4", "--out", tmp_path / "out")
    lines = [line.partition("] ")[2] for line in done.stderr.splitlines()]
    assert lines[0] == "reading the pictures: 0 of 40 samples"
    assert 3 <= len(lines) <= 6  # not one a batch
    assert "\r" not in done.stderr


LISTED = {"audit", "certify", "compare", "models", "attacks", "report"}
# A finder that lets nobody import torch, in every interpreter that starts with this folder on its path.
BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("torch is not there")
sys.meta_path.insert(0, Block())
"""


def test_help_models_and_report_do_without_torch(cli: Cli, older: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    env = {"PYTHONPATH": str(tmp_path)}

    def run(*words: str | Path) -> tuple[int | None, str]:
        process = cli.start(*words, **env)
        stdout, stderr = process.communicate(timeout=60)
        return process.returncode, stdout + stderr

    status, text = run("--help")
    assert status == 0
    assert set(text.partition("Commands:")[2].split()) >= LISTED
    for command in LISTED:
        assert run(command, "--help")[0] == 0
    status, text = run("models")
    assert status == 0
    assert all(name in text for name in ("efficientnet-lite0", "lenet-mnist-pgd", "imagenet-samples"))
    status, text = run("report", older / "report.json", "--out", tmp_path / "out")
    assert (status, text) == (0, f"report: {tmp_path / 'out' / 'index.html'}\n")
    status, text = run("attacks")
    assert status == 0
    assert "Madry et al. 2018" in text
    status, text = run("attacks", "pgd")
    assert status == 0
    assert "step_size" in text
    assert run("attacks", "foolbox")[0] != 0  # the block does block
    assert run("--version") == (0, "robustkit, version 0.1.0\n")


@pytest.mark.parametrize(
    ("words", "limit"), [(["--help"], 0.5), (["attacks"], 1), (["attacks", "pgd"], 1)], ids=["help", "attacks", "pgd"]
)
def test_what_is_only_told_is_told_at_once(words: list[str], limit: float) -> None:
    def once() -> float:
        code = (
            "import sys, time; start = time.perf_counter()\n"
            "from robustkit.cli import main\n"
            f"try: main.main({words!r}, prog_name='robustkit')\n"
            "except SystemExit: pass\n"
            "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules and 'numpy' not in sys.modules\n"
            "print('took', time.perf_counter() - start)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])

    assert min(once() for _ in range(3)) < limit


@pytest.mark.parametrize(
    "code",
    [
        "from robustkit import audit, load_model, load_data, reports, attacks",
        "from robustkit import attacks, reports, load_data, load_model, audit",
        "import robustkit.auditing.run; from robustkit import audit",
        "import robustkit.reports; import robustkit.attacks; import robustkit; audit = robustkit.audit",
        "from robustkit.attacks import PGD; from robustkit import *",
    ],
)
def test_imports_work_in_any_order(code: str) -> None:
    check = "assert callable(audit); import robustkit; assert callable(robustkit.audit)"
    lazy = "import sys; import robustkit; assert 'torch' not in sys.modules"
    ends = "assert callable(robustkit.attacks.PGD) and callable(robustkit.reports.write)"
    subprocess.run([sys.executable, "-c", "; ".join([lazy, code, check, ends])], check=True)


def test_an_unknown_name_is_an_attribute_error() -> None:
    import robustkit

    with pytest.raises(AttributeError, match="no attribute 'adit'"):
        robustkit.adit  # noqa: B018


def test_strange_pictures_in_a_folder_are_handled(cli: Cli, digits: Digits, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(digits.folder, folder)
    with Image.open(digits.files[1]) as file:
        grey = file.convert("L").resize((56, 56))
    for mode, name in (("RGBA", "a.png"), ("CMYK", "b.jpg"), ("P", "c.gif"), ("1", "d.png"), ("LA", "e.png")):
        grey.convert(mode).save(folder / "1" / name)
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(folder / "1" / "f.png")
    Image.new("L", (1, 1)).save(folder / "1" / "g.png")
    Image.new("L", (3000, 20)).save(folder / "1" / "h.png")
    done = cli(*QUICK, "--samples", "18", "--data", folder, "--out", tmp_path / "out")
    assert done.status == 0, done
    record = reports.read(tmp_path / "out" / "report.json")
    assert record.data.skipped == []
    said = dict(zip(record.samples.names, record.samples.predictions, strict=True))
    assert [said[f"1/{name}"] for name in ("a.png", "b.jpg", "c.gif", "e.png", "f.png")] == [1] * 5


@pytest.mark.real
def test_the_real_network_is_audited(cli: Cli, tmp_path: Path) -> None:
    words = ("--samples", "2", "--attack", "fgsm", "--attack", "pgd:steps=2", "--eps", "1/255,4/255")
    done = cli("audit", *words, "--out", tmp_path / "out")
    assert done.status == 0, done
    record = reports.read(tmp_path / "out" / "report.json")
    assert (record.model.name, record.model.classes, record.data.name) == (
        "efficientnet-lite0",
        1000,
        "imagenet-samples",
    )
    assert record.clean.count == 2
    assert record.worst_case[1].robust.count < 2
    assert record.comparisons
