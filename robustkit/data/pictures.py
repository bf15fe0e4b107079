"""Turn a picture file into a model's input, whatever its mode, orientation or size."""

from __future__ import annotations

import os

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustkit.data.pixels import Pixels, Preprocess, fit, read_pixels

__all__ = ["Preprocess", "as_input", "load_picture", "to_input"]


def load_picture(path: str | os.PathLike[str], preprocess: Preprocess) -> Tensor:
    """The picture in a file as float32 [C, H, W] in [0,1], in the size and channels the model wants.

    Transparent pictures lie on white, an EXIF rotation is applied, of an animation the first frame is taken,
    and more than 8 bits a channel are rounded to 8: what is judged is what can be saved.

    Raises:
        DataError: no such file, not a picture, cut short, or above `pixels.MAX_PIXELS`.
    """
    return as_input(read_pixels(path, preprocess))


def to_input(image: Image.Image, preprocess: Preprocess) -> Tensor:
    """A Pillow image as float32 [C, H, W] in [0,1], fitted to the model; see `load_picture`.

    Raises:
        DataError: above `pixels.MAX_PIXELS`, without pixels, or with values of unknown range.
    """
    return as_input(fit(image, preprocess))


def as_input(pixels: Pixels) -> Tensor:
    """Pixels uint8 [H, W] or [H, W, C] as float32 [C, H, W] in [0,1]."""
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes, dtype=np.float32) / np.float32(255))
