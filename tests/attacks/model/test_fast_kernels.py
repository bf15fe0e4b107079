"""2×2 max-pooling under the mode is PyTorch's own, bit for bit, whatever the map; anything else is left to PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustkit import load_model
from robustkit.attacks import Classifier
from robustkit.attacks.model import fast_kernels
from robustkit.attacks.model.fast_kernels import Kernels

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
SHAPES = [(3, 6, 28, 28), (2, 16, 10, 10), (1, 1, 2, 2), (2, 33, 4, 6), (5, 3, 2, 8)]


def maps(shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> dict[str, Tensor]:
    """Maps with and without ties, infinities and zeros of both signs."""
    draw = torch.Generator().manual_seed(0)
    normal = torch.randn(shape, generator=draw)
    kinds = {
        "normal": normal,
        "rectified": normal.relu(),
        "ties": torch.randint(0, 2, shape, generator=draw).float(),
        "one value": torch.ones(shape),
        "infinite": torch.where(normal > 1, torch.inf, torch.where(normal < -1, -torch.inf, normal)),
        "signed zeros": torch.where(normal > 0, 0.0, -0.0),
    }
    return {name: kind.to(dtype).contiguous(memory_format=layout) for name, kind in kinds.items()}


def both(x: Tensor, pool: nn.Module | None = None) -> list[tuple[Tensor, Tensor]]:
    """Values and gradients, pooled by PyTorch and under the mode."""
    out = []
    for mode in (None, Kernels()):
        point = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        if mode is None:
            y = F.max_pool2d(point, 2) if pool is None else pool(point)
        else:
            with mode:
                y = F.max_pool2d(point, 2) if pool is None else pool(point)
        weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
        out.append((y.detach(), torch.autograd.grad(y, point, weights)[0]))
    return out


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_values_and_gradients_are_those_of_pytorch(shape, dtype, layout) -> None:
    for name, x in maps(shape, dtype, layout).items():
        (theirs, their_gradient), (ours, our_gradient) = both(x)
        assert torch.equal(ours, theirs), name
        assert ours.dtype == theirs.dtype
        assert torch.equal(our_gradient, their_gradient), name
        assert our_gradient.dtype == their_gradient.dtype
        with torch.no_grad(), Kernels():
            assert torch.equal(F.max_pool2d(x, 2), theirs), name


def test_not_a_number_goes_through() -> None:
    x = torch.rand(2, 3, 4, 4)
    x[0, 1, 2, 3] = torch.nan
    with Kernels():
        ours = F.max_pool2d(x, 2)
    assert int(ours.isnan().sum()) == 1
    assert torch.equal(ours.isnan(), F.max_pool2d(x, 2).isnan())


@pytest.mark.parametrize(
    ("pool", "ours"),
    [
        (nn.MaxPool2d(2), True),
        (nn.MaxPool2d((2, 2), (2, 2), ceil_mode=True), True),
        (nn.MaxPool2d(2, 1), False),
        (nn.MaxPool2d(3), False),
        (nn.MaxPool2d(3, 2, 1), False),
        (nn.MaxPool2d((2, 1)), False),
        (nn.MaxPool2d(2, 2, 1), False),
        (nn.MaxPool2d(2, 2, dilation=2), False),
        (nn.AvgPool2d(2), False),
    ],
    ids=str,
)
def test_what_is_replaced_and_what_is_not(pool: nn.Module, ours: bool) -> None:
    x = torch.randn(2, 3, 12, 12)
    (theirs, their_gradient), (value, gradient) = both(x, pool)
    assert torch.equal(value, theirs)
    assert torch.equal(gradient, their_gradient)
    mode = Kernels()
    with mode:
        pool(x)
    assert mode.used is ours


def test_odd_maps_unbatched_maps_and_indices_are_left_to_pytorch() -> None:
    mode = Kernels()
    with mode:
        assert F.max_pool2d(torch.rand(1, 1, 5, 4), 2).shape == (1, 1, 2, 2)
        assert F.max_pool2d(torch.rand(1, 1, 5, 4), 2, ceil_mode=True).shape == (1, 1, 3, 2)
        assert F.max_pool2d(torch.rand(3, 4, 4), 2).shape == (3, 2, 2)
        values, indices = F.max_pool2d(torch.rand(1, 1, 4, 4), 2, return_indices=True)
        assert values.shape == indices.shape
        assert torch.max_pool2d(torch.rand(1, 1, 4, 5), [2, 2], [2, 2], [0, 0], [1, 1], False).shape == (1, 1, 2, 2)
    assert mode.used is False


def test_a_batch_that_does_not_pool_is_looked_through_once() -> None:
    x = torch.rand(300, 3, 6, 6)
    for net, used in ((nn.Sequential(nn.Flatten(), nn.Linear(108, 4)), False), (Pooled(), True)):
        model = Classifier(net)
        model.logits(x[:2])
        assert model._kernels.used is None  # too few to be worth it
        model.logits(x)
        assert model._kernels.used is used
        assert model._kernels.worth(x) is used


def test_a_compiled_network_is_left_alone() -> None:
    net = Pooled()
    assert Kernels(net).used is None
    assert Kernels(torch.compile(nn.Sequential(net), backend="eager")).used is False
    net.compile(backend="eager")
    assert Kernels(nn.Sequential(net)).used is False


class Pooled(nn.Module):
    """Pools what it is given, by the function that takes all by name."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.max_pool2d(input=x, kernel_size=2).flatten(1)


def test_a_whole_network_answers_the_same_bit_for_bit(monkeypatch) -> None:
    model, x = load_model("lenet-mnist", precision="fp32"), torch.rand(64, 1, 28, 28)
    answers = []
    for worth in (0, 10**12):
        monkeypatch.setattr(fast_kernels, "_WORTH", worth)
        answers.append((model.logits(x), *model.gradient(x, lambda logits: logits.logsumexp(1))))
    *ours, our_gradient = answers[0]
    *theirs, their_gradient = answers[1]
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert torch.allclose(our_gradient, their_gradient, rtol=0, atol=1e-6 * float(their_gradient.abs().max()))
