"""Image processors of transformers, read into our own preprocessing and held against it pixel by pixel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustkit.data.pictures import Preprocess
from robustkit.errors import ModelError
from robustkit.models.kinds.fidelity import EXACT, ROUNDED, closest, unnormalised
from robustkit.models.source import Request
from robustkit.text import one_line

_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # as Pillow numbers them


@dataclass(frozen=True)
class Processing:
    """Everything done to a picture before the network.

    Args:
        preprocess: up to pixels in [0,1].
        mean, std: normalisation, in the order of the picture's channels; None for none.
        flipped: then the channels are reversed.
        by_pillow: as the processor's Pillow backend does it, which differs from what is done by default.
    """

    preprocess: Preprocess
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    flipped: bool = False
    by_pillow: bool = False


def read_processor(transformers: Any, place: str, channels: int, request: Request) -> Processing:
    """The image processor that lies beside a model, found out by what it does to pictures.

    Held against what the library does by default; where resizes by torchvision and Pillow differ by more than
    rounding, against its Pillow backend.

    Raises:
        ModelError: there is none and mean, std and size do not replace it; or none of ours gives its pixels.
    """
    if request.size is not None and not request.normalised:
        return Processing(Preprocess(request.size, channels), None, None)
    failure = ""
    for backend, tolerance in ((None, ROUNDED), ("pil", EXACT)):
        options = {} if backend is None else {"backend": backend}
        try:
            processor = transformers.AutoImageProcessor.from_pretrained(place, trust_remote_code=False, **options)
        except Exception as error:  # absent, of a kind that is not known, or one that brings its own code
            raise ModelError(
                f"{request.name} has no image processor that can be read ({one_line(error)}): add its "
                "preprocessor_config.json, or give size, mean and std"
            ) from None
        try:
            found = _found(processor, channels, tolerance)
        except Exception as error:  # of a processor that wants other things than a picture
            failure = failure or f" ({one_line(error)})"
            continue
        if found is not None:
            fitted = found.preprocess if request.size is None else found.preprocess.at(request.size)
            return replace(found, preprocess=fitted, by_pillow=backend is not None)
    raise ModelError(
        f"{request.name}: what its {type(processor).__name__} does to a picture cannot be done here{failure}: "
        "give size, mean and std"
    )


def _found(processor: Any, channels: int, tolerance: float) -> Processing | None:
    """Processing that gives the pixels of a processor, up to a tolerance in levels of 255; None if there is none."""

    def run(picture: Image.Image) -> Tensor:
        out: Tensor = processor(images=picture, return_tensors="pt")["pixel_values"][0]
        return out

    black, white = (run(_plain((level,) * channels)) for level in (0, 255))
    if black.dim() != 3 or len(black) != channels:
        return None
    scale, shift = ((white - black).double().mean((1, 2)), black.double().mean((1, 2)))
    if not bool((scale > 0).all()):
        return None
    mean, std = _normalisation(processor, 0.0 - shift / scale, 1 / scale)
    tint = run(_plain((40, 120, 200)[:channels])) if channels == 3 else None
    first, last = (0.0, 1.0) if tint is None else unnormalised(tint, mean, std).mean((1, 2))[[0, 2]].tolist()
    flipped = first > last

    def theirs(picture: Image.Image) -> Tensor:
        pixels = unnormalised(run(picture), mean, std)
        return pixels.flip(0) if flipped else pixels

    best, off = closest(_candidates(processor, (black.shape[1], black.shape[2]), channels), theirs)
    if best is None or off > tolerance:
        return None
    if flipped:
        mean, std = mean.flip(0), std.flip(0)
    if float(mean.abs().max()) < 1e-6 and float((std - 1).abs().max()) < 1e-6:
        return Processing(best, None, None, flipped)
    return Processing(best, tuple(mean.tolist()), tuple(std.tolist()), flipped)


def _plain(colour: tuple[int, ...]) -> Image.Image:
    pixels = np.broadcast_to(np.array(colour, dtype=np.uint8), (77, 90, len(colour)))
    return Image.fromarray(pixels[..., 0].copy() if len(colour) == 1 else pixels.copy())


def _normalisation(processor: Any, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and std as measured, or as the processor's configuration writes them where that is the same."""
    written = []
    for key, measured in (("image_mean", mean), ("image_std", std)):
        value = torch.as_tensor(getattr(processor, key, None) or 0.0, dtype=torch.float64).expand(len(mean))
        written.append(value if torch.allclose(value, measured, rtol=1e-4, atol=1e-5) else measured)
    return written[0], written[1]


def _candidates(processor: Any, size: tuple[int, int], channels: int) -> Iterator[Preprocess]:
    """Preprocessing that a processor of this configuration might do, of its `size` [height, width]."""
    config = getattr(processor, "data_config", None)
    if config is not None:  # timm's transform
        name, share = str(config["interpolation"]), float(config["crop_pct"])
        sides = [int(side / share) for side in size]
        yield Preprocess(size, channels, sides[0], name)
        yield Preprocess(size, channels, (sides[0], sides[1]), name)
        return
    resample = getattr(processor, "resample", None)
    name = "bilinear" if resample is None else _FILTERS[int(resample)]
    asked = dict(getattr(processor, "size", None) or {})
    short, tall, wide = (asked.get(key) for key in ("shortest_edge", "height", "width"))
    percent = getattr(processor, "crop_pct", None)
    ways: list[int | tuple[int, int]] = [(int(tall), int(wide))] if tall and wide else []
    for edge in (short, tall):
        if edge:
            ways += [int(edge), int(256 / 224 * edge), *([int(edge / percent)] if percent else [])]
    for resize in dict.fromkeys([*ways, size]):
        smallest = min(resize) if isinstance(resize, tuple) else resize
        if smallest >= max(size) or resize == size:
            for floor in (True, False):
                yield Preprocess(size, channels, resize, name, floor)
