"""`robustkit audit` in processes of its own: gates and exit statuses, reports replaced whole, signals, output."""

from __future__ import annotations

import signal
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from audit_tools import QUICK, Cli, interrupted, lenet, snapshot, wait_for

from robustkit import load_data, reports


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
    assert "FAILED  no check of the evaluation fails: 2 of" in strict.stdout
    assert "failed: chance, labels-permuted" in strict.stdout
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
    _, stderr = process.communicate(timeout=600)
    if process.returncode == 3 and "what was finished" not in stderr:
        assert "robustkit: interrupted\n" in stderr
        assert snapshot(older) == before
    assert not [path for path in older.iterdir() if path.name.startswith(".")]


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
    stdout, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    assert "clean accuracy" in stdout


def test_a_long_path_is_printed_in_one_piece(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / ("very-long-name-" * 8) / ("another long name " * 5).strip()
    done = cli(*QUICK, "--out", out)
    assert f"report: {out / 'index.html'}" in done.stdout.splitlines()


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
