"""The doctor: the preflight checks on a model and data by name, for a person and for a script."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from museum import digits, honest
from torch import nn

from robustkit import load_data, load_model
from robustkit.checks import PREFLIGHT
from robustkit.checks.doctor import doctor
from robustkit.cli import main
from robustkit.cli.commands.doctor import exit_status
from robustkit.errors import ConfigError, DataError, ModelError


def run(*words: str) -> int | str | None:
    with pytest.raises(SystemExit) as left:
        main(["doctor", *words])
    return left.value.code


def test_an_honest_model_passes_and_the_status_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("lenet-mnist", "--samples", "20", "--device", "cpu") == 0
    text = capsys.readouterr().out
    assert all(check.id in text for check in PREFLIGHT)
    assert f"{len(PREFLIGHT)} checks: 0 failed, 0 warned, {len(PREFLIGHT)} passed, 0 n/a" in text


def test_a_failed_check_is_named_with_its_remedy_and_the_status_is_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = digits(40)
    file = tmp_path / "shifted.npz"
    np.savez(file, x=x.numpy(), y=((y + 1) % 10).numpy())
    assert run("lenet-mnist", str(file), "--device", "cpu") == 1
    text = capsys.readouterr().out
    assert "FAIL  labels-permuted: 0 % are right" in text
    assert "Compare the order" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("no-such-model",), "there is no model called"),
        (("lenet-mnist", "no-such-data"), "there is no data called"),
        (("lenet-mnist", "imagenet-samples"), "classes"),
        (("lenet-mnist", "--samples", "0"), "samples"),
    ],
)
def test_bad_input_is_one_line_and_the_status_2(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert len(told.err.splitlines()) == 1
    assert not told.out


def test_names_tensors_and_bare_modules_are_taken_alike() -> None:
    model = load_model("lenet-mnist", device="cpu", precision="fp32")
    by_name = doctor(model, load_data("mnist-samples"), samples=20)
    by_hand = doctor(honest("lenet-mnist"), digits(20), samples=20)
    assert by_name == by_hand
    assert exit_status(by_name) == 0


def test_of_sorted_tensors_samples_all_along_are_taken() -> None:
    x, y = digits(100)
    order = torch.argsort(y)
    found = {result.id: result for result in doctor(honest("lenet-mnist"), (x[order], y[order].roll(50)), samples=30)}
    assert found["labels-permuted"].status == "fail"


def test_what_does_not_fit_is_refused() -> None:
    x, y = digits(16)
    net = honest("lenet-mnist")
    for samples in (0, True, 1.5):
        with pytest.raises(ConfigError, match="samples"):
            doctor(net, (x, y), samples=samples)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="seed"):
        doctor(net, (x, y), seed=-1)
    with pytest.raises(ConfigError, match="pair"):
        doctor(net, x)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="load_model"):
        doctor(net, load_data("mnist-samples"))
    with pytest.raises(ConfigError, match="wraps"):
        doctor(3, (x, y))  # type: ignore[arg-type]
    with pytest.raises(DataError):
        doctor(net, (x * 255, y))
    with pytest.raises(ModelError, match="class 11"):
        doctor(net, (x, y + 2))
    with pytest.raises(ModelError, match="does not take pictures"):
        doctor(nn.Sequential(nn.Flatten(), nn.Linear(3, 2)), (x, y))
