"""Preprocessing that must be another library's: ours is held against theirs on pictures of odd sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustkit.data.pictures import Preprocess, to_input

Transform = Callable[[Image.Image], Tensor]

EXACT = 0.01
"""Levels of 255 up to which two transforms are one: float32 rounding of the normalisation."""
ROUNDED = 1.01
"""Levels of 255 by which torchvision's resize of 8-bit tensors may round otherwise than Pillow's."""


def closest(candidates: Iterable[Preprocess], theirs: Transform) -> tuple[Preprocess | None, float]:
    """The candidate whose pixels come nearest to those of `theirs`, and the largest difference in levels of 255.

    Args:
        candidates: preprocessing to try, in order.
        theirs: from a picture to float32 [C, H, W] in [0,1], not normalised.
    """
    best: tuple[Preprocess | None, float] = (None, float("inf"))
    wanted: dict[tuple[int, int], Tensor] = {}
    for candidate in candidates:
        worst = 0.0
        for picture in _pictures(candidate):
            if picture.size not in wanted:  # of one size there is one picture
                wanted[picture.size] = theirs(picture)
            worst = max(worst, _difference(to_input(picture, candidate), wanted[picture.size]))
            if worst >= best[1]:
                break
        if worst < best[1]:
            best = (candidate, worst)
        if worst <= EXACT:
            break
    return best


def _difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference between two pictures in levels of 255; inf where they are not of one shape."""
    if ours.shape != theirs.shape:
        return float("inf")
    return float((ours.double() - theirs.double()).abs().max()) * 255


def _pictures(preprocess: Preprocess) -> Iterator[Image.Image]:
    """Pictures of noise, larger and smaller than the input, wide and tall, their margins odd and even.

    The noise keeps away from black and white: where a bicubic filter overshoots, Pillow cuts off after each of its two
    passes and torchvision at the end.
    """
    height, width = preprocess.size
    resize = preprocess.resize or max(height, width)
    side = max(resize) if isinstance(resize, tuple) else resize
    sizes = [(side, side + extra) for extra in (1, 2, 3, 5)] + [(side + extra, side) for extra in (1, 3, 6)]
    sizes += [
        (2 * height + 13, 3 * width + 4),
        (2 * height + 1, width + 9),
        (height // 2 + 1, 2 * width // 3 + 2),
        (height + 3, width // 2 + 1),
    ]
    for tall, wide in sizes:
        if (tall, wide) != preprocess.size:
            shape = (tall, wide) if preprocess.channels == 1 else (tall, wide, 3)
            yield Image.fromarray(np.random.default_rng((tall, wide)).integers(80, 176, shape, dtype=np.uint8))


def unnormalised(out: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Pixels in [0,1] of what a transform normalised: out float32 [C, H, W], mean and std float64 [C]."""
    return (out.double() * std[:, None, None] + mean[:, None, None]).to(torch.float32)
