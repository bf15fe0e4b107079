"""The memory layout in which a network is attacked: channels_last, the faster one for convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_SIGNS = ("can't allocate memory", "not enough memory", "bad allocation", "bad_alloc")


def out_of_memory(error: BaseException) -> bool:
    """True of a failure for want of memory: torch has a class for it on a GPU, and a message on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


class Layout:
    """Lays a network's convolution weights out in channels_last while it is attacked, and its inputs.

    The weights are the user's: `back` restores the very tensors that were there. A forward that calls `.view()` on what
    comes out of a convolution fails in this layout; after the first failure it is given up for good.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.wanted = any(parameter.dim() == 4 for parameter in net.parameters())  # there are convolutions
        self.before: list[tuple[nn.Parameter, Tensor]] = []

    def put(self) -> None:
        """Lay the weights out."""
        if not self.wanted:
            return
        for parameter in self.net.parameters():
            data = parameter.data
            if data.dim() != 4 or not data.is_floating_point() or parameter.is_inference():
                continue
            # By its strides: a kernel of a single channel says it is in both layouts, and convolves at half the speed.
            _, channels, height, width = data.shape
            if data.stride() != (channels * height * width, 1, width * channels, channels):
                self.before.append((parameter, data))
                parameter.data = data.clone(memory_format=torch.channels_last)

    def back(self) -> None:
        """Put the weights back as they were."""
        for parameter, data in self.before:
            parameter.data = data
        self.before = []

    def of(self, x: Tensor) -> Tensor:
        """A batch in the layout; one of a single channel is in both."""
        if not self.wanted or x.dim() != 4 or x.shape[1] == 1:
            return x
        return x.contiguous(memory_format=torch.channels_last)

    def give_up(self, error: BaseException) -> bool:
        """After a failure: whether there is anything left to give up that may have caused it."""
        if out_of_memory(error):
            return False
        given, self.wanted = self.wanted, False
        self.back()
        return given
