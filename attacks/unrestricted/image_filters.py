"""Blurs, zooms and clouds on one picture [C, H, W], for the corruptions."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn import functional


@functools.lru_cache(maxsize=64)
def _smear(n: int, deviation: float, truncate: float) -> Tensor:
    """Gaussian blur of n values as a matrix, mirrored at the ends however far it reaches."""
    reach = int(truncate * deviation + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-offsets.double().square() / (2 * max(deviation, 1e-6) ** 2))
    places = (torch.arange(n)[:, None] + offsets) % (2 * n)
    places = torch.minimum(places, 2 * n - 1 - places)
    return torch.zeros(n, n, dtype=torch.float64).scatter_add_(1, places, (weights / weights.sum()).expand(n, -1))


def blurred(x: Tensor, deviation: float, truncate: float = 4.0) -> Tensor:
    """Gaussian blur of [C, H, W], both ways."""
    height, width = x.shape[1:]
    return _smear(height, deviation, truncate).to(x) @ x @ _smear(width, deviation, truncate).to(x).T


def trailed(x: Tensor, radius: float, deviation: float, degrees: float) -> Tensor:
    """Blur to one side along a line, as of something that moves."""
    length = round(2 * radius)
    weights = [math.exp(-(i**2) / (2 * deviation**2)) for i in range(length + 1)]
    padded = functional.pad(x[None], [length] * 4, mode="replicate")[0]
    angle, out = math.radians(degrees), torch.zeros_like(x)
    for i, weight in enumerate(weights):
        down, right = length + round(i * math.sin(angle)), length + round(i * math.cos(angle))
        out += weight / sum(weights) * padded[:, down : down + x.shape[1], right : right + x.shape[2]]
    return out


def zoomed(x: Tensor, *zooms: float) -> Tensor:
    """The middle of the picture, enlarged to its size by each of the factors in turn; their mean."""
    theta = torch.tensor([[[1 / zoom, 0, 0], [0, 1 / zoom, 0]] for zoom in zooms], dtype=x.dtype, device=x.device)
    grid = functional.affine_grid(theta, [len(zooms), *x.shape], align_corners=False)
    out = functional.grid_sample(x.expand(len(zooms), *x.shape), grid, "bilinear", "border", align_corners=False)
    return out.mean(0)


def fractal(count: int, size: int, decay: float, draw: torch.Generator) -> Tensor:
    """Clouds [count, n, n] in [0,1], n at least `size`: midpoint displacement, decay² smaller at half the distance."""
    clouds, swing = torch.zeros(count, 1, 1), 1.0
    while clouds.shape[1] < size:
        n = clouds.shape[1]
        shift = swing * (2 * torch.rand(3, count, n, n, generator=draw) - 1)
        beside, below = clouds.roll(-1, 2), clouds.roll(-1, 1)
        middle = (clouds + beside + below + below.roll(-1, 2)) / 4 + shift[0]
        finer = torch.empty(count, 2 * n, 2 * n)
        finer[:, ::2, ::2], finer[:, 1::2, 1::2] = clouds, middle
        finer[:, ::2, 1::2] = (clouds + beside + middle + middle.roll(1, 1)) / 4 + shift[1]
        finer[:, 1::2, ::2] = (clouds + below + middle + middle.roll(1, 2)) / 4 + shift[2]
        clouds, swing = finer, swing / decay**2
    low, high = clouds.amin((1, 2), keepdim=True), clouds.amax((1, 2), keepdim=True)
    return (clouds - low) / (high - low).clamp(min=1e-12)


def grey(x: Tensor) -> Tensor:
    weights = [0.299, 0.587, 0.114] if len(x) == 3 else [1 / len(x)] * len(x)
    return (x * torch.tensor(weights, dtype=x.dtype, device=x.device).view(-1, 1, 1)).sum(0, keepdim=True)
