"""Common corruptions: their strength, their randomness, the table they fill."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import torch
from attack_models import Counting, Trained, conv_net, wrong
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn

from robustkit import load_data, load_model
from robustkit.attacks import Classifier, Corruption
from robustkit.attacks.core.query_trace import Trace
from robustkit.attacks.core.random_draws import row_generator
from robustkit.attacks.unrestricted.corruption_functions import CORRUPTIONS, corrupted
from robustkit.attacks.unrestricted.image_filters import blurred, fractal

each_kind = pytest.mark.parametrize("kind", CORRUPTIONS)
# Their published parameters do not grow with the severity: the first two levels of elastic transform turn and shear,
# the others ripple; glass blur and small pixels trade one parameter for another.
UNEVEN = {"elastic_transform", "glass_blur", "pixelate"}


def at(x: Tensor, kind: str, severity: int, seed: int = 0) -> Tensor:
    return torch.stack([corrupted(row, kind, severity, row_generator(seed, i, 0)) for i, row in enumerate(x)])


def rms(r: Tensor) -> float:
    return float(r.square().mean().sqrt())


@pytest.fixture(scope="module")
def photos() -> Tensor:
    model = load_model("efficientnet-lite0", device="cpu", precision="fp32")
    return next(load_data("imagenet-samples").batches(model, 4, 4)).x


@pytest.fixture(scope="module")
def digits() -> Tensor:
    model = load_model("lenet-mnist", device="cpu", precision="fp32")
    return next(load_data("mnist-samples").batches(model, 20, 20)).x


@each_kind
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 40), (2, 8, 8), (3, 3, 5)])
def test_it_stays_in_the_box_and_keeps_shape_and_dtype(kind: str, shape: tuple[int, ...]) -> None:
    for x in (torch.rand(shape), torch.zeros(shape), torch.ones(shape), torch.rand(shape, dtype=torch.float64)):
        for severity in (1, 5):
            out = corrupted(x, kind, severity, row_generator(0, 0, 0))
            assert out.shape == x.shape
            assert out.dtype == x.dtype
            assert float(out.min()) >= 0
            assert float(out.max()) <= 1


@each_kind
def test_it_is_the_more_the_higher_the_severity(kind: str, photos: Tensor, digits: Tensor) -> None:
    for x in (photos, digits):
        distances = [rms(at(x, kind, severity) - x) for severity in range(1, 6)]
        assert min(distances) > 0.005
        if kind not in UNEVEN:
            # Frost's fourth level keeps more of the picture than it adds ice.
            assert all(later >= 0.95 * sooner for sooner, later in itertools.pairwise(distances))
            assert distances[4] > 1.2 * distances[0]


# rms distance at severities 1, 3 and 5 by imagecorruptions-imaug 1.1.5 from the first four of the imagenet-samples at
# 224 pixels, its global seed 0. Its elastic transform is another, its frost photographed.
PEER = {
    "gaussian_noise": (0.078, 0.167, 0.299),
    "shot_noise": (0.084, 0.176, 0.314),
    "impulse_noise": (0.097, 0.167, 0.289),
    "defocus_blur": (0.064, 0.088, 0.108),
    "glass_blur": (0.073, 0.102, 0.103),
    "motion_blur": (0.076, 0.115, 0.143),
    "zoom_blur": (0.100, 0.118, 0.132),
    "snow": (0.180, 0.292, 0.397),
    "frost": (0.242, 0.343, 0.266),
    "fog": (0.178, 0.228, 0.236),
    "brightness": (0.083, 0.237, 0.356),
    "contrast": (0.133, 0.178, 0.211),
    "pixelate": (0.043, 0.058, 0.075),
    "jpeg_compression": (0.042, 0.050, 0.067),
}


@pytest.mark.parametrize("kind", PEER)
def test_it_is_as_much_as_the_papers(kind: str, photos: Tensor) -> None:
    ours = [rms(at(photos, kind, severity) - photos) for severity in (1, 3, 5)]
    slack = {"frost": 0.25, "glass_blur": 0.2, "fog": 0.15}.get(kind, 0.1)
    assert ours == pytest.approx(PEER[kind], rel=slack)


@pytest.mark.parametrize("severity", [1, 5])
def test_jpeg_is_pillows(photos: Tensor, digits: Tensor, severity: int) -> None:
    for x, quality in ((photos[0], {1: 25, 5: 7}), (digits[0], {1: 80, 5: 40})):
        pixels = (x * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(2).numpy()
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality[severity])
        theirs = torch.from_numpy(np.array(Image.open(buffer)))
        ours = corrupted(x, "jpeg_compression", severity, row_generator(0, 0, 0)) * 255
        assert torch.equal(ours.round().to(torch.uint8).permute(1, 2, 0).squeeze(2), theirs)


def test_pixelate_is_pillows(photos: Tensor) -> None:
    plane = Image.fromarray(photos[0, 0].numpy())
    theirs = plane.resize((int(224 * 0.4), int(224 * 0.4)), Image.Resampling.BOX).resize(
        (224, 224), Image.Resampling.BOX
    )
    ours = corrupted(photos[0], "pixelate", 3, row_generator(0, 0, 0))[0]
    torch.testing.assert_close(ours, torch.from_numpy(np.array(theirs)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("deviation", [0.3, 1.5, 20.0])
def test_the_blur_is_scipys(deviation: float) -> None:
    x = torch.rand(2, 9, 13, dtype=torch.float64)
    theirs = [ndimage.gaussian_filter(plane, deviation, mode="reflect", truncate=3) for plane in x.numpy()]
    torch.testing.assert_close(blurred(x, deviation, 3), torch.from_numpy(np.stack(theirs)), atol=1e-10, rtol=0)


def test_the_noises_have_their_moments() -> None:
    x = torch.full((3, 100, 100), 0.5)
    assert rms(corrupted(x, "gaussian_noise", 1, row_generator(0, 0, 0)) - x) == pytest.approx(0.08, rel=0.02)
    assert rms(corrupted(x, "shot_noise", 1, row_generator(0, 0, 0)) - x) == pytest.approx((0.5 / 60) ** 0.5, rel=0.02)
    spoiled = corrupted(x, "impulse_noise", 3, row_generator(0, 0, 0))
    assert float((spoiled != x).float().mean()) == pytest.approx(0.09, abs=0.005)
    assert float(spoiled[spoiled != x].mean()) == pytest.approx(0.5, abs=0.03)


def test_brightness_and_contrast_are_their_formulas() -> None:
    x = torch.tensor([0.2, 0.4, 0.6]).view(3, 1, 1).expand(3, 100, 100).clone()
    x[:, 0, 0] = 0
    out = corrupted(x, "brightness", 2, row_generator(0, 0, 0))
    torch.testing.assert_close(
        out[:, 1, 1], x[:, 1, 1] * (0.8 / 0.6)
    )  # the value rises by 0.2, hue and saturation stay
    torch.testing.assert_close(out[:, 0, 0], torch.full((3,), 0.2))
    mean = x.mean((1, 2), keepdim=True)
    torch.testing.assert_close(corrupted(x, "contrast", 3, row_generator(0, 0, 0)), mean + 0.2 * (x - mean))


def test_clouds_fill_zero_to_one() -> None:
    clouds = fractal(2, 50, 2.0, row_generator(0, 0, 0))
    assert clouds.shape == (2, 64, 64)
    torch.testing.assert_close(clouds.amin((1, 2)), torch.zeros(2))
    torch.testing.assert_close(clouds.amax((1, 2)), torch.ones(2))


def test_lengths_shrink_with_the_picture(photos: Tensor) -> None:
    """Blurred and then made small is much like made small and then blurred."""
    half = nn.functional.avg_pool2d(photos, 2)
    for kind in ("defocus_blur", "motion_blur", "zoom_blur"):
        before, after = nn.functional.avg_pool2d(at(photos, kind, 5), 2), at(half, kind, 5)
        assert rms(before - after) < 0.25 * rms(after - half)


@each_kind
def test_a_row_does_not_depend_on_its_batch(kind: str) -> None:
    x, y, ids, net = torch.rand(6, 1, 8, 8), torch.zeros(6, dtype=torch.int64), torch.arange(6) * 5, Always(0.0, 1.0)
    attack = Corruption(kind, severity=3)
    whole = attack(net, x, y, ids=ids, seed=2)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    torch.testing.assert_close(attack(net, x[order], y, ids=ids[order], seed=2), whole[order], atol=1e-6, rtol=0)
    torch.testing.assert_close(attack(net, x[3:4], y[:1], ids=ids[3:4], seed=2), whole[3:4], atol=1e-6, rtol=0)
    drawn = not torch.equal(attack(net, x, y, ids=ids, seed=3), whole)
    still = ("brightness", "contrast", "defocus_blur", "zoom_blur", "pixelate", "jpeg_compression")
    assert drawn == (kind not in still)


class Always(nn.Module):
    """One answer, whatever the picture."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1)


def test_it_comes_back_in_the_mildest_form_that_breaks_it(trained: Trained) -> None:
    net, x, y = trained
    attack, ids = Corruption("contrast+gaussian_noise+fog"), torch.arange(64)
    adv = attack(net, x, y, ids=ids, seed=1)
    cells = attack.cells()
    assert torch.equal(attack(Always(0.0, 0.0), x, torch.zeros_like(y)), x)  # nothing breaks a tie
    assert cells[:4] == [(1, "gaussian_noise"), (1, "fog"), (1, "contrast"), (2, "gaussian_noise")]
    for row in range(0, 64, 5):
        alone = [
            corrupted(x[row], kind, severity, row_generator(1, row, list(CORRUPTIONS).index(kind)))
            for severity, kind in cells
        ]
        broken = [bool(wrong(net, form[None], y[row : row + 1])) for form in alone]
        expected = alone[broken.index(True)] if any(broken) else x[row]
        torch.testing.assert_close(adv[row], expected)


def test_a_trace_gets_the_whole_table(trained: Trained) -> None:
    net, x, y = trained
    counting, trace = Counting(net), Trace(64)
    model = Classifier(counting)
    attack = Corruption("contrast+brightness")
    adv = attack(model, x, y, trace=trace)
    assert list(trace.cells) == [(kind, str(s)) for s in range(1, 6) for kind in ("brightness", "contrast")]
    assert counting.forwards == model.forwards == int(trace.forwards.sum()) == 64 * 10
    some = torch.stack(list(trace.cells.values())).any(0)
    assert torch.equal(some, wrong(net, adv, y))
    assert torch.equal(adv[~some], x[~some])
    assert torch.equal(trace.arrived[:, 0] >= 0, some)
    for severity in (1, 4):
        alone = wrong(net, at(x, "contrast", severity), y)
        assert torch.equal(trace.cells["contrast", str(severity)], alone)
    hasty = Classifier(net)
    torch.testing.assert_close(attack(hasty, x, y), adv)
    assert hasty.forwards < 64 * 10


def test_labels_are_enough() -> None:
    net, x = conv_net().eval(), torch.rand(4, 1, 8, 8)

    def answer(points: Tensor) -> Tensor:
        with torch.no_grad():
            return net(points).argmax(1)

    model = Classifier(answer, outputs="labels", classes=5)
    adv = Corruption("fog+snow")(model, x, answer(x))
    torch.testing.assert_close(adv, Corruption("fog+snow")(net, x, answer(x)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "rain"}, "kind is one of all, gaussian_noise"),
        ({"kind": "fog+"}, "kind is one of"),
        ({"kind": 3}, "kind is a string, not 3"),
        ({"severity": 6}, "severity is 1 to 5, or 0 for all, got 6"),
        ({"severity": -1}, "severity must be a whole number"),
    ],
)
def test_wrong_parameters_are_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        Corruption(**settings)
    assert "\n" not in str(raised.value)


def test_rows_that_are_no_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="needs pictures"):
        Corruption()(nn.Linear(16, 2), torch.rand(3, 16), torch.zeros(3, dtype=torch.int64))
