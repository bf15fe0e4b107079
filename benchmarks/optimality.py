"""How close each minimum-norm attack comes to the best that is known: ours beside foolbox's, torchattacks' and ART's.

Every attack is run on the same digits that the model is right about; what it returns is judged by the model again,
clipped to the box and measured anew. Optimality is AttackBench's (`robustkit.auditing.optimality`), per model and norm,
against the per-sample best of all attacks in the table. Forwards and backwards are per sample, seconds for all of them.
The iterated attacks get 100 gradients, those that search a constant up to 9 times as many; a row with fewer gradients
ended its searches early.

    python benchmarks/optimality.py --samples 100

A package that is not installed is skipped with a line.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from adaptors import Counted, Setting, art_peers, points_of
from torch import Tensor, nn

from robustkit import load_data, load_model
from robustkit.attacks import Classifier
from robustkit.attacks.geometry import norms
from robustkit.attacks.registry import ATTACKS
from robustkit.auditing.optimality import optimality
from robustkit.models.load import LoadedModel

STEPS, SEARCHES = 100, 9
NEAREST = 10  # classes that ART's DeepFool looks at


Run = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass
class Entry:
    name: str
    package: str
    norm: str
    run: Run


@dataclass
class Row:
    entry: Entry
    distances: np.ndarray  # [N], inf where the sample was not broken
    forwards: float
    backwards: float
    seconds: float


def ours() -> Iterator[Entry]:
    for name, kind in ATTACKS.items():
        if kind.minimum_norm and kind.access == "gradient":
            for norm in kind.norms:
                attack = kind(norm=norm)
                yield Entry(name, "robustkit", norm, lambda net, x, y, attack=attack: attack(net, x, y))


def foolboxes() -> Iterator[Entry]:
    foolbox = importlib.import_module("foolbox")
    attacks = foolbox.attacks
    searched = {"binary_search_steps": SEARCHES, "steps": STEPS}
    listed = [
        ("cw", "l2", attacks.L2CarliniWagnerAttack(**searched)),
        ("cw, step .1", "l2", attacks.L2CarliniWagnerAttack(**searched, stepsize=0.1)),
        ("ddn", "l2", attacks.DDNAttack(steps=STEPS)),
        ("fmn", "linf", attacks.LInfFMNAttack(steps=STEPS)),
        ("fmn", "l2", attacks.L2FMNAttack(steps=STEPS)),
        ("fmn", "l1", attacks.L1FMNAttack(steps=STEPS)),
        ("ead", "l1", attacks.EADAttack(**searched, decision_rule="L1")),
        ("deepfool", "l2", attacks.L2DeepFoolAttack()),
        ("deepfool", "linf", attacks.LinfDeepFoolAttack()),
    ]
    for name, norm, attack in listed:

        def run(net: nn.Module, x: Tensor, y: Tensor, attack: object = attack) -> Tensor:
            found: Tensor = attack(foolbox.PyTorchModel(net, bounds=(0, 1)), x, y, epsilons=None)[0]  # type: ignore[operator]
            return found

        yield Entry(name, "foolbox", norm, run)


def torchattackses() -> Iterator[Entry]:
    package = importlib.import_module("torchattacks")
    listed: list[tuple[str, str, Callable[[nn.Module], Callable[[Tensor, Tensor], Tensor]]]] = [
        ("cw", "l2", lambda net: package.CW(net, c=1, steps=STEPS * SEARCHES, lr=0.01)),
        ("ead", "l1", lambda net: package.EADL1(net, max_iterations=STEPS, binary_search_steps=SEARCHES)),
        ("deepfool", "l2", lambda net: package.DeepFool(net)),
    ]
    for name, norm, make in listed:
        yield Entry(name, "torchattacks", norm, lambda net, x, y, make=make: make(net)(x, y))


def arts(classes: int) -> Iterator[Entry]:
    importlib.import_module("art")
    for norm in norms.NORMS:
        setting = Setting(norm, eps=1.0, steps=STEPS, queries=0, classes=min(classes, NEAREST))
        for name, make in art_peers(setting).items():
            if ATTACKS[name].minimum_norm and ATTACKS[name].access == "gradient":
                yield Entry(name, "ART", norm, partial(points_of, "art", make, classes=classes))


def entries(classes: int) -> list[Entry]:
    found = list(ours())
    peers: dict[str, Callable[[], Iterator[Entry]]] = {
        "foolbox": foolboxes,
        "torchattacks": torchattackses,
        "adversarial-robustness-toolbox": partial(arts, classes),
    }
    for package, listed in peers.items():
        try:
            found += listed()
        except ImportError:
            print(f"{package} is not installed: left out (pip install {package})", file=sys.stderr)
    return found


def measured(model: Classifier, x: Tensor, y: Tensor, entry: Entry) -> Row:
    net = Counted(model)
    started = time.perf_counter()
    adv = entry.run(net, x.clone(), y).detach().clamp(0, 1)
    seconds = time.perf_counter() - started
    size = norms.get(entry.norm).size((adv - x).double())
    distances = torch.where(model.logits(adv).argmax(1) != y, size, torch.inf).numpy()
    row = Row(entry, distances, net.forwards / len(x), net.backwards / len(x), seconds)
    print(
        f"{entry.package} {entry.name} {entry.norm}: broken {np.isfinite(distances).mean():.1%}, "
        f"median {np.median(distances):.4f}, {row.backwards:.0f} gradients, {seconds:.1f} s",
        file=sys.stderr,
        flush=True,
    )
    return row


def table(rows: list[Row]) -> None:
    """One norm, the best first."""
    each = {f"{row.entry.package} {row.entry.name}": row for row in rows}
    found = optimality({name: row.distances for name, row in each.items()})
    print("| attack | package | success | median distance | optimality | forwards | backwards | seconds |")
    print("|-|-|-|-|-|-|-|-|")
    for name, row in sorted(each.items(), key=lambda pair: -(found[pair[0]] or 0)):
        figure = found[name]
        print(
            f"| {row.entry.name} | {row.entry.package} | {np.isfinite(row.distances).mean():.1%} "
            f"| {np.median(row.distances):.4f} | {'–' if figure is None else f'{figure:.4f}'} "
            f"| {row.forwards:.0f} | {row.backwards:.0f} | {row.seconds:.1f} |"
        )


def bed(name: str, samples: int, photographs: int) -> tuple[LoadedModel, Tensor, Tensor]:
    model = load_model(name, device="cpu", precision="fp32")
    data, count = ("mnist-samples", samples) if name.startswith("lenet") else ("imagenet-samples", photographs)
    batch = next(load_data(data).batches(model, count, count))
    right = model.logits(batch.x).argmax(1) == batch.y
    return model, batch.x[right], batch.y[right]


def main() -> None:
    parser = argparse.ArgumentParser(description="Optimality of minimum-norm attacks, side by side.")
    parser.add_argument("--samples", type=int, default=100, help="digits for each of the two LeNets")
    parser.add_argument(
        "--photographs", type=int, default=0, help="photographs for EfficientNet-Lite0; 0 leaves it out"
    )
    parser.add_argument("--norm", choices=list(norms.NORMS), help="one norm alone")
    parser.add_argument("--only", help="attacks by name, of whichever package, with commas between: cw,ddn,fmn")
    parser.add_argument("--model", action="append", help="one model alone; may be given more than once")
    options = parser.parse_args()
    models = options.model or [
        "lenet-mnist",
        "lenet-mnist-pgd",
        *(["efficientnet-lite0"] if options.photographs else []),
    ]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)
    names = options.only.split(",") if options.only else []
    for name in models:
        model, x, y = bed(name, options.samples, options.photographs)
        listed = [entry for entry in entries(model.num_classes) if options.norm in (None, entry.norm)]
        if names:
            listed = [entry for entry in listed if entry.name.split(",")[0] in names]
            if not listed:
                parser.error(f"no attack called {options.only}")
        rows = [measured(model, x, y, entry) for entry in listed]
        for norm in dict.fromkeys(entry.norm for entry in listed):
            print(f"\n{name}, {norms.get(norm).symbol}, {len(x)} samples\n")
            table([row for row in rows if row.entry.norm == norm])
            sys.stdout.flush()


if __name__ == "__main__":
    main()
