"""Faults to build into an honest LeNet-5: each a module around it.

Their sizes are such that what a fault adds to the network changes what the network is worth as little as it can: an
attack that sees through the fault then finds what it finds on the honest network, and nothing else hides the fault.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F


class Stage(nn.Module):
    """A fault before the network (`enter`) or after it (`leave`)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def enter(self, x: Tensor) -> Tensor:
        return x

    def leave(self, logits: Tensor) -> Tensor:
        return logits

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.net(self.enter(x)))


class Saturated(Stage):
    def leave(self, logits: Tensor) -> Tensor:
        return 1000 * logits


class Faint(Stage):
    """Of such logits the cross-entropy tells no rival from another."""

    def leave(self, logits: Tensor) -> Tensor:
        return logits / 10_000


class Softmax(Stage):
    def leave(self, logits: Tensor) -> Tensor:
        return logits.softmax(1)


class Sigmoid(Stage):
    def leave(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


class Cold(Stage):
    def leave(self, logits: Tensor) -> Tensor:
        return (logits / 1e-3).softmax(1)


class Quantised(Stage):
    def enter(self, x: Tensor) -> Tensor:
        return (x * 20).round() / 20


class Detached(Stage):
    """The network is detached; a decoy of no weight has the gradient."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.decoy = nn.Linear(784, 10, bias=False)
        with torch.no_grad():
            self.decoy.weight.copy_(1e-3 * torch.randn(10, 784, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).detach() + self.decoy(x.flatten(1))


class NoisyLogits(Stage):
    def leave(self, logits: Tensor) -> Tensor:
        return logits + 3 * torch.randn_like(logits)


class NoisyInput(Stage):
    def enter(self, x: Tensor) -> Tensor:
        return x + 0.12 * torch.randn_like(x)


class Dropout(Stage):
    def enter(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.25, training=True)


class NeverEval(Stage):
    """eval() does not reach the dropout in it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.drop = nn.Dropout(0.3)

    def train(self, mode: bool = True) -> NeverEval:
        super().train(mode)
        self.drop.train(True)
        return self

    def enter(self, x: Tensor) -> Tensor:
        return self.drop(x)


class BatchStatistics(Stage):
    """Logits normalised by the mean and deviation of the batch."""

    def leave(self, logits: Tensor) -> Tensor:
        return 10 * (logits - logits.mean(0)) / (logits.std(0, unbiased=False) + 1e-3)


class RunningStatistics(Stage):
    """The same with the mean and deviation of some pictures, once and for all: what `BatchStatistics` is to be."""

    def __init__(self, net: nn.Module, x: Tensor) -> None:
        super().__init__(net)
        with torch.no_grad():
            logits = net(x)
        self.register_buffer("mean", logits.mean(0))
        self.register_buffer("deviation", logits.std(0, unbiased=False))

    def leave(self, logits: Tensor) -> Tensor:
        return 10 * (logits - self.mean) / (self.deviation + 1e-3)


class Adapting(Stage):
    """Shifts each picture by a mean brightness that it learns from its queries."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.register_buffer("brightness", torch.tensor(0.14))

    def enter(self, x: Tensor) -> Tensor:
        self.brightness += 0.1 * (x.detach().mean() - self.brightness)
        return x - self.brightness + 0.14


def jpeg(x: Tensor, quality: int = 95) -> Tensor:
    def saved(picture: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))

    levels = (x.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return torch.stack([torch.tensor(saved(one[0]))[None] for one in levels]).to(x) / 255


class Jpeg(Stage):
    """A stage outside autograd, kept in the graph by a product with 0."""

    def enter(self, x: Tensor) -> Tensor:
        return jpeg(x) + 0 * x


class OpaqueJpeg(Stage):
    def enter(self, x: Tensor) -> Tensor:
        return jpeg(x)


class MajorityVote(Stage):
    """The most frequent of the answers to five shifted and noisy copies."""

    def forward(self, x: Tensor) -> Tensor:
        votes = torch.zeros(len(x), 10, dtype=x.dtype, device=x.device)
        for _ in range(5):
            down, right = (int(torch.randint(-1, 2, ())) for _ in range(2))
            logits = self.net(x.roll((down, right), (2, 3)) + 0.22 * torch.randn_like(x))
            votes = votes + F.one_hot(logits.argmax(1), 10) + 0 * logits
        return votes


class Purifier(Stage):
    """Smooths each picture by ten gradient steps on its total variation before the network sees it."""

    def enter(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            clean = x.detach().clone().requires_grad_()
            for _ in range(10):
                across, down = clean.diff(dim=3), clean.diff(dim=2)
                roughness = (across**2 + 1e-3).sqrt().sum() + (down**2 + 1e-3).sqrt().sum()
                loss = 0.01 * roughness + 0.5 * ((clean - x.detach()) ** 2).sum()
                (slope,) = torch.autograd.grad(loss, clean)
                clean = (clean - 0.3 * slope).detach().requires_grad_()
        return clean.detach() + 0 * x


class NeverNormalised(Stage):
    """A network for pixels in [-1,1] that is given pixels in [0,1]."""

    def enter(self, x: Tensor) -> Tensor:
        return 0.5 * x + 0.5  # the layer that takes [-1,1] back to what the network learnt


class DividedTwice(Stage):
    def enter(self, x: Tensor) -> Tensor:
        return x / 255


class Steps(Stage):
    """The first layer's activations in steps of a fifth."""

    def forward(self, x: Tensor) -> Tensor:
        net = self.net
        x = F.max_pool2d((20 * F.relu(net.conv1(x))).round() / 20, 2)
        x = F.max_pool2d(F.relu(net.conv2(x)), 2)
        return net.fc3(F.relu(net.fc2(F.relu(net.fc1(x.flatten(1))))))


class KWinners(Stage):
    """Of the activations of either convolution the largest quarter of each picture's alone."""

    def forward(self, x: Tensor) -> Tensor:
        net = self.net
        x = F.max_pool2d(self.winners(F.relu(net.conv1(x))), 2)
        x = F.max_pool2d(self.winners(F.relu(net.conv2(x))), 2)
        return net.fc3(F.relu(net.fc2(F.relu(net.fc1(x.flatten(1))))))

    @staticmethod
    def winners(x: Tensor) -> Tensor:
        flat = x.flatten(1)
        least = flat.topk(flat.shape[1] // 4, dim=1).values[:, -1:, None, None]
        return torch.where(x >= least, x, 0)


class Ripple(Stage):
    """A fast wave over the logits: right gradients that lead nowhere."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        draws = torch.randn(10, 784, generator=torch.Generator().manual_seed(0))
        self.register_buffer("waves", 300 * draws / draws.norm(dim=1, keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x) + 3 * (x.flatten(1) @ self.waves.T).sin()


class _Flip(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


class Flipped(Stage):
    def enter(self, x: Tensor) -> Tensor:
        return _Flip.apply(x)


class SquareRoot(Stage):
    """A square root at 0 whose infinite slope meets a 0."""

    def enter(self, x: Tensor) -> Tensor:
        return x + 0 * x.sqrt()
