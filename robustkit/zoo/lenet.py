"""LeNet-5 (LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class LeNet5(nn.Module):
    """[B, 1, 28, 28] -> logits [B, classes]; 61,706 weights for ten classes.

    The layers and widths of the paper on the digit padded to 32×32: convolutions to 6 and 16 maps, then 120,
    84 and the classes. Rectifiers, max-pooling, full connections and a linear output stand for the paper's
    squashed tangent, trainable averages, partial connection table and Gaussian units.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        out: Tensor = self.fc3(x)
        return out
