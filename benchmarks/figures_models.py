"""Files that `same_figures.py` audits: a LeNet-5 of the zoo as a state dict, the same with a fault before or behind it
as TorchScript, and pictures of noise with the labels that it gives them.

    python benchmarks/figures_models.py FOLDER
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robustkit import load_model


class Cold(nn.Module):
    """Answers with probabilities so sharp that their gradient vanishes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return (self.net(x) / 1e-3).softmax(1)


class Quantised(Cold):
    """Sees 21 levels of grey, which no gradient passes."""

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x * 20).round() / 20)


def main() -> None:
    folder = Path(sys.argv[1])
    net = load_model("lenet-mnist", device="cpu", precision="fp32", prepare=False).net.eval()
    torch.save(net.state_dict(), folder / "lenet.pt")
    (folder / "small.toml").write_text("size = 28\n")  # which TorchScript does not say
    x = torch.rand(24, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        np.savez(folder / "noise.npz", x=x.numpy(), y=net(x).argmax(1).numpy())
    warnings.simplefilter("ignore")  # torch calls TorchScript deprecated
    for kind in (Cold, Quantised):
        torch.jit.trace(kind(net).eval(), x[:2]).save(folder / f"{kind.__name__.lower()}.pt")


if __name__ == "__main__":
    main()
