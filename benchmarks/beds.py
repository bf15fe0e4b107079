"""What the benchmarks of speed run on: three models, by name, and how long something takes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from robustkit import load_model
from robustkit.models.load import LoadedModel

CASES = {"lenet-mnist": 256, "efficientnet-lite0": 16, "resnet18": 16}  # batch
RANDOM = {"resnet18"}  # of random weights: its own would have to be fetched


def model_of(name: str, precision: str = "auto", prepare: bool = True) -> LoadedModel:
    """A model as `robustkit audit` would have it."""
    if name not in RANDOM:
        return load_model(name, device="cpu", precision=precision, prepare=prepare)
    from torchvision import models

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.pt"
        torch.save(getattr(models, name)().state_dict(), path)
        return load_model(path, arch=name, device="cpu", precision=precision, prepare=prepare)


def noise(model: LoadedModel, rows: int) -> Tensor:
    """Pictures that a model takes, of random pixels."""
    shape = (model.preprocess.channels, *model.preprocess.size)
    return torch.rand(rows, *shape, generator=torch.Generator().manual_seed(0))


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def alternating(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least seconds of each in `rounds` rounds of all of them in turn: a busy moment of the machine hits all."""
    taken = [{name: seconds(run) for name, run in runs.items()} for _ in range(rounds)]
    return {name: min(each[name] for each in taken) for name in runs}
