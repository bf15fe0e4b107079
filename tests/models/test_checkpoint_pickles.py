"""Objects that checkpoints hold beside the weights: none of their code is run."""

from __future__ import annotations

import argparse
import collections
import datetime
import os
import pathlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from audit_tools import Cli
from loader_fixtures import Refuses

from robustkit.errors import ModelError
from robustkit.models.load import load_model
from robustkit.zoo.lenet import LeNet5


def beside() -> dict[str, Any]:
    """What training scripts save beside the weights."""
    from omegaconf import OmegaConf

    tree = {"lr": 0.1, "layers": [64, None, True], "name": "${lr}", "folder": pathlib.Path("runs"), "raw": b"x"}
    return {
        "args": argparse.Namespace(lr=0.1, out=pathlib.Path("runs"), best=np.float64(0.3)),
        "best_acc": np.float32(71.5),
        "epoch": np.int64(3),
        "history": np.arange(4.0),
        "config": OmegaConf.create(tree),
        "meters": collections.defaultdict(list, {"loss": [1.0]}),
        "recent": collections.deque([1, 2], maxlen=3),
        "date": datetime.datetime(2026, 1, 1),
        "rng": (np.random.get_state(), np.random.default_rng(0), torch.get_rng_state()),
    }


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_beside_the_weights_are_passed_over(zipped: bool, tmp_path: Path) -> None:
    net, x = LeNet5().eval(), torch.rand(2, 1, 28, 28)
    content = {"state_dict": net.state_dict(), **beside()}
    torch.save(content, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    model = load_model(tmp_path / "net.pth", arch="lenet5", device="cpu")
    torch.testing.assert_close(model.logits(x), net(x).detach())
    torch.save(argparse.Namespace(**content), tmp_path / "object.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match="holds an object, not a state dict"):
        load_model(tmp_path / "object.pth", arch="lenet5")


class Runs:
    """Unpickling it makes a file called pwned."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call = call, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (Runs(os.system, "touch pwned"), r"posix\.system"),
        (Runs(eval, "open('pwned', 'w')"), "eval"),
        (Runs(Path.touch, Path("pwned")), "getattr"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_an_object_that_runs_code_is_refused_and_does_not(
    call: Runs, named: str, zipped: bool, tmp_path: Path, monkeypatch: Any, refuses: Refuses
) -> None:
    """Also where it hides in an object that is passed over."""
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": LeNet5().state_dict(), **beside(), "args": argparse.Namespace(lr=call)}
    torch.save(content, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    with refuses(ModelError, rf"more than weights \({named}\).*run code"):
        load_model(tmp_path / "net.pth", arch="lenet5")
    assert not Path("pwned").exists()


def test_the_allow_list_is_not_left_behind(tmp_path: Path) -> None:
    before = torch.serialization.get_safe_globals()
    torch.save({"model": LeNet5().state_dict(), "args": argparse.Namespace()}, tmp_path / "net.pth")
    load_model(tmp_path / "net.pth", arch="lenet5", device="cpu")
    assert torch.serialization.get_safe_globals() == before


def test_on_the_command_line_it_is_one_line(cli: Cli) -> None:
    torch.save({"model": LeNet5().state_dict(), "hook": Runs(os.system, "touch pwned")}, cli.folder / "evil.pth")
    done = cli("doctor", "evil.pth", "mnist-samples", "--arch", "lenet5", "--device", "cpu")
    assert done.status == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "posix.system" in done.stderr
    assert not (cli.folder / "pwned").exists()


def test_weights_are_chosen_and_said_on_the_command_line(cli: Cli) -> None:
    torch.manual_seed(0)
    content = {"model": LeNet5().state_dict(), "model_ema": LeNet5().state_dict()}
    torch.save(content, cli.folder / "both.pth")
    options = ("--arch", "lenet5", "--device", "cpu", "--samples", "2")
    said = {
        choice: cli("doctor", "both.pth", "mnist-samples", *options, *(("--weights", choice) if choice else ())).stderr
        for choice in ("", "raw", "ema")
    }
    averaged = "both.pth: averaged weights (EMA or SWA) from model_ema; --weights raw takes those from model\n"
    assert (said[""], said["ema"]) == (averaged, averaged)
    assert said["raw"] == "both.pth: raw weights from model, the averaged ones (model_ema) left out\n"
    done = cli("doctor", "both.pth", "mnist-samples", *options, "--weights", "none")
    assert (done.status, len(done.stderr.strip().splitlines())) == (2, 1)
    attack = ["--attack", "fgsm", "--eps", "0.1", "--out", "report", "--weights", "raw"]
    audited = cli(*["audit", "--model", "both.pth", "--data", "mnist-samples", *options, *attack])
    assert audited.status == 0, audited
    report = cli.folder / "report"
    for file in ("report.json", "index.html"):
        assert "raw weights from model, the averaged ones (model_ema) left out" in (report / file).read_text("utf-8")


def test_another_protocol_is_named(tmp_path: Path, refuses: Refuses) -> None:
    torch.save(LeNet5().state_dict(), tmp_path / "net.pth", pickle_protocol=4)
    with refuses(ModelError, "another protocol than torch.save's own.*without pickle_protocol"):
        load_model(tmp_path / "net.pth", arch="lenet5")
