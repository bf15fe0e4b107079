"""SimBA beside the paper's plain loop, and NES beside the optimum of a linear model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attack_models import Trained, dual, plane
from scipy.fft import idctn
from torch import Tensor, nn

from robustkit.attacks import NES, SimBA
from robustkit.attacks.core.random_draws import row_generator


def plain_simba(net: nn.Module, x: Tensor, y: int, queries: int, step: float, seed: int, sample: int) -> Tensor:
    """Algorithm 1 of Guo et al. 2019 on one picture, in the pixel basis, by the margin, in our order of them."""

    def margin(point: Tensor) -> float:
        with torch.no_grad():
            logits = net(point[None])[0]
        return float(logits[y] - torch.cat([logits[:y], logits[y + 1 :]]).max())

    point, least, left = x.clone(), margin(x), queries - 1
    for pixel in torch.rand(x.numel(), generator=row_generator(seed, sample, 0)).argsort().tolist():
        for sign in (1, -1):
            if left == 0:
                return point
            tried = point.clone()
            tried.view(-1)[pixel] += sign * step
            tried.clamp_(0, 1)
            left -= 1
            if (value := margin(tried)) < least:
                point, least = tried, value
                break
    return point


def test_simba_is_the_papers_loop(trained: Trained) -> None:
    net, x, y = trained.net.double(), trained.x[:6].double(), trained.y[:6]
    try:
        attack = SimBA(eps=50.0, queries=60, basis="pixel", step_size=0.1, loss="margin", early_stop=False)
        ours = attack(net, x, y, seed=3)
        theirs = [plain_simba(net, x[i], int(y[i]), 60, 0.1, 3, i) for i in range(6)]
    finally:
        net.float()
    torch.testing.assert_close(ours, torch.stack(theirs), atol=1e-12, rtol=0)


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 8, 8), (12,)])
def test_the_waves_are_scipys_and_the_lowest_come_first(shape: tuple[int, ...]) -> None:
    """The first step on a model that any change pleases is a wave of low frequency, one step long."""
    x, seen = torch.full((5, *shape), 0.5, dtype=torch.float64), []

    class Rising(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            seen.append(z.clone())
            moved = (z - x[: len(z)]).flatten(1).abs().sum(1)
            return torch.stack([1 - moved, torch.full_like(moved, -5.0)], 1)

    SimBA(eps=1.0, queries=2, step_size=0.2)(Rising(), x, torch.zeros(5, dtype=torch.int64))
    for move in (seen[1] - x) / 0.2:
        coefficients = np.zeros((1, 1, *shape)[-3:])
        whole = move.reshape(coefficients.shape).numpy()
        channel = int(np.abs(whole).sum((1, 2)).argmax())
        height, width = whole.shape[1:]
        found = [
            (u, v)
            for u in range(height)
            for v in range(width)
            if np.allclose(idctn(_one(height, width, u, v), norm="ortho"), whole[channel], atol=1e-9)
        ]
        assert len(found) == 1
        assert max(found[0][0] / height, found[0][1] / width) < 1 / 8


def _one(height: int, width: int, u: int, v: int) -> np.ndarray:
    grid = np.zeros((height, width))
    grid[u, v] = 1
    return grid


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("middle", [True, False])
def test_nes_comes_near_the_optimum_of_a_linear_model(norm: str, middle: bool) -> None:
    p = plane((3, 5, 7), 5, torch.float64, margin=2.0, middle=middle)
    attack = NES(norm=norm, eps={"linf": 0.02, "l2": 0.1}[norm], queries=1500, early_stop=False)
    adv = attack(p.net, p.x, p.y)
    gain = ((p.x - adv).flatten(1) @ p.w) / (attack.eps * dual(p.w, norm))
    assert float(gain.max()) <= 1 + 1e-6
    assert float(gain.min()) >= (0.85 if middle else 0.5)  # in the corners the box takes its part
