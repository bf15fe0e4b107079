"""Options, configuration files and records that will not do: one line, exit status 2, nothing touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from audit_tools import QUICK, Cli, Digits, snapshot

from robustkit import reports

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
    "eps with an empty entry": (["--eps", "1/255,,2/255"], "'1/255,,2/255' has an empty entry"),
    "eps with a comma before": (["--eps", ",0.1"], "has an empty entry"),
    "eps with a comma behind": (["--eps", "0.1, "], "has an empty entry"),
    "steps too many": (
        ["--attack", "pgd:steps=999999999999999999999"],
        "pgd: steps must be a whole number of at most",
    ),
    "steps of 5,000 digits": (["--attack", f"pgd:steps={'9' * 5000}"], "steps of pgd is a whole number"),
    "restarts too many": (
        ["--attack", "pgd:restarts=2147483648"],
        "restarts must be a whole number of at most",
    ),
    "queries a float": (["--attack", "square:queries=1e9"], "whole number"),
    "queries too many": (["--attack", "square:queries=9999999999"], "queries must be a whole number of at most"),
    "steps of foolbox too many": (
        ["--attack", "foolbox:LinfPGD:steps=9999999999"],
        "steps must be a whole number",
    ),
    "parameter infinite": (["--attack", "pgd:step_size=1e400"], "step_size must be a positive number"),
    "samples 0": (["--samples", "0"], "--samples"),
    "samples abc": (["--samples", "abc"], "--samples"),
    "batch size 0": (["--batch-size", "0"], "--batch-size"),
    "seed -1": (["--seed", "-1"], "--seed"),
    "seed too large": (["--seed", "1" * 20], "seed must be"),
    "samples too large": (["--samples", "1" * 20], "samples must be a whole number from 1 to 2^63 - 1"),
    "batch size too large": (["--batch-size", "1" * 20], "batch_size must be"),
    "device unknown": (["--device", "gpu"], "device"),
    "precision unknown": (["--precision", "fp8"], "precision"),
    "arch without a file": (["--arch", "resnet18"], "--arch"),
    "target unknown": (["--target", "gibbon"], "gibbon"),
    "target out of range": (["--target", "10"], "from 0"),
    "target of 5,000 digits": (["--target", "9" * 5000], "is not a class"),
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
    "eps with an empty entry": ('eps = [0.1, "", 0.2]', "has an empty entry"),
    "eps ending in a comma": ('eps = "0.1,"', "has an empty entry"),
    "seed too large": ("seed = 99999999999999999999", "seed must be a whole number from 0 to 2^63 - 1"),
    "mean infinite": ("mean = inf", "mean needs one finite number"),
    "mean of 400 digits": (f"mean = {'9' * 400}", "too large"),
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
    if what == "a number too large":
        text = text.replace('"seed": 0', '"seed": 99999999999999999999', 1)
    if what == "not JSON":
        text = "<html>"
    if what == "a list":
        text = "[]"
    if what == "empty":
        text = ""
    assert text != source.read_text("utf-8")
    path.write_text(text, "utf-8")


@pytest.mark.parametrize(
    "what", ["cut short", "another version", "edited", "a number too large", "not JSON", "a list", "empty"]
)
def test_records_that_will_not_do(cli: Cli, older: Path, tmp_path: Path, what: str) -> None:
    path = tmp_path / "report.json"
    spoil(path, older / "report.json", what)
    line = cli.refuses(*QUICK, "--baseline", path, "--out", tmp_path / "out")
    assert "report.json" in line
    assert ("was the file cut short?" in line) == (what in ("cut short", "not JSON", "empty"))
    assert cli.refuses("report", path, "--out", tmp_path / "out") == line
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]
