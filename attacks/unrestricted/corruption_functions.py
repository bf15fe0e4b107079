"""Fifteen common corruptions of a picture, each at five severities.

Hendrycks & Dietterich 2019, arXiv 1903.12261. Each function takes one picture [C, H, W] in [0,1], a generator, how
many times larger the picture is than the one its lengths in pixels are meant for, and the parameters of a severity.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from .image_filters import blurred, fractal, grey, trailed, zoomed

Corrupt = Callable[..., Tensor]


def gaussian_noise(x: Tensor, draw: torch.Generator, _: float, deviation: float) -> Tensor:
    return x + deviation * torch.randn(x.shape, generator=draw).to(x)


def shot_noise(x: Tensor, draw: torch.Generator, _: float, photons: float) -> Tensor:
    return (torch.poisson(x.cpu().float() * photons, generator=draw) / photons).to(x)


def impulse_noise(x: Tensor, draw: torch.Generator, _: float, amount: float) -> Tensor:
    dice = torch.rand(x.shape, generator=draw).to(x)
    return torch.where(dice < amount, (dice < amount / 2).to(x), x)


def defocus_blur(x: Tensor, _: torch.Generator, scale: float, radius: float, alias: float) -> Tensor:
    radius = radius * scale
    reach = math.ceil(radius + 2 * alias)
    places = torch.arange(-reach, reach + 1, dtype=x.dtype)
    disk = (radius + 0.75 - torch.hypot(places[:, None], places)).clamp(0, 1)
    kernel = blurred(disk[None], alias)
    padded = functional.pad(x[:, None], [reach] * 4, mode="replicate")
    return functional.conv2d(padded, (kernel / kernel.sum())[None].to(x)).squeeze(1)


def glass_blur(x: Tensor, draw: torch.Generator, scale: float, deviation: float, reach: int, rounds: int) -> Tensor:
    # The paper swaps pixel after pixel; here each fetches one from nearby, all at once.
    height, width = x.shape[1:]
    reach = max(1, round(reach * scale))
    out = blurred(x, deviation * scale)
    for _ in range(rounds):
        down, right = (torch.randint(-reach, reach + 1, (height, width), generator=draw) for _ in range(2))
        rows = (torch.arange(height)[:, None] + down).clamp(0, height - 1).to(x.device)
        columns = (torch.arange(width) + right).clamp(0, width - 1).to(x.device)
        out = out[:, rows, columns]
    return blurred(out, deviation * scale)


def motion_blur(x: Tensor, draw: torch.Generator, scale: float, radius: float, deviation: float) -> Tensor:
    return trailed(x, radius * scale, deviation * scale, _between(-45, 45, draw))


def zoom_blur(x: Tensor, _: torch.Generator, scale: float, most: float, step: float) -> Tensor:
    zooms = [1 + step * i for i in range(math.ceil((most - 1) / step - 1e-9))]
    return (x + len(zooms) * zoomed(x, *zooms)) / (len(zooms) + 1)


def snow(
    x: Tensor,
    draw: torch.Generator,
    scale: float,
    flakes: tuple[float, float, float, float],
    wind: tuple[float, float],
    dark: float,
) -> Tensor:
    (mean, deviation, zoom, least), (radius, smear) = flakes, wind
    layer = zoomed((mean + deviation * torch.randn(1, *x.shape[1:], generator=draw)).to(x), zoom)
    layer = torch.where(layer < least, 0.0, layer).clamp(0, 1)
    layer = trailed(layer, radius * scale, smear * scale, _between(-135, -45, draw))
    white = torch.maximum(x, grey(x) * 1.5 + 0.5)
    return dark * x + (1 - dark) * white + layer + layer.rot90(2, (1, 2))


def frost(x: Tensor, draw: torch.Generator, _: float, keep: float, amount: float) -> Tensor:
    # The paper lays photographs of frost over the picture; here crystals are drawn: ridges of fractal noise, bluish.
    size = max(x.shape[1:])
    ridges = 1 - (2 * fractal(3, size, 1.4, draw) - 1).abs()
    crystals = 0.15 + 0.85 * ridges.amax(0).pow(8)
    shade = torch.tensor([0.85, 0.95, 1.0] if len(x) == 3 else [0.93]).view(-1, 1, 1)
    ice = (crystals[None] * shade)[:, : x.shape[1], : x.shape[2]].to(x)
    return keep * x + amount * ice


def fog(x: Tensor, draw: torch.Generator, _: float, amount: float, decay: float) -> Tensor:
    clouds = fractal(1, max(x.shape[1:]), decay, draw)[0, : x.shape[1], : x.shape[2]].to(x)
    top = x.amax()
    return (x + amount * clouds) * top / (top + amount)


def brightness(x: Tensor, _: torch.Generator, scale: float, amount: float) -> Tensor:
    value = x.amax(0, keepdim=True)  # of hue, saturation and value, the last
    higher = (value + amount).clamp(max=1)
    return torch.where(value > 0, x * (higher / value.clamp(min=1e-12)), higher)


def contrast(x: Tensor, _: torch.Generator, scale: float, keep: float) -> Tensor:
    mean = x.mean((1, 2), keepdim=True)
    return (x - mean) * keep + mean


def elastic_transform(
    x: Tensor, draw: torch.Generator, scale: float, strength: float, deviation: float, jitter: float
) -> Tensor:
    height, width = x.shape[1:]
    side = min(height, width)
    middle = torch.tensor([width / 2, height / 2])
    corners = middle + side / 3 * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    there = corners + jitter * scale * (2 * torch.rand(3, 2, generator=draw) - 1)
    back = torch.linalg.solve(torch.cat([there, torch.ones(3, 1)], 1).double(), corners.double())
    push = blurred(2 * torch.rand(2, height, width, generator=draw) - 1, deviation * scale, 3) * strength * scale
    down, right = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([right + push[0], down + push[1], torch.ones(height, width)], -1).double() @ back
    ends = torch.tensor([max(width - 1, 1), max(height - 1, 1)])
    grid = (2 * places / ends - 1).to(x)[None]
    return functional.grid_sample(x[None], grid, "bilinear", "reflection", align_corners=True)[0]


def pixelate(x: Tensor, _: torch.Generator, scale: float, share: float) -> Tensor:
    down, across = (_blocks(side, max(1, int(side * share))).to(x) for side in x.shape[1:])
    means = (down @ x @ across.T) / (down.sum(1)[:, None] * across.sum(1))
    return down.T @ means @ across


def _blocks(side: int, count: int) -> Tensor:
    """Assign `side` pixels to `count` blocks, 1 or 0 [count, side]."""
    block = ((torch.arange(side) + 0.5) * (count / side)).long()
    return (torch.arange(count)[:, None] == block).double()


def jpeg_compression(x: Tensor, _: torch.Generator, scale: float, quality: int) -> Tensor:
    """As Pillow does it: three channels as colours, others each for itself."""
    planes = x.permute(1, 2, 0)[None] if len(x) == 3 else x
    out = [_jpeg(plane, quality) for plane in (planes * 255).round().to("cpu", torch.uint8)]
    stacked = torch.stack(out).to(x) / 255
    return stacked[0].permute(2, 0, 1) if len(x) == 3 else stacked


def _jpeg(pixels: Tensor, quality: int) -> Tensor:
    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, "JPEG", quality=quality)
    decoded = torch.frombuffer(bytearray(Image.open(buffer).tobytes()), dtype=torch.uint8)
    return decoded.view(pixels.shape)


def _between(low: float, high: float, draw: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=draw))


Levels = Sequence[tuple[Any, ...]]

# The parameters of ImageNet-C, for 224 pixels, and of CIFAR-10-C, for 32.
LARGE, SMALL = 224, 32
CORRUPTIONS: dict[str, tuple[Corrupt, Levels, Levels]] = {
    "gaussian_noise": (
        gaussian_noise,
        [(0.08,), (0.12,), (0.18,), (0.26,), (0.38,)],
        [(0.04,), (0.06,), (0.08,), (0.09,), (0.1,)],
    ),
    "shot_noise": (shot_noise, [(60,), (25,), (12,), (5,), (3,)], [(500,), (250,), (100,), (75,), (50,)]),
    "impulse_noise": (
        impulse_noise,
        [(0.03,), (0.06,), (0.09,), (0.17,), (0.27,)],
        [(0.01,), (0.02,), (0.03,), (0.05,), (0.07,)],
    ),
    "defocus_blur": (
        defocus_blur,
        [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)],
        [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
    ),
    "glass_blur": (
        glass_blur,
        [(0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)],
        [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)],
    ),
    "motion_blur": (
        motion_blur,
        [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)],
        [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
    ),
    "zoom_blur": (
        zoom_blur,
        [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)],
        [(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)],
    ),
    "snow": (
        snow,
        [
            ((0.1, 0.3, 3, 0.5), (10, 4), 0.8),
            ((0.2, 0.3, 2, 0.5), (12, 4), 0.7),
            ((0.55, 0.3, 4, 0.9), (12, 8), 0.7),
            ((0.55, 0.3, 4.5, 0.85), (12, 8), 0.65),
            ((0.55, 0.3, 2.5, 0.85), (12, 12), 0.55),
        ],
        [
            ((0.1, 0.2, 1, 0.6), (8, 3), 0.95),
            ((0.1, 0.2, 1, 0.5), (10, 4), 0.9),
            ((0.15, 0.3, 1.75, 0.55), (10, 4), 0.9),
            ((0.25, 0.3, 2.25, 0.6), (12, 6), 0.85),
            ((0.3, 0.3, 1.25, 0.65), (14, 12), 0.8),
        ],
    ),
    "frost": (
        frost,
        [(1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)],
        [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)],
    ),
    "fog": (
        fog,
        [(1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)],
        [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
    ),
    "brightness": (
        brightness,
        [(0.1,), (0.2,), (0.3,), (0.4,), (0.5,)],
        [(0.05,), (0.1,), (0.15,), (0.2,), (0.3,)],
    ),
    "contrast": (contrast, [(0.4,), (0.3,), (0.2,), (0.1,), (0.05,)], [(0.75,), (0.5,), (0.4,), (0.3,), (0.15,)]),
    "elastic_transform": (
        elastic_transform,
        [(488, 170.8, 24.4), (488, 19.52, 48.8), (12.2, 2.44, 4.88), (17.08, 2.44, 4.88), (29.28, 2.44, 4.88)],
        [(0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96)],
    ),
    "pixelate": (pixelate, [(0.6,), (0.5,), (0.4,), (0.3,), (0.25,)], [(0.95,), (0.9,), (0.85,), (0.75,), (0.65,)]),
    "jpeg_compression": (jpeg_compression, [(25,), (18,), (15,), (10,), (7,)], [(80,), (65,), (58,), (50,), (40,)]),
}
SEVERITIES = 5


def corrupted(x: Tensor, kind: str, severity: int, draw: torch.Generator) -> Tensor:
    """A picture [C, H, W] in [0,1] with one corruption at a severity from 1 to 5.

    The parameters are those of ImageNet-C or CIFAR-10-C, whichever is for pictures of a size nearer to this one
    (the two part at 85 pixels of the shorter side); what they give in pixels is scaled from that size to this one.
    """
    corrupt, large, small = CORRUPTIONS[kind]
    side = min(x.shape[1:])
    levels, size = (large, LARGE) if side**2 >= LARGE * SMALL else (small, SMALL)
    return corrupt(x, draw, side / size, *levels[severity - 1]).clamp(0, 1)
