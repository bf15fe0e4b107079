"""How the time of an audit grows with samples, steps, the size of the pictures and the number of classes.

One of the four is varied at a time. Early stopping is off, so that every step has all samples. The network is a small
one of convolutions with random weights: what is measured is the growth; on a larger network the figures differ, and
their ratios little.

    python benchmarks/scaling.py --out docs

Prints a table and draws `scaling.svg`, in about three minutes on two cores. An exponent is the slope of the straight
line through the logarithms: 1 is in proportion, 0 is no growth. Pictures grow by their area, which is side squared.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from beds import seconds
from torch import nn

from robustkit import audit
from robustkit.attacks import PGD
from robustkit.data.load import tensor_data
from robustkit.data.pictures import Preprocess
from robustkit.models.load import LoadedModel, ModelSource
from robustkit.models.memory import keep_freed


@dataclass(frozen=True)
class Size:
    """What an audit is as large as."""

    samples: int = 128
    steps: int = 10
    side: int = 32
    classes: int = 10


AXES: dict[str, tuple[int, ...]] = {
    "samples": (64, 128, 256, 512, 1024),
    "steps": (5, 10, 20, 40, 80),
    "side": (16, 32, 64, 128),
    "classes": (10, 100, 1000, 10000),
}
TITLES = {"samples": "samples", "steps": "steps", "side": "side of the pictures, pixels", "classes": "classes"}


def taken(size: Size, rounds: int) -> float:
    """Seconds of an audit of that size, the least of several."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, size.classes),
    ).eval()
    pictures = Preprocess(size=(size.side, size.side), channels=3)
    model = LoadedModel("small", ModelSource(net, "small", pictures, classes=size.classes))
    x = torch.rand(size.samples, 3, size.side, size.side)
    data = tensor_data(x, model.logits(x).argmax(1))
    attack = PGD(steps=size.steps, early_stop=False)
    return min(seconds(lambda: audit(model, data, [attack], [4 / 255])) for _ in range(rounds))


def exponent(places: list[int], times: list[float]) -> float:
    return float(np.polyfit(np.log(places), np.log(times), 1)[0])


def plot(measured: dict[str, tuple[list[int], list[float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "scaling", "font.size": 10, "svg.fonttype": "none"})
    figure, panels = plt.subplots(1, len(measured), figsize=(3.1 * len(measured), 2.9), layout="constrained")
    for axes, (name, (places, times)) in zip(panels, measured.items(), strict=True):
        axes.plot(places, times, "o-", color="#1f5fa8", label="measured")
        # In proportion, or for pictures with their area, from the first point.
        power = 2 if name == "side" else 1
        if name != "classes":
            line = [times[0] * (place / places[0]) ** power for place in places]
            axes.plot(places, line, "--", color="#777777", label="with the area" if power == 2 else "in proportion")
            axes.legend(frameon=False, fontsize=9)
        else:
            axes.set_ylim(0.1 * min(times), 10 * max(times))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(places, [f"{place:,}" for place in places])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.set_xlabel(TITLES[name])
    panels[0].set_ylabel("seconds of an audit")
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder of the plot")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--points", type=int, default=5, help="of each axis, the smallest first; at least 2")
    given = parser.parse_args()
    keep_freed()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} cores")
    print(f"{Size()} where not varied, best of {given.rounds}\n")
    taken(replace(Size(), samples=16), 1)  # warms up
    measured = {}
    print("| varied | from – to | seconds | exponent |")
    print("|-|-|-|-|")
    for name, values in AXES.items():
        places = list(values[: max(2, given.points)])
        times = [taken(replace(Size(), **{name: place}), given.rounds) for place in places]
        measured[name] = places, times
        row = " ".join(f"{time:.2f}" for time in times)
        span = ", ".join(f"{place:,}" for place in places)
        print(f"| {TITLES[name]} | {span} | {row} | {exponent(places, times):.2f} |", flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    plot(measured, given.out / "scaling.svg")


if __name__ == "__main__":
    main()
