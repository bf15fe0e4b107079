"""Turn a picture file into 8-bit pixels of the size a model wants; without torch, so that a process for it starts at
once."""

from __future__ import annotations

import io
import os
import stat
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from robustkit.errors import DataError
from robustkit.text import one_line

# Formats decoded inside Pillow alone: EPS and others would start a program or read other files.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "TGA")
# Above this a picture is refused: 100 million pixels are 300 MB once decoded.
MAX_PIXELS = 100_000_000
# Above this a JPEG is decoded at a reduced scale; below, the resize is the one the model was trained with.
DRAFT_PIXELS = 25_000_000
# Beyond this ratio of the sides the ends are cut off first: they would be cropped anyhow, but only after the
# resize had made of 1×10000 pixels 256×2560000.
MAX_RATIO = 16
# Up to 12 bits in a file of 16 or 32 are another range than the file's: 4,095 of 65,535 is all but black.
DARK = 4096
# Float32 arithmetic, such as a normalisation that is taken back, ends this far outside [0,1] at most: it is clipped.
ROUNDING = 1e-6

Pixels = NDArray[np.uint8]  # [H, W] or [H, W, 3]

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


@dataclass(frozen=True)
class Preprocess:
    """Preprocessing of a picture: resize the short side or both, crop the centre.

    Args:
        size: (height, width) of the input, in pixels. A picture of exactly this size is used as it is.
        channels: 1 (grey) or 3 (RGB).
        resize: before the crop: pixels of the short side, the other in proportion; (height, width), whatever the
            proportions were; None: just enough to cover `size`.
        interpolation: "nearest", "bilinear", "bicubic", "lanczos", "box" or "hamming".
        floor: an odd margin is cut with its smaller half above and on the left, as transformers does; torchvision
            and timm round the half to even.
    """

    size: tuple[int, int]
    channels: int = 3
    resize: int | tuple[int, int] | None = None
    interpolation: str = "bilinear"
    floor: bool = False

    def at(self, size: tuple[int, int]) -> Preprocess:
        """The same for inputs of another size: what is resized before the crop grows in proportion."""
        if isinstance(self.resize, tuple):
            height, width = (round(to * new / old) for to, new, old in zip(self.resize, size, self.size, strict=True))
            return replace(self, size=size, resize=(height, width))
        short = None if self.resize is None else round(max(size) * (self.resize / max(self.size)))
        return replace(self, size=size, resize=short)


def read_pixels(path: str | os.PathLike[str], preprocess: Preprocess) -> Pixels:
    """The pixels of the picture in a file, uint8 [H, W] or [H, W, 3], in the size and channels the model wants.

    See `pictures.load_picture`.

    Raises:
        DataError: no such file, not a picture, cut short, or above `MAX_PIXELS`.
    """
    file = Path(path)
    try:
        mode = file.stat().st_mode
    except OSError as error:
        raise DataError(f"{file}: cannot be opened ({error.strerror}): check the path") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise DataError(f"{file}: is {kind}: give a picture file")
    return decode(file, str(file), preprocess)


def decode(source: Path | bytes, name: str, preprocess: Preprocess) -> Pixels:
    """The pixels of the picture in a file, or in what was read of one; see `read_pixels`.

    Raises:
        DataError: begins with `name`; not a picture, cut short, or above `MAX_PIXELS`.
    """
    try:
        # Pillow warns from half its own limit on; the limit that counts is ours.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            opened = io.BytesIO(source) if isinstance(source, bytes) else source
            with Image.open(opened, formats=[kind for kind in FORMATS if _decodes(kind)]) as image:
                return fit(image, preprocess)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except Image.DecompressionBombError:
        raise DataError(f"{name}: {_too_large(None)}") from None
    except PermissionError:
        raise DataError(f"{name}: may not be read: change its permissions") from None
    except UnidentifiedImageError:
        empty = (len(source) if isinstance(source, bytes) else source.stat().st_size) == 0
        raise DataError(f"{name}: {'is empty' if empty else 'is not a picture'}: replace or remove it") from None
    except Exception as error:  # a broken file can raise nearly anything in Pillow's decoders
        raise DataError(f"{name}: cannot be decoded ({one_line(error)}): replace or remove it") from None


def fit(image: Image.Image, preprocess: Preprocess) -> Pixels:
    """The pixels of a Pillow image, fitted to the model; see `read_pixels`.

    Raises:
        DataError: above `MAX_PIXELS`, without pixels, or with values of unknown range.
    """
    height, width = preprocess.size
    resize = preprocess.resize or max(height, width)
    short = max(resize) if isinstance(resize, tuple) else resize
    if image.format in ("JPEG", "MPO") and image.width * image.height > DRAFT_PIXELS:
        image.draft(image.mode, (2 * short, 2 * short))
    if image.width * image.height > MAX_PIXELS:
        raise DataError(_too_large(image.size))
    if image.width == 0 or image.height == 0:
        raise DataError("has no pixels: replace or remove it")
    image = _eight_bits(ImageOps.exif_transpose(image), "L" if preprocess.channels == 1 else "RGB")
    if (image.height, image.width) != (height, width):
        image = _fitted(image, preprocess)
    return np.asarray(image, dtype=np.uint8)


def _eight_bits(image: Image.Image, mode: str) -> Image.Image:
    """The picture in `mode` ("L" or "RGB"), transparency laid on white."""
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_scaled(np.asarray(image).astype(np.float64), image.mode))
    if image.mode in ("La", "RGBa") or image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image if image.mode == mode else image.convert("RGB").convert(mode)


def _scaled(values: NDArray[np.float64], mode: str) -> Pixels:
    """Pixels of a mode with more than 8 bits, by its full range: 65,535, or 1 for floats."""
    top, slack = (1.0, ROUNDING) if mode == "F" else (65535.0, 0.0)
    if not (np.isfinite(values).all() and values.min() >= -slack and values.max() <= top + slack):
        raise DataError(f"has values outside 0 to {top:g} (mode {mode}): save it with 8 or 16 bits")
    if mode != "F" and 0 < values.max() < DARK:
        raise DataError(
            f"reaches only {values.max():g} of {top:g} (mode {mode}) and would come out black: save it with 8 bits, or "
            "scaled to 16"
        )
    return np.rint(np.clip(values * (255 / top), 0, 255)).astype(np.uint8)


def _fitted(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """Short side to `resize`, then the centre of `size`; pixel for pixel what torchvision's presets do."""
    height, width = preprocess.size
    if isinstance(preprocess.resize, tuple):
        tall, wide = preprocess.resize
        return _centre(image.resize((wide, tall), _FILTERS[preprocess.interpolation]), width, height, preprocess.floor)
    longest = MAX_RATIO * min(image.size)
    if max(image.size) > longest:
        image = _centre(image, min(image.width, longest), min(image.height, longest))
    if preprocess.resize is None:
        scale = max(height / image.height, width / image.width)
        new = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    else:
        short = preprocess.resize
        new = (
            (short, int(short * image.height / image.width))
            if image.width <= image.height
            else (int(short * image.width / image.height), short)
        )
    if new != image.size:
        image = image.resize(new, _FILTERS[preprocess.interpolation])
    return _centre(image, width, height, preprocess.floor)


def _centre(image: Image.Image, width: int, height: int, floor: bool = False) -> Image.Image:
    left, top = (margin // 2 if floor else round(margin / 2) for margin in (image.width - width, image.height - height))
    return image.crop((left, top, left + width, top + height))


def _decodes(name: str) -> bool:
    Image.init()
    return name in Image.OPEN


def _too_large(size: tuple[int, int] | None) -> str:
    found = "far too many" if size is None else f"{size[0]}×{size[1]} = {size[0] * size[1] // 1_000_000} million"
    return f"has {found} pixels, the limit is {MAX_PIXELS // 1_000_000} million: scale it down"
