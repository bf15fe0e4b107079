"""Windows in pictures, and the bumps that fill them, for the Square attack."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..geometry import norms


class Frame(NamedTuple):
    """A picture [C, H, W], or a row of numbers as a picture of height 1."""

    channels: int
    height: int
    width: int

    @classmethod
    def of(cls, x: Tensor) -> Frame:
        return cls(*x.shape[1:]) if x.dim() == 4 else cls(1, 1, x.shape[1])

    def window(self, share: float, least: int) -> tuple[int, int]:
        """Height and width of a square with that share of the pixels, of a rectangle where the picture is too narrow;
        odd and no smaller than `least` where there is room."""
        area = share * self.height * self.width
        side = max(round(area**0.5), least)
        side += least > 1 and side % 2 == 0
        height, width = min(side, self.height), min(side, self.width)
        if height < side:
            width = min(self.width, max(width, round(area / height)))
        elif width < side:
            height = min(self.height, max(height, round(area / width)))
        return height, width


class Window(NamedTuple):
    """Shared data of all windows of one size."""

    height: int
    width: int
    room: Tensor  # [2], numbers of places down and across
    stride: Tensor  # int64 [2], of a place in [H * W]
    offsets: Tensor  # int64 [h * w], of its pixels from the first
    bumps: tuple[Tensor, Tensor]  # [h * w], split across and down

    @classmethod
    def of(cls, frame: Frame, size: tuple[int, int], norm: norms.Norm, like: Tensor) -> Window:
        (height, width), device = size, like.device
        room = torch.tensor([frame.height - height + 1.0, frame.width - width + 1.0], device=device)
        down, across = torch.arange(height, device=device), torch.arange(width, device=device)
        offsets = (down[:, None] * frame.width + across).flatten()
        stride = torch.tensor([frame.width, 1], device=device)
        return cls(height, width, room=room, stride=stride, offsets=offsets, bumps=bumps(size, norm, like))

    def places(self, numbers: Tensor, channels: int) -> Tensor:
        """Place a window by two uniform numbers [B, 2]: its indices into [B, C, H * W], int64 [B, C, h * w]."""
        first = ((numbers * self.room).long() * self.stride).sum(1)
        return (first[:, None] + self.offsets)[:, None].expand(-1, channels, -1)


def bumps(window: tuple[int, int], norm: norms.Norm, like: Tensor) -> tuple[Tensor, Tensor]:
    """Two peaks of opposite sign in a window, one above the other and one beside the other, of size 1; [h * w]."""
    height, width = window
    pair = []
    for across in (True, False):
        long, wide = (height, width) if across else (width, height)
        halves = torch.cat([_peak(long // 2, wide), -_peak(long - long // 2, wide)])
        halves = (halves if across else halves.T).flatten()
        pair.append((halves / norm.size(halves[None])).to(like))
    return pair[0], pair[1]


def _peak(height: int, width: int) -> Tensor:
    """Squares about the middle, one upon the other, the k-th 1/k² high; float64, of L2 size 1."""
    down, across = ((torch.arange(n) - n // 2).abs() for n in (height, width))
    steps = torch.arange(1, max(height, width) // 2 + 2, dtype=torch.float64) ** -2
    heights = steps.flip(0).cumsum(0).flip(0)
    return norms.unit(heights[torch.maximum(down[:, None], across)].view(1, height, width))[0]
