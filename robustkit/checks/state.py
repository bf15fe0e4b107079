"""Put back whatever a query may change: a network's weights and buffers, and the global random generators."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ModuleState:
    """Weights and buffers of a network as they were.

    Args:
        net: the network.
        values: by name, the tensor and a copy of its values.
        whole: `values` holds all of them, so that one that joined the network later is removed again.

    >>> net = nn.BatchNorm1d(2)
    >>> state = ModuleState.of(net)
    >>> _ = net(torch.randn(8, 2))
    >>> state.changed()
    ['num_batches_tracked', 'running_mean', 'running_var']
    >>> state.restore()
    >>> state.changed(), int(net.num_batches_tracked)
    ([], 0)
    """

    net: nn.Module
    values: dict[str, tuple[Tensor, Tensor]]
    whole: bool = True

    @classmethod
    def of(cls, net: nn.Module) -> ModuleState:
        """Copy every weight and buffer."""
        return cls(net, {name: (tensor, tensor.detach().clone()) for name, tensor in _tensors(net)})

    def only(self, names: Iterable[str]) -> ModuleState:
        """Those of the given names; names that are not in it are left out."""
        return ModuleState(self.net, {name: self.values[name] for name in names if name in self.values}, whole=False)

    def changed(self) -> list[str]:
        """Names of the weights and buffers that are no longer what they were."""
        now = dict(_tensors(self.net))
        names = now.keys() | self.values.keys() if self.whole else self.values.keys()
        return sorted(
            name
            for name in names
            if name not in now or name not in self.values or not _same(now[name], self.values[name][1])
        )

    @torch.no_grad()
    def restore(self) -> None:
        """Undo what `changed` lists, in the very tensors that were there."""
        for name in self.changed():
            owner, _, key = name.rpartition(".")
            module = self.net.get_submodule(owner)
            if name not in self.values:
                delattr(module, key)
                continue
            tensor, values = self.values[name]
            tensor.copy_(values)
            if getattr(module, key, None) is not tensor:
                setattr(module, key, tensor)


def reseed(seed: int) -> None:
    """Seed the global random generators of torch, NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextmanager
def untouched_random_state() -> Iterator[None]:
    """Leave the global random generators of torch, NumPy and Python as they were."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    cpu, array, plain = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        np.random.set_state(array)
        random.setstate(plain)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


def _tensors(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from net.named_parameters()
    yield from net.named_buffers()


def _same(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and left.dtype == right.dtype and bool(torch.equal(left, right))
