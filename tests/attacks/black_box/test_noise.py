"""Noise: its size, its shape, its draws."""

from __future__ import annotations

import pytest
import torch
from attack_models import NORMS, Counting, Trained, conv_net, linear, wrong
from torch import Tensor, nn

from robustkit.attacks import BIM, Attack, Classifier, GaussianNoise, UniformNoise
from robustkit.attacks.core.query_trace import Trace
from robustkit.attacks.geometry import norms

KINDS = (GaussianNoise, UniformNoise)
EPS = {"linf": 0.2, "l2": 0.4, "l1": 2.0}
Y = torch.zeros(64, dtype=torch.int64)


def middle(rows: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.full((rows, *shape), 0.5, dtype=dtype)


def never_fooled(pixels: int) -> nn.Module:
    return linear(torch.zeros(2, pixels), torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", [(16,), (1, 8, 8), (3, 5, 7)])
@pytest.mark.parametrize("norm", NORMS)
def test_gaussian_noise_is_as_large_as_allowed(norm: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = middle(5, *shape, dtype=dtype)
    net = never_fooled(x[0].numel()).to(dtype)
    r = GaussianNoise(norm=norm, eps=EPS[norm])(net, x, Y[:5]) - x
    torch.testing.assert_close(norms.get(norm).size(r), torch.full((5,), EPS[norm], dtype=dtype), atol=1e-5, rtol=0)


def test_gaussian_noise_has_no_favourite_direction() -> None:
    x = middle(2000, 1, 2, 2)
    r = GaussianNoise(norm="l2", eps=0.4, draws=1)(never_fooled(4), x, torch.zeros(2000, dtype=torch.int64)) - x
    spread = r.flatten(1).T @ r.flatten(1) / 2000
    torch.testing.assert_close(spread, torch.eye(4) * 0.4**2 / 4, atol=0.004, rtol=0)


def test_uniform_noise_fills_the_ball_evenly() -> None:
    x, y = middle(2000, 1, 2, 2), torch.zeros(2000, dtype=torch.int64)
    flat = (UniformNoise(eps=0.4, draws=1)(never_fooled(4), x, y) - x).flatten()
    counts = torch.histc(flat, 10, -0.4, 0.4) / len(flat)
    torch.testing.assert_close(counts, torch.full((10,), 0.1), atol=0.01, rtol=0)
    sizes = norms.get("l2").size(UniformNoise(norm="l2", eps=0.4, draws=1)(never_fooled(4), x, y) - x)
    assert float((sizes <= 0.2).float().mean()) == pytest.approx(1 / 16, abs=0.015)  # (1/2)^4 of the volume


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_is_a_matter_of_seed_and_id(kind: type[Attack]) -> None:
    x, ids, attack, net = torch.rand(8, 1, 4, 4), torch.arange(8) * 7, kind(eps=0.1), never_fooled(16)
    whole = attack(net, x, Y[:8], ids=ids, seed=3)
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    assert torch.equal(attack(net, x[order], Y[:8], ids=ids[order], seed=3), whole[order])
    assert torch.equal(attack(net, x[5:6], Y[:1], ids=ids[5:6], seed=3), whole[5:6])
    for other in (attack(net, x, Y[:8], ids=ids, seed=4), attack(net, x, Y[:8], ids=ids + 1, seed=3)):
        assert not bool((other == whole).flatten(1).all(1).any())


@pytest.mark.parametrize("kind", KINDS)
def test_the_queries_are_the_draws(trained: Trained, kind: type[Attack]) -> None:
    for early_stop in (False, True):
        net = Counting(conv_net().eval())
        trace, model = Trace(64), Classifier(net)
        kind(eps=0.3, draws=7, early_stop=early_stop)(model, trained.x, trained.y, trace=trace)
        assert net.forwards == model.forwards == int(trace.forwards.sum())
        assert model.backwards == 0
        assert early_stop or net.forwards == 7 * 64


@pytest.mark.parametrize("kind", KINDS)
def test_more_draws_only_help_and_no_draw_helps_like_an_attack(trained: Trained, kind: type[Attack]) -> None:
    net, x, y = trained
    fooled = [wrong(net, kind(eps=0.25, draws=n)(net, x, y), y) for n in (1, 10, 50)]
    assert bool((fooled[0] <= fooled[1]).all())
    assert bool((fooled[1] <= fooled[2]).all())
    assert int(fooled[2].sum()) < int(wrong(net, BIM(eps=0.25)(net, x, y), y).sum())


def test_labels_are_enough(trained: Trained) -> None:
    net, x, y = trained

    def answer(points: Tensor) -> Tensor:
        with torch.no_grad():
            return net(points).argmax(1)

    adv = GaussianNoise(eps=0.5, draws=20)(Classifier(answer, outputs="labels", classes=5), x, y)
    same = GaussianNoise(eps=0.5, draws=20)(net, x, y)
    assert torch.equal(wrong(net, adv, y), wrong(net, same, y))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"draws": 0}, "draws must be a whole number of at least 1, got 0"),
        ({"draws": 2.5}, "draws must be a whole number"),
        ({"eps": 0}, "eps must be a positive number"),
        ({"norm": "l0"}, "norm is one of"),
        ({"early_stop": 1}, "early_stop is True or False"),
    ],
)
def test_wrong_parameters_are_one_line(kind: type[Attack], settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        kind(**settings)
    assert "\n" not in str(raised.value)
