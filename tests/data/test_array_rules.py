"""Layout, range and size of arrays: what is certain is read as meant, what is not is refused with what to give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustkit.data.load import Data, load_data, load_picture, tensor_data
from robustkit.data.pictures import Preprocess
from robustkit.errors import DataError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (4, 6, 5, 3)).astype("u1")
PIXELS[0, 0, 0] = (0, 128, 255)
UNIT = (PIXELS / 255).astype("f4")  # [N, H, W, C]
DEEP = RNG.integers(0, 65536, (4, 6, 5, 3)).astype("u2")
DEEP[0, 0, 0, 0] = 65535
Y = np.array([0, 1, 2, 0])
MODEL = Preprocess((6, 5), 3)


def save(folder: Path, x: np.ndarray, y: np.ndarray = Y) -> Data:
    np.savez(folder / "a.npz", x=x, y=y)
    return load_data(folder / "a.npz")


def pixels(data: Data, model: object) -> torch.Tensor:
    return torch.cat([batch.x for batch in data.batches(model, 3)])


CHW = (0, 3, 1, 2)


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (PIXELS, ""),
        (PIXELS.transpose(CHW), ""),
        (UNIT, ""),
        (UNIT.transpose(CHW), ""),
        (UNIT.astype("f8"), ""),
        (PIXELS.astype("f4"), "x of 0 to 255 divided by 255"),
        (PIXELS.astype("f8").transpose(CHW), "x of 0 to 255 divided by 255"),
        (PIXELS.astype("i8"), "x of 0 to 255 divided by 255"),
        (PIXELS.astype("u2"), "x of 0 to 255 divided by 255"),
        (PIXELS.astype("u2") * 257, "x of 16 bits divided by 65535"),
    ],
)
def test_the_same_pictures_in_any_layout_and_scale(x: np.ndarray, says: str, tmp_path: Path, stand) -> None:
    data = save(tmp_path, x)
    assert torch.equal(pixels(data, stand(preprocess=MODEL)), torch.from_numpy(UNIT.transpose(CHW).copy()))
    assert data.title == (f"a.npz ({says})" if says else "a.npz")


def test_sixteen_bits_and_grey_and_bits(tmp_path: Path, stand) -> None:
    expected = torch.from_numpy((DEEP.astype("f8") / 65535).transpose(CHW).copy())
    assert (pixels(save(tmp_path, DEEP), stand(preprocess=MODEL)) - expected).abs().max() < 1e-7
    grey = stand(preprocess=Preprocess((6, 5), 1))
    assert torch.equal(pixels(save(tmp_path, PIXELS[..., 0]), grey)[:, 0], torch.from_numpy(UNIT[..., 0].copy()))
    bits = PIXELS[..., 0] > 127
    assert torch.equal(pixels(save(tmp_path, bits), grey)[:, 0], torch.from_numpy(bits).float())


@pytest.mark.parametrize("shape", [(4, 3, 8, 3), (4, 3, 3, 1), (4, 1, 8, 3)])
def test_two_layouts_are_told_apart_by_the_model_alone(shape: tuple[int, ...], tmp_path: Path, stand, refuses) -> None:
    x = RNG.random(shape).astype("f4")
    data = save(tmp_path, x)
    first = stand(preprocess=Preprocess(shape[2:], shape[1]))
    last = stand(preprocess=Preprocess(shape[1:3], shape[3]))
    assert torch.equal(pixels(data, first), torch.from_numpy(x))
    assert torch.equal(pixels(data, last), torch.from_numpy(x.transpose(CHW).copy()))
    with refuses(DataError, r"a\.npz has pictures of .* wants 3×9×9: "):
        data.resolve(stand(preprocess=Preprocess((9, 9), 3)))


def test_a_layout_that_nothing_tells_is_asked_for(tmp_path: Path, stand, refuses) -> None:
    data = save(tmp_path, RNG.random((4, 3, 3, 3)).astype("f4"))
    with refuses(DataError, r"read both as \[N, C, H, W\] and as \[N, H, W, C\]: give picture files"):
        data.resolve(stand(preprocess=Preprocess((3, 3), 3)))


@pytest.mark.parametrize(("dtype", "outside"), [("f4", 9e-7), ("f8", 9e-7), ("f2", 9e-4)])
def test_a_rounding_error_is_clipped_and_said(dtype: str, outside: float, tmp_path: Path, stand) -> None:
    x = UNIT.astype(dtype).transpose(CHW).copy()
    x[0, 0, 0, 0], x[1, 0, 0, 0] = -outside, np.array(1 + outside, dtype)
    if dtype == "f2":  # the first above 1
        x[1, 0, 0, 0] = np.nextafter(np.float16(1), np.float16(2))
    for data in (
        save(tmp_path, x),
        *([tensor_data(torch.from_numpy(x), torch.from_numpy(Y))] if dtype == "f4" else []),
    ):
        assert "clipped to [0,1]" in data.title
        read = pixels(data, stand(preprocess=MODEL))
        assert (read.min(), read.max()) == (0, 1)
        assert torch.equal(read, torch.from_numpy(x.astype("f4").clip(0, 1)))


NORMALISED = ((UNIT - 0.45) / 0.22).astype("f4")


@pytest.mark.parametrize(
    ("x", "pattern"),
    [
        (UNIT + np.float32(2e-6), r"x goes from .*: scale it to \[0,1\]"),
        (NORMALISED, r"x goes from -2.* \(give x before Normalize, or x \* std \+ mean\)"),
        (UNIT * 2 - 1, r"x goes from -1 to 1: .* \(give \(x \+ 1\) / 2 if x is in \[-1,1\]\)"),
        (UNIT * 254.5, r"\(give x / 255 if 255 is white\)"),
        (np.floor(UNIT * 16), r"x goes from 0 to 16: .*"),
        (
            np.floor(UNIT * 16).astype("i4"),
            "x must be uint8 .* not int32 from 0 to 16, whose full range",
        ),
        ((UNIT * 4095).astype("u2"), "not uint16 from 0 to 4095, whose full range is not certain: give x / full range"),
        ((UNIT > 0.5).astype("u1"), "uint8 of 0 and 1, nearly black"),
        (-PIXELS.astype("i4"), "not int32 from -255 to"),
        (UNIT[..., 0], r"x must be .*, not float32 \[N, 6, 5\]: give x\[:, None\]"),
        (np.zeros((4, 6, 5, 4), "u1"), r"leave out transparency, x\[\.\.\., :3\]"),
        (np.zeros((4, 2, 6, 5, 3), "u1"), "x must be"),
        (np.array(["a"] * 4), "x must be"),
    ],
)
def test_a_scale_that_is_not_certain(x: np.ndarray, pattern: str, tmp_path: Path, refuses) -> None:
    with refuses(DataError, pattern):
        save(tmp_path, x)


@pytest.mark.parametrize(
    ("y", "pattern"),
    [
        (Y[:, None], r"y must be integers .*: give y\[:, 0\]"),
        (np.eye(3)[Y], r"give y\.argmax\(1\)"),
        (Y / 1.0, r"give y\.astype\('int64'\)"),
        (np.array(["cat", "dog", "cow", "cat"]), "number the classes as the model does"),
        (Y[:3], "4 pictures and 3 classes"),
    ],
)
def test_classes_that_will_not_do(y: np.ndarray, pattern: str, tmp_path: Path, refuses) -> None:
    with refuses(DataError, pattern):
        save(tmp_path, PIXELS, y)


@pytest.mark.parametrize(
    ("shape", "wanted", "pattern"),
    [
        ((1, 28, 28), (3, 224, 224), "1×28×28, stand-in wants 3×224×224: repeat the grey plane, .* or take a model "
         "of 1 channel; and give --size 28 if the model takes it, or pictures of 224×224"),
        ((3, 32, 32), (3, 224, 224), "wants 3×224×224: give --size 32 if the model takes it, or pictures of 224×224$"),
        ((3, 28, 28), (1, 28, 28), r"wants 1×28×28: make x grey, x\.mean\(1, keepdims=True\)"),
        ((3, 20, 30), (3, 30, 20), r"height before width"),
        ((3, 20, 30), (3, 30, 30), "give --size 20,30 if the model takes it, or pictures of 30×30"),
        ((8, 28, 28), (3, 28, 28), "give pictures of 3 channels, or take a model of 8"),
    ],
)  # fmt: skip
def test_wrong_sizes_name_what_fits(
    shape: tuple[int, ...], wanted: tuple[int, ...], pattern: str, tmp_path: Path, stand, refuses
) -> None:
    x = RNG.random((4, *shape)).astype("f4")
    model = stand(preprocess=Preprocess(wanted[1:], wanted[0]))
    for data in (save(tmp_path, x), tensor_data(torch.from_numpy(x), torch.from_numpy(Y))):
        with refuses(DataError, pattern):
            data.resolve(model)


GREY = PIXELS[0, ..., 0]


@pytest.mark.parametrize("dtype", ["u2", "i4", ">u2"])
@pytest.mark.parametrize("top", [255, 4095])
def test_deep_pictures_never_come_out_black(dtype: str, top: int, tmp_path: Path, refuses) -> None:
    values = np.rint(GREY / 255 * top).astype(dtype)
    Image.fromarray(values).save(tmp_path / "a.tif")
    with refuses(DataError, r"reaches only \d+ of 65535 \(mode I.*black: save it with 8 bits, or scaled to 16"):
        load_picture(tmp_path / "a.tif", Preprocess((6, 5), 1))
    Image.fromarray(GREY.astype(dtype) * 257).save(tmp_path / "a.tif")
    x = load_picture(tmp_path / "a.tif", Preprocess((6, 5), 1))
    assert torch.equal(x[0], torch.from_numpy(GREY / np.float32(255)))
    Image.fromarray(np.zeros((6, 5), dtype)).save(tmp_path / "a.tif")  # black is black
    assert load_picture(tmp_path / "a.tif", Preprocess((6, 5), 1)).max() == 0


def test_float_pictures_a_rounding_error_outside(tmp_path: Path) -> None:
    values = GREY / np.float32(255)
    values[0, 0], values[1, 1] = -9e-7, 1 + 9e-7
    Image.fromarray(values).save(tmp_path / "a.tif")
    x = load_picture(tmp_path / "a.tif", Preprocess((6, 5), 1))
    assert torch.equal(x[0], torch.from_numpy(values.clip(0, 1)))
