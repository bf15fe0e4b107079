"""`robustkit certify` as a shell runs it: reports, exit statuses, one line for every bad input."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from audit_tools import Cli, interrupted, snapshot, wait_for

from robustkit import reports

DIGITS = ("certify", "--model", "lenet-mnist-noise", "--samples", "4", "--device", "cpu", "--precision", "fp32")
BAD = {
    "method unknown": (["--method", "crwn"], "did you mean crown"),
    "sigma 0": (["--sigma", "0"], "sigma must be a positive"),
    "sigma below 0": (["--sigma", "-1"], "sigma must be a positive"),
    "sigma nan": (["--sigma", "nan"], "sigma must be a positive"),
    "sigma a text": (["--sigma", "wide"], "--sigma"),
    "draws 0": (["--draws", "0"], "draws must be a whole"),
    "draws too few": (["--draws", "8"], "draws must be more"),
    "select 0": (["--select", "0"], "select must be a whole"),
    "draws too many": (
        ["--draws", "999999999999999999999"],
        "draws must be a whole number of at most 2147483647",
    ),
    "select too many": (["--select", "2147483648"], "select must be a whole number of at most 2147483647"),
    "sigma infinite": (["--sigma", "1e400"], "sigma must be a positive"),
    "eps with an empty entry": (["--eps", "0.1,,0.2"], "has an empty entry"),
    "alpha 0": (["--alpha", "0"], "alpha must be a number"),
    "alpha 1": (["--alpha", "1"], "alpha must be a number"),
    "norm with smoothing": (["--norm", "linf"], "smoothing certifies in l2"),
    "norm unknown": (["--method", "ibp", "--norm", "l3"], "linf, l2, l1"),
    "sigma with bounds": (["--method", "crown", "--sigma", "0.5"], "--sigma is for --method smoothing"),
    "draws with bounds": (["--method", "ibp", "--draws", "500"], "--draws is for --method smoothing"),
    "eps 0": (["--eps", "0"], "positive"),
    "eps empty": (["--eps", ","], "eps is empty"),
    "eps over the box": (["--method", "crown", "--eps", "2"], "did you mean 2/255"),
    "attack unknown": (["--attack", "pdg"], "pgd"),
    "attack of another norm": (["--attack", "deepfool:norm=linf"], "--norm"),
    "attack off the ball": (["--attack", "spatial"], "about a ball"),
    "model unknown": (["--model", "lenet"], "lenet-mnist"),
    "out empty": (["--out", ""], "--out is empty"),
    "bounds of a large network": (["--model", "efficientnet-lite0", "--method", "crown"], "no bounds are known"),
}


@pytest.mark.parametrize(("words", "says"), BAD.values(), ids=BAD)
def test_bad_words_are_one_line(cli: Cli, words: list[str], says: str) -> None:
    assert says in cli.refuses(*DIGITS, "--out", "refused", *words)
    assert not (cli.folder / "refused").exists()


def test_smoothing_writes_a_report_that_reads_the_same_in_other_batches(cli: Cli) -> None:
    words = (*DIGITS, "--sigma", "0.5", "--draws", "200", "--eps", "0.25,0.5", "--attack", "pgd:steps=5")
    done = cli(*words, "--out", "smooth")
    assert done.status == 0, done
    assert "certified by Randomised smoothing (sigma 0.5, draws 200, select 100, alpha 0.001, eot 16):" in done.stdout
    assert "undecided" in done.stdout
    record = reports.read(cli.folder / "smooth" / "report.json")
    assert record.norm == "l2"
    assert record.model.title == "LeNet-5, MNIST, noise-trained, smoothed with σ = 0.5"
    assert record.certified is not None
    assert record.certified.curve[0].count >= 2
    assert not record.certified.exact
    assert record.clean.count == sum(radius is not None for radius in record.certified.radii)
    for point, rate in zip(record.worst_case, record.certified.curve, strict=True):
        assert rate.count <= point.robust.count
    assert "are certain to be right" in (cli.folder / "smooth" / "index.html").read_text("utf-8")
    assert record.verdict == "trust"
    assert "can these numbers be trusted? trust" in done.stdout
    cli(*words, "--out", "again", "--batch-size", "48")
    again = reports.read(cli.folder / "again" / "report.json")
    assert again.certified == record.certified
    assert again.samples == record.samples


def test_bounds_write_a_report_with_pictures(cli: Cli) -> None:
    words = ("--model", "lenet-mnist-pgd", "--method", "crown", "--eps", "0.01,0.3", "--attack", "fgsm")
    done = cli(*DIGITS, *words, "--out", "bounds")
    assert done.status == 0, done
    assert "certified by CROWN (halvings 3):" in done.stdout
    record = reports.read(cli.folder / "bounds" / "report.json")
    assert record.certified is not None
    assert record.certified.exact
    assert record.certified.curve[0].count >= 3
    assert any(0 < (radius or 0) < 0.3 for radius in record.certified.radii)
    shutil.copytree(cli.folder / "bounds", cli.folder / "drawn")
    (cli.folder / "drawn" / "index.html").unlink()
    assert cli("report", Path("drawn") / "report.json").status == 0
    same = [(cli.folder / name / "index.html").read_text("utf-8") for name in ("bounds", "drawn")]
    assert same[0] == same[1]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGINT, ("--sigma", "0.5", "--draws", "100", "--batch-size", "32")),
        (signal.SIGTERM, ("--method", "ibp", "--batch-size", "2")),
    ],
    ids=["smoothing", "ibp"],
)
def test_a_signal_leaves_what_was_finished(
    cli: Cli, tmp_path: Path, number: signal.Signals, words: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    attacks = ("--attack", "fgsm", "--attack", "pgd:steps=1000000,early_stop=false")
    process = cli.start(*DIGITS, *words, "--eps", "0.05,0.1", *attacks, "--out", out)
    wait_for(process, "PGD, 2 of 2 attacks")
    process.send_signal(number)
    record = interrupted(process, out)
    assert record.verdict == "not checked"
    assert [attack.judged for attack in record.attacks] == [2, 0]
    assert record.certified is not None
    assert len(record.certified.radii) == 2


def test_a_signal_before_anything_is_certified_keeps_the_old_report(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "index.html").write_text("older")
    before = snapshot(out)
    process = cli.start(*DIGITS, "--draws", "10000000", "--out", out)
    wait_for(process, "certifying by Randomised smoothing")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=600)
    assert process.returncode == 3, stderr
    assert [line for line in stderr.splitlines() if line and not line.startswith("[")] == ["robustkit: interrupted"]
    assert not stdout
    assert snapshot(out) == before
