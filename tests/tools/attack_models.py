"""Small models, and exact solutions in double precision to hold the attacks against."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from robustkit.attacks import (
    APGD,
    BIM,
    DDN,
    EAD,
    FAB,
    FGSM,
    FMN,
    LBFGS,
    MIFGSM,
    NES,
    PGD,
    Attack,
    AutoAttack,
    Boundary,
    CarliniWagner,
    Corruption,
    DeepFool,
    GaussianNoise,
    HopSkipJump,
    Patch,
    SimBA,
    Spatial,
    Square,
    UniformNoise,
    Universal,
)

NORMS = ("linf", "l2", "l1")
SHAPES = ((16,), (1, 4, 4), (3, 5, 7))


def every_attack(eps: float = 0.1, norms: tuple[str, ...] = NORMS, **common: int | bool) -> list[Attack]:
    """All attacks in all norms; `common` goes to the iterated ones."""
    budgeted = [kind(norm=norm, eps=eps, **common) for kind in (BIM, PGD, MIFGSM, APGD) for norm in norms]
    smallest = [kind(norm=norm, steps=8) for kind in (DeepFool, FAB) for norm in norms]
    smallest += [FMN(norm=norm, steps=8) for norm in norms]
    penalised = [kind(steps=8, searches=3) for kind in (LBFGS, CarliniWagner, EAD)]
    budgeted += [Square(norm=norm, eps=eps, queries=20) for norm in norms]
    budgeted += [kind(norm=norm, eps=eps, queries=20) for kind in (SimBA, NES) for norm in norms if norm != "l1"]
    smallest += [HopSkipJump(queries=40), HopSkipJump(norm="linf", queries=40), Boundary(queries=40)]
    budgeted += [AutoAttack(norm=norm, eps=eps, steps=5, queries=10) for norm in norms]
    budgeted += [kind(norm=norm, eps=eps, draws=3) for kind in (GaussianNoise, UniformNoise) for norm in norms]
    budgeted += [Universal(norm=norm, eps=eps, epochs=2) for norm in norms]
    free = [Patch(epochs=2), Spatial(angles=3, shifts=3), Corruption("gaussian_noise+fog+jpeg_compression", severity=3)]
    return [*(FGSM(norm=norm, eps=eps) for norm in norms), *budgeted, *smallest, *penalised, DDN(steps=8), *free]


def label(attack: Attack) -> str:
    return f"{attack.name}-{attack.norm}"


class Trained(NamedTuple):
    net: nn.Module
    x: Tensor  # [64, 1, 8, 8]
    y: Tensor


def conv_net(classes: int = 5, channels: int = 1, size: int = 8, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(8 * (size // 2) ** 2, classes),
    )


def train_small_net() -> Trained:
    """Five noisy patterns, many pixels black or white, told apart by a conv net."""
    net = conv_net()
    patterns = torch.rand(5, 1, 8, 8)

    def draw(count: int) -> tuple[Tensor, Tensor]:
        y = torch.randint(0, 5, (count,))
        return (patterns[y] + 0.35 * torch.randn(count, 1, 8, 8)).clamp(0, 1), y

    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(120):
        x, y = draw(128)
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    optimiser.zero_grad()
    return Trained(net.eval(), *draw(64))


def wrong(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x).argmax(1) != y


def linear(weight: Tensor, bias: Tensor) -> nn.Sequential:
    """Logits weight @ x + bias."""
    layer = nn.Linear(weight.shape[1], weight.shape[0]).to(weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return nn.Sequential(nn.Flatten(), layer)


class Plane(NamedTuple):
    """Two classes; the margin of class 0 is w·x + b, the same for all rows."""

    net: nn.Module
    x: Tensor
    y: Tensor
    w: Tensor
    margin: float


def plane(
    shape: tuple[int, ...], rows: int, dtype: torch.dtype, margin: float, *, middle: bool, seed: int = 0
) -> Plane:
    """Rows that lie `margin` from the boundary, near the middle of the box or all over it, corners included."""
    torch.manual_seed(seed)
    n = int(np.prod(shape))
    w = torch.randn(n, dtype=torch.float64)
    x = 0.45 + 0.1 * torch.rand(rows, n, dtype=torch.float64)
    if not middle:
        x = (1.6 * torch.rand(rows, n, dtype=torch.float64) - 0.3).clamp(0, 1)
    for _ in range(50):  # shift onto the plane of that margin, stay in the box
        x = (x + (margin - x @ w)[:, None] * w / (w @ w)).clamp(0, 1)
    x = x.to(dtype)
    net = linear(torch.stack([w, -w]).to(dtype) / 2, torch.zeros(2, dtype=dtype))
    return Plane(net, x.view(rows, *shape), torch.zeros(rows, dtype=torch.int64), w, margin)


def dual(w: Tensor, norm: str) -> float:
    return float(torch.linalg.vector_norm(w.double(), {"linf": 1, "l2": 2, "l1": float("inf")}[norm]))


def best_gain(g: np.ndarray, eps: float, low: np.ndarray, high: np.ndarray, norm: str) -> float:
    """max g·r over |r| <= eps, low <= r <= high: a linear programme, or a bisection in l2."""
    if norm == "linf":
        bounds = np.stack([np.maximum(low, -eps), np.minimum(high, eps)], axis=1)
        return -linprog(-g, bounds=bounds).fun
    if norm == "l1":  # r = p - q, both at least 0
        bounds = np.concatenate([np.stack([np.zeros_like(high), high], 1), np.stack([np.zeros_like(low), -low], 1)])
        return -linprog(np.concatenate([-g, g]), A_ub=np.ones((1, 2 * len(g))), b_ub=[eps], bounds=bounds).fun
    return float(g @ grow(g, low, high, lambda r: np.linalg.norm(r) - eps))


def grow(g: np.ndarray, low: np.ndarray, high: np.ndarray, over: object) -> np.ndarray:
    """clip(t·g, low, high) with the largest t at which over(r) <= 0, by bisection in log t."""
    scale = np.abs(g).max()
    if scale == 0:
        return np.zeros_like(g)
    unit, least, most = g / scale, -60.0, 360.0
    for _ in range(200):
        middle = (least + most) / 2
        least, most = (middle, most) if over(np.clip(np.exp(middle) * unit, low, high)) <= 0 else (least, middle)
    return np.clip(np.exp(least) * unit, low, high)


def nearest(r: np.ndarray, eps: float, low: np.ndarray, high: np.ndarray, norm: str) -> np.ndarray:
    """The Euclidean projection onto ball and box, from its optimality conditions, by bisection."""
    if norm == "linf":
        return np.clip(r, np.maximum(low, -eps), np.minimum(high, eps))

    def at(multiplier: float) -> np.ndarray:
        shrunk = r / (1 + multiplier) if norm == "l2" else np.sign(r) * np.maximum(np.abs(r) - multiplier, 0)
        return np.clip(shrunk, low, high)

    def size(p: np.ndarray) -> float:
        return np.linalg.norm(p) if norm == "l2" else np.abs(p).sum()

    if size(at(0.0)) <= eps:
        return at(0.0)
    least, most = 0.0, max(1.0, 2 * np.linalg.norm(r) / eps)
    for _ in range(200):
        middle = (least + most) / 2
        least, most = (middle, most) if size(at(middle)) > eps else (least, middle)
    return at(most)


class Scaled(nn.Module):
    """Logits times a constant."""

    def __init__(self, net: nn.Module, scale: float) -> None:
        super().__init__()
        self.net, self.scale = net, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) * self.scale


class Counting(nn.Module):
    """Counts the samples that go through it, and those that a gradient comes back to."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.forwards, self.backwards = net, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        out = self.net(x)
        if out.requires_grad:
            out.register_hook(self._back)
        return out

    def _back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)
