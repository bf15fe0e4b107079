"""The answers of a converted network held against onnxruntime's, on random and on real pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robustkit.data.folders import package_folder
from robustkit.data.pictures import Preprocess, load_picture
from robustkit.models.onnx.conversion import Unconvertible
from robustkit.models.onnx.entrance import Entrance
from robustkit.text import one_line

EXACT = 1e-4  # by which logits may differ, of the largest
HALF = 2e-2  # where the graph rounds to half precision between its layers, and the network does not
_EACH = 2  # random pictures, and real ones


def pictures(shape: tuple[int, int, int]) -> Tensor:
    """Random pictures, then photographs where they have as many channels: float32 [B, C, H, W] in [0,1]."""
    channels, height, width = shape
    x = torch.rand(_EACH, channels, height, width, generator=torch.Generator().manual_seed(0))
    if channels not in (1, 3):
        return x
    files = sorted((package_folder("foolbox") / "data").glob("imagenet_*_*.jpg"))[:_EACH]
    wanted = Preprocess((height, width), channels)
    return torch.cat([x, *(load_picture(file, wanted)[None] for file in files)])


def difference(net: nn.Module, session: nn.Module, entrance: Entrance, x: Tensor, tolerance: float) -> float:
    """How far the network's logits are from the session's at most, of the largest logit.

    They are compared on the pictures x in [0,1], the last of them alone too; unless the graph takes bytes also with
    mean and standard deviation of photographs taken off, and times 255, as other graphs expect theirs.

    Args:
        net: the converted network, its input included.
        session: onnxruntime.
        entrance: the input.
        x: pictures.
        tolerance: the most that is allowed.

    Raises:
        Unconvertible: more than that, or no logits, or no gradient.
    """
    largest = 0.0
    few = x[1:3]  # one of each kind
    for number, batch in enumerate([x] if entrance.bytes else [x, (few - 0.45) / 0.225, few * 255]):
        wanted = session(batch).double()
        if number and not bool(torch.isfinite(wanted).all()):
            continue  # this graph does not expect such numbers
        largest = max(largest, _apart(net, batch, wanted), 0.0 if number else _apart(net, x[-1:], wanted[-1:], True))
    if not largest <= tolerance:
        raise Unconvertible(
            f"the converted network's logits are {largest:.1g} of the largest away from onnxruntime's, above "
            f"{tolerance:g}"
        )
    return largest


def _apart(net: nn.Module, x: Tensor, wanted: Tensor, back: bool = False) -> float:
    """The difference of the logits on x, of the largest; with `back` they must lead back to x."""
    point = x.clone().requires_grad_(back)
    gradient: Tensor | None = None
    try:
        with torch.set_grad_enabled(back):
            found = net(point)
            if not isinstance(found, Tensor) or found.shape != wanted.shape:
                raise Unconvertible("the converted network gives outputs of another shape")
            found = found.double()
            if found.requires_grad:
                (gradient,) = torch.autograd.grad(found.sum(), point, allow_unused=True)
    except Unconvertible:
        raise
    except Exception as error:  # whatever a converted operator raises
        raise Unconvertible(f"the converted network fails ({one_line(error)})") from None
    if back and gradient is None:
        raise Unconvertible("its logits do not depend on the picture through differentiable operators")
    apart = (found.detach() - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12)
    return float(apart.nan_to_num(nan=torch.inf))
