"""Convolutions that go back another way give the gradient that PyTorch gives; all others are left to PyTorch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustkit.attacks import Classifier
from robustkit.attacks.model import fast_kernels
from robustkit.attacks.model.fast_conv2d import Convolution
from robustkit.attacks.model.fast_kernels import Kernels

# channels in, channels out, groups, kernel, stride, padding, height, width
THIN = [
    (1, 6, 1, 5, 1, 2, 28, 28),  # LeNet-5
    (3, 8, 1, 7, 2, 3, 32, 30),  # ResNet
    (3, 8, 1, 3, 2, 0, 33, 33),  # EfficientNet-Lite0, padded before
    (3, 8, 1, 11, 4, 2, 35, 40),  # AlexNet
    (3, 8, 1, 16, 16, 0, 32, 48),  # ViT
    (3, 8, 1, 3, 1, 1, 9, 13),  # VGG
    (4, 5, 1, 2, 3, 1, 11, 10),  # gaps between the windows, and rows that none reaches
    (2, 5, 1, 4, 1, 3, 7, 6),
    (1, 2, 1, 3, 5, 2, 12, 12),
]
DEPTHWISE = [
    (8, 8, 8, 3, 1, 1, 14, 14),
    (8, 8, 8, 5, 1, 0, 18, 18),
    (8, 8, 8, 3, 2, 0, 29, 29),
    (8, 8, 8, 5, 2, 2, 14, 13),
    (4, 8, 4, 3, 1, 1, 9, 9),
    (4, 12, 4, 3, 2, 1, 9, 10),
]


def both(case: tuple[int, ...], dtype: torch.dtype, autocast: bool = False) -> list[tuple[Tensor, Tensor]]:
    """Values and gradients of one convolution: PyTorch's in double precision, PyTorch's, and under the mode."""
    inputs, outputs, groups, kernel, stride, padding, height, width = case
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(3, inputs, height, width, generator=draw)
    weight, bias = torch.randn(outputs, inputs // groups, kernel, kernel, generator=draw), torch.randn(outputs)
    out = []
    for precise, mode in ((True, None), (False, None), (False, Kernels())):
        kind = torch.float64 if precise else dtype
        point = x.to(kind).contiguous(memory_format=torch.channels_last).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast and not precise):
            if mode is None:
                y = F.conv2d(point, weight.to(kind), bias.to(kind), stride, padding, 1, groups)
            else:
                with mode:
                    y = F.conv2d(point, weight.to(kind), bias.to(kind), stride, padding, 1, groups)
                assert mode.used
        gradient = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
        out.append((y.detach(), torch.autograd.grad(y, point, gradient)[0]))
    return out


@pytest.mark.parametrize("case", THIN + DEPTHWISE, ids=str)
def test_the_gradient_is_that_of_pytorch(case) -> None:
    (_, gradient), (theirs, _), (ours, our_gradient) = both(case, torch.float64)
    assert torch.equal(ours, theirs)
    assert torch.allclose(our_gradient, gradient, rtol=0, atol=1e-13 * float(gradient.abs().max()))
    (_, _), (theirs, their_gradient), (ours, our_gradient) = both(case, torch.float32)
    assert torch.equal(ours, theirs)
    assert our_gradient.dtype == their_gradient.dtype
    assert our_gradient.shape == their_gradient.shape
    assert torch.allclose(our_gradient.double(), gradient, rtol=0, atol=1e-5 * float(gradient.abs().max()))


@pytest.mark.parametrize("case", THIN + DEPTHWISE, ids=str)
def test_in_bf16_it_rounds_no_more_than_pytorch_does(case) -> None:
    (_, exact), (theirs, their_gradient), (ours, our_gradient) = both(case, torch.float32, autocast=True)
    assert theirs.dtype == ours.dtype == torch.bfloat16
    assert torch.equal(ours, theirs)
    assert our_gradient.dtype == torch.float32  # as the input is
    off, their_off = (float((found - exact).norm() / exact.norm()) for found in (our_gradient, their_gradient))
    assert off <= 1.2 * their_off + 1e-4


@pytest.mark.parametrize(
    ("conv", "ours"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), True),
        (nn.Conv2d(3, 8, 3, padding="same"), False),
        (nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), True),
        (nn.Conv2d(3, 8, 1), False),
        (nn.Conv2d(3, 8, (3, 5)), False),
        (nn.Conv2d(3, 8, 3, stride=(1, 2)), False),
        (nn.Conv2d(3, 8, 3, dilation=2), False),
        (nn.Conv2d(3, 8, 3, padding=3), False),
        (nn.Conv2d(3, 3, 3, groups=3, bias=False), True),
        (nn.ConvTranspose2d(3, 8, 3), False),
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=4)), False),
    ],
    ids=str,
)
def test_what_is_replaced_and_what_is_not(conv: nn.Module, ours: bool) -> None:
    conv.requires_grad_(False)
    x = torch.randn(2, 3, 12, 11, requires_grad=True)
    mode = Kernels()
    with mode:
        y = conv(x)
    assert mode.used is ours
    gradient = torch.randn_like(y)
    given, wanted = (torch.autograd.grad(out, x, gradient)[0] for out in (y, conv(x)))
    assert torch.allclose(given, wanted, atol=1e-5)


def test_weights_that_are_trained_and_single_pictures_are_left_to_pytorch() -> None:
    x, weight = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
    assert Convolution.of(x, weight) is not None
    assert Convolution.of(x, weight.clone().requires_grad_()) is None
    assert Convolution.of(x, weight, torch.zeros(4, requires_grad=True)) is None
    assert Convolution.of(x[0], weight) is None
    assert Convolution.of(x.to("meta"), weight) is None


def test_a_gradient_of_the_gradient_is_right_as_well() -> None:
    x = torch.rand(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 1, 3, 3, dtype=torch.float64)

    def convolved(x: Tensor) -> Tensor:
        with Kernels():
            return F.conv2d(x, weight, None, 2, 1).square()

    assert torch.autograd.gradcheck(convolved, x)
    assert torch.autograd.gradgradcheck(convolved, x)


class Stem(nn.Module):
    """A first layer and two depthwise ones, as a mobile network has them."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1),
            nn.ReLU6(),
            nn.Conv2d(16, 16, 3, 1, 1, groups=16),
            nn.ReLU6(),
            nn.Conv2d(16, 16, 5, 2, 2, groups=16),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_whole_network_has_the_gradient_it_had(monkeypatch, precision) -> None:
    torch.manual_seed(0)
    model, x = Classifier(Stem(), mean=0.5, std=0.25, precision=precision), torch.rand(16, 3, 32, 32)
    answers = []
    for worth in (0, 10**12):
        monkeypatch.setattr(fast_kernels, "_WORTH", worth)
        answers.append((model.logits(x), *model.gradient(x, lambda logits: logits.logsumexp(1))))
    (ours, _, _, our_gradient), (theirs, _, _, their_gradient) = answers
    assert torch.equal(ours, theirs)
    limit = 1e-5 if precision == "fp32" else 0.02
    assert float((our_gradient - their_gradient).norm()) <= limit * float(their_gradient.norm())
    assert all(parameter.requires_grad for parameter in model.net.parameters())
