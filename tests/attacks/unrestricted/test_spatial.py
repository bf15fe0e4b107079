"""Rotation and translation against what is known of them."""

from __future__ import annotations

import pytest
import torch
from attack_models import Counting, Trained, conv_net, wrong
from scipy import ndimage
from torch import Tensor, nn

from robustkit.attacks import Classifier, Spatial
from robustkit.attacks.core.query_trace import Trace
from robustkit.attacks.unrestricted.spatial import moved

SMALL = {"angles": 5, "shifts": 3}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("side", [7, 8])
def test_a_quarter_turn_is_a_quarter_turn(side: int, dtype: torch.dtype) -> None:
    x = torch.rand(3, 2, side, side, dtype=dtype)
    for quarters in (-1, 1, 2):
        expected = x.rot90(quarters, (2, 3))
        torch.testing.assert_close(moved(x, 90 * quarters, 0, 0), expected, atol=1e-5, rtol=0)


def test_nothing_to_do_is_the_picture_itself() -> None:
    x = torch.rand(3, 2, 8, 6)
    assert torch.equal(moved(x, 0, 0, 0), x)


def test_a_shift_by_whole_pixels_moves_them_and_lets_black_in() -> None:
    x = torch.rand(2, 1, 5, 10)
    out = moved(x, 0, 0.2, -0.4)  # two pixels right, two up
    torch.testing.assert_close(out[:, :, :3, 2:], x[:, :, 2:, :8], atol=1e-5, rtol=0)
    assert float(out[:, :, 3:].max()) < 1e-5
    assert float(out[:, :, :, :2].max()) < 1e-5


@pytest.mark.parametrize("degrees", [-20.0, 13.0, 30.0])
def test_a_turn_is_scipys(degrees: float) -> None:
    """Of a picture that is not square; black around it, so that the two treat the edge alike."""
    x = torch.zeros(1, 1, 16, 24, dtype=torch.float64)
    x[:, :, 4:12, 5:19] = torch.rand(8, 14)
    expected = ndimage.rotate(x[0, 0].numpy(), degrees, reshape=False, order=1)
    torch.testing.assert_close(moved(x, degrees, 0, 0)[0, 0], torch.from_numpy(expected), atol=1e-6, rtol=0)


def test_the_grid_is_the_papers_mildest_first() -> None:
    moves = Spatial().moves()
    assert len(moves) == len(set(moves)) == 31 * 5 * 5
    assert moves[0] == (0, 0, 0)
    assert {round(angle) for angle, _, _ in moves} == set(range(-30, 31, 2))
    strength = [max(abs(a) / 30, abs(r) / 0.1, abs(d) / 0.1) for a, r, d in moves]
    assert strength == sorted(strength)
    assert Spatial(angles=1, shifts=1).moves() == [(0, 0, 0)]


class Upright(nn.Module):
    """Right as long as the upper left quarter is brighter than the others."""

    def forward(self, x: Tensor) -> Tensor:
        quarters = nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)
        return torch.stack([quarters[:, 0], quarters[:, 1:].amax(1)], 1)


def test_it_comes_back_in_the_mildest_form_that_breaks_it() -> None:
    x = torch.zeros(2, 1, 16, 16)
    x[:, :, 2:7, 2:7] = 1
    y = torch.zeros(2, dtype=torch.int64)
    attack = Spatial(degrees=90, angles=19, shifts=1)
    adv = attack(Upright(), x, y)
    turns = [bool(wrong(Upright(), moved(x, a, 0, 0), y)[0]) for a, _, _ in attack.moves()]
    first = attack.moves()[turns.index(True)]
    torch.testing.assert_close(adv, moved(x, *first))
    assert abs(first[0]) < 90


def test_without_early_stop_the_worst_of_the_grid_is_found(trained: Trained) -> None:
    net, x, y = trained
    attack = Spatial(**SMALL, early_stop=False)
    trace = Trace(len(x))
    adv = attack(net, x, y, trace=trace)
    points = [moved(x, *move) for move in attack.moves()]
    with torch.no_grad():
        gaps = [z.gather(1, y[:, None])[:, 0] - z.scatter(1, y[:, None], -torch.inf).amax(1) for z in map(net, points)]
        z = net(adv)
    best = torch.stack(gaps).amin(0)
    got = z.gather(1, y[:, None])[:, 0] - z.scatter(1, y[:, None], -torch.inf).amax(1)
    torch.testing.assert_close(got, best, atol=1e-5, rtol=0)
    some = torch.stack(list(trace.cells.values()))
    assert len(some) == 3 * 2  # three sizes of angle by two of shift
    assert torch.equal(some.any(0), best < 0)
    assert torch.equal(trace.cells["0 degrees", "0.00%"], wrong(net, x, y))


def test_the_queries_are_the_grid(trained: Trained) -> None:
    for early_stop in (False, True):
        net, trace = Counting(conv_net().eval()), Trace(64)
        model = Classifier(net)
        Spatial(**SMALL, early_stop=early_stop)(model, trained.x, trained.y, trace=trace)
        assert net.forwards == model.forwards == int(trace.forwards.sum())
        assert model.backwards == 0
        assert early_stop or net.forwards == 64 * 45
        assert bool(trace.cells) != early_stop


def test_a_row_does_not_depend_on_its_batch(trained: Trained) -> None:
    net, x, y = trained
    whole = Spatial(**SMALL)(net, x, y)
    parts = torch.cat([Spatial(**SMALL)(net, x[i : i + 7], y[i : i + 7]) for i in range(0, 64, 7)])
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)


def test_a_target_is_reached_by_turning() -> None:
    x = torch.zeros(1, 1, 16, 16)
    x[:, :, 2:7, 2:7] = 1
    net = Upright()
    adv = Spatial(degrees=90)(net, x, torch.tensor([0]), target=torch.tensor([1]))
    assert int(net(adv).argmax(1)) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"degrees": 0}, "degrees must be a positive number of at most 180, got 0"),
        ({"degrees": 200}, "degrees must be"),
        ({"shift": 1.5}, "shift must be a positive number of at most 1"),
        ({"angles": 0}, "angles must be a whole number"),
        ({"shifts": 2.0}, "shifts must be a whole number"),
        ({"early_stop": None}, "early_stop is True or False"),
    ],
)
def test_wrong_parameters_are_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        Spatial(**settings)
    assert "\n" not in str(raised.value)


def test_rows_that_are_no_pictures_are_refused() -> None:
    net = nn.Linear(16, 2)
    with pytest.raises(ValueError, match=r"needs pictures \[B, C, H, W\], got rows of shape \(16,\)"):
        Spatial()(net, torch.rand(3, 16), torch.zeros(3, dtype=torch.int64))
