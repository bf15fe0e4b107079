"""Pictures of every kind against sums done by hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as transforms

from robustkit.data import pixels as decoding
from robustkit.data.load import load_picture
from robustkit.data.pictures import Preprocess
from robustkit.errors import DataError

SAME = Preprocess((6, 5), 3)
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (6, 5), dtype=np.uint8)


def tensor(pixels: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] or [H, W] as float [3, H, W]."""
    planes = np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else pixels
    return torch.from_numpy(planes.transpose(2, 0, 1) / 255).float()


def saved(pixels: np.ndarray, file: Path, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, **options)
    return file


def test_a_picture_of_the_right_size_is_used_as_it_is(tmp_path: Path) -> None:
    x = load_picture(saved(RGB, tmp_path / "a.png"), SAME)
    assert x.dtype == torch.float32
    assert torch.equal(x, tensor(RGB))


def test_grey_is_repeated_and_colour_is_weighted(tmp_path: Path) -> None:
    assert torch.equal(load_picture(saved(GREY, tmp_path / "a.png"), SAME), tensor(GREY))
    x = load_picture(saved(RGB, tmp_path / "b.png"), Preprocess((6, 5), 1))
    luma = RGB @ np.array([0.299, 0.587, 0.114]) / 255
    assert x.shape == (1, 6, 5)
    assert np.abs(x[0].numpy() - luma).max() <= 0.6 / 255
    assert torch.equal(load_picture(tmp_path / "a.png", Preprocess((6, 5), 1)), tensor(GREY)[:1])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(mode: str, tmp_path: Path) -> None:
    alpha = RNG.integers(0, 256, (6, 5, 1), dtype=np.uint8)
    if mode == "P":
        image = Image.fromarray(GREY % 4).convert("P")
        image.putpalette([10, 20, 30, 200, 100, 0, 0, 0, 255, 5, 5, 5])
        image.save(tmp_path / "a.png", transparency=2)
        palette = np.array([[10, 20, 30], [200, 100, 0], [255, 255, 255], [5, 5, 5]])
        expected = palette[np.asarray(image)] / 255
    else:
        base = RGB if mode == "RGBA" else GREY[..., None]
        saved(np.concatenate([base, alpha], 2), tmp_path / "a.png")
        opacity = alpha / 255
        expected = np.broadcast_to(base / 255 * opacity + (1 - opacity), (6, 5, 3))
    x = load_picture(tmp_path / "a.png", SAME)
    assert np.abs(x.numpy().transpose(1, 2, 0) - expected).max() <= 1.01 / 255


def test_a_transparent_colour_without_a_channel_of_its_own(tmp_path: Path) -> None:
    saved(RGB, tmp_path / "a.png", transparency=tuple(int(value) for value in RGB[0, 0]))
    x = load_picture(tmp_path / "a.png", SAME)
    assert torch.equal(x[:, 0, 0], torch.ones(3))
    assert torch.equal(x[:, 1:], tensor(RGB)[:, 1:])


def test_more_than_eight_bits(tmp_path: Path) -> None:
    deep = RNG.integers(0, 65536, (6, 5)).astype(np.uint16)
    expected = tensor(np.rint(deep / 257).astype(np.uint8))
    for name in ("a.png", "a.tif"):
        assert torch.equal(load_picture(saved(deep, tmp_path / name), SAME), expected)
    assert torch.equal(load_picture(saved(deep.astype(np.int32), tmp_path / "b.tif"), SAME), expected)
    unit = (GREY / 255).astype(np.float32)
    assert torch.equal(load_picture(saved(unit, tmp_path / "c.tif"), SAME), tensor(GREY))


def test_values_of_unknown_range_are_refused(tmp_path: Path, refuses) -> None:
    for number, values in enumerate((GREY.astype(np.float32), np.full((6, 5), np.nan, np.float32))):
        with refuses(DataError, r"outside 0 to 1 \(mode F\)"):
            load_picture(saved(values, tmp_path / f"{number}.tif"), SAME)
    with refuses(DataError, r"outside 0 to 65535 \(mode I\)"):
        load_picture(saved(np.full((6, 5), -1, np.int32), tmp_path / "c.tif"), SAME)


def test_one_bit_and_palette(tmp_path: Path) -> None:
    bits = GREY > 127
    assert torch.equal(load_picture(saved(bits, tmp_path / "a.png"), SAME), tensor(bits.astype(np.uint8) * 255))
    image = Image.fromarray(GREY % 3).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 0, 0, 0, 255])
    image.save(tmp_path / "b.gif")
    palette = np.array([[10, 20, 30], [200, 100, 0], [0, 0, 255]], np.uint8)
    assert torch.equal(load_picture(tmp_path / "b.gif", SAME), tensor(palette[np.asarray(image)]))


def test_cmyk(tmp_path: Path) -> None:
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:, :8] = (0, 255, 255, 0)  # red
    inks[:, 8:] = (0, 0, 0, 255)  # black
    Image.fromarray(inks, "CMYK").save(tmp_path / "a.jpg", quality=100)
    x = load_picture(tmp_path / "a.jpg", Preprocess((16, 16), 3))
    assert (x[:, 4, 3] - torch.tensor([1.0, 0, 0])).abs().max() < 0.05
    assert x[:, 4, 12].max() < 0.05


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_rotation_is_applied(turn: int, tmp_path: Path) -> None:
    stored = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, 1),
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(RGB, -1),
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert torch.equal(load_picture(tmp_path / "a.png", SAME), tensor(RGB))


def test_of_an_animation_the_first_frame(tmp_path: Path) -> None:
    first, second = Image.fromarray(RGB), Image.fromarray(255 - RGB)
    for name in ("a.png", "a.webp"):
        first.save(tmp_path / name, save_all=True, append_images=[second], lossless=True)
        assert torch.equal(load_picture(tmp_path / name, SAME), tensor(RGB))


@pytest.mark.parametrize("shape", [(300, 200), (200, 301), (40, 30), (97, 900)])
@pytest.mark.parametrize(("resize", "crop"), [(64, 56), (56, 56)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_fit_is_torchvisions_pixel_for_pixel(
    shape: tuple[int, int], resize: int, crop: int, interpolation: str, tmp_path: Path
) -> None:
    pixels = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    x = load_picture(saved(pixels, tmp_path / "a.png"), Preprocess((crop, crop), 3, resize, interpolation))
    image = transforms.resize(Image.fromarray(pixels), [resize], InterpolationMode(interpolation))
    assert torch.equal(x, transforms.to_tensor(transforms.center_crop(image, [crop])))


@pytest.mark.parametrize("shape", [(1, 1), (1, 20_000), (20_000, 1), (3, 700), (224, 100)])
@pytest.mark.parametrize("resize", [None, 256])
def test_every_shape_fits(shape: tuple[int, int], resize: int | None, tmp_path: Path) -> None:
    pixels = np.full((*shape, 3), (10, 200, 30), np.uint8)
    x = load_picture(saved(pixels, tmp_path / "a.png"), Preprocess((224, 192), 3, resize, "bicubic"))
    assert x.shape == (3, 224, 192)
    assert torch.equal(x, torch.tensor([10, 200, 30]).div(255).view(3, 1, 1).expand_as(x))


def test_a_huge_jpeg_is_read_at_a_smaller_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gradient = np.linspace(0, 255, 1600).astype(np.uint8)
    saved(np.repeat(np.repeat(gradient[None], 1200, 0)[..., None], 3, 2), tmp_path / "a.jpg", quality=95)
    fit = Preprocess((32, 32), 3, 36)
    whole = load_picture(tmp_path / "a.jpg", fit)
    monkeypatch.setattr(decoding, "DRAFT_PIXELS", 1000)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 100_000)  # the whole would be refused
    assert (load_picture(tmp_path / "a.jpg", fit) - whole).abs().max() < 0.02


def test_a_picture_above_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses) -> None:
    Image.new("1", (12_000, 12_000)).save(tmp_path / "large.png")
    with refuses(DataError, r"12000×12000 = 144 million pixels, the limit is 100 million"):
        load_picture(tmp_path / "large.png", SAME)
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")  # Pillow itself refuses this one
    with refuses(DataError, "too many pixels"):
        load_picture(tmp_path / "bomb.png", SAME)


def test_files_that_are_no_pictures(tmp_path: Path, refuses) -> None:
    saved(RNG.integers(0, 256, (90, 90, 3), dtype=np.uint8), tmp_path / "whole.png")
    saved(RNG.integers(0, 256, (90, 90, 3), dtype=np.uint8), tmp_path / "whole.jpg")
    for name in ("whole.png", "whole.jpg"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / f"cut_{name}").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "start.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 6\n%%EndComments\n")
    for name, pattern in {
        "cut_whole.png": "cannot be decoded",
        "cut_whole.jpg": "cannot be decoded .*truncated",
        "text.jpg": "is not a picture",
        "empty.png": "is empty",
        "folder.png": "is a folder",
        "dangling.png": "cannot be opened",
        "missing.png": "cannot be opened",
        "start.eps": "is not a picture",
    }.items():
        with refuses(DataError, f"{name}: .*{pattern}"):
            load_picture(tmp_path / name, SAME)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in the file system")
def test_a_pipe_is_not_waited_for(tmp_path: Path, refuses) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with refuses(DataError, "not a regular file"):
        load_picture(tmp_path / "pipe.png", SAME)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_picture_that_may_not_be_read(tmp_path: Path, refuses) -> None:
    saved(RGB, tmp_path / "a.png").chmod(0)
    with refuses(DataError, "permissions"):
        load_picture(tmp_path / "a.png", SAME)


def test_permission_errors_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    saved(RGB, tmp_path / "a.png")
    monkeypatch.setattr(Image, "open", refuse)
    with refuses(DataError, "change its permissions"):
        load_picture(tmp_path / "a.png", SAME)


def test_links_and_names_of_every_kind(tmp_path: Path) -> None:
    saved(RGB, tmp_path / "größe 写真.PNG")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "größe 写真.PNG")  # the content decides, not the suffix
    for name in ("größe 写真.PNG", "link.jpg"):
        assert torch.equal(load_picture(tmp_path / name, SAME), tensor(RGB))
