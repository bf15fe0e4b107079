"""A model made faster before it is attacked, and the proof that it is still the same one."""

from __future__ import annotations

import copy
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from robustkit.attacks.model.channels_last import Layout
from robustkit.attacks.model.classifier import Classifier

_LOGITS = 1e-3  # by which logits may differ after folding, of their size
_WORTH = 1.15  # how many times faster another way must be to be taken
_ROUNDS = 5  # of the probe
_SECONDS = 0.8  # after which no further round of it begins
_FLOATS = 310_000  # input values of its batch at first: 2 photographs of 224×224
_ROWS = 16  # at first
_MOST = 256  # rows, if a gradient of them takes no longer than
_GRADIENT = 0.1  # seconds
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # exactly: a subclass may do more


@dataclass(frozen=True)
class Speedup:
    """Changes made to a model for speed.

    Args:
        folded: batch norms folded into the convolution before.
        difference: largest between a logit before folding and after.
        rows: of the batch that was timed.
        seconds: of a gradient of that batch, by how it was taken; empty where nothing was timed.
        way: precision and layout of gradients, such as "channels_last, bf16 gradients"; "" if nothing was decided.
        notes: how the model was read before all that.
    """

    folded: int = 0
    difference: float = 0.0
    rows: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    way: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line for a report; empty where nothing was done."""
        fold = f"batch norm folded ({self.folded})" if self.folded else ""
        rest = [f"{_time(seconds)} {way}" for way, seconds in self.seconds.items() if way != self.way]
        timed = ""
        if rest and self.way in self.seconds:
            timed = f": {_time(self.seconds[self.way])} a batch of {self.rows}, against {' and '.join(rest)}"
        agree = f"; logits differ by at most {self.difference:.1g}" if self.folded else ""
        speed = ", ".join(part for part in (fold, self.way) if part) + timed + agree
        return "; ".join(part for part in (*self.notes, speed) if part)


def fold(net: nn.Module) -> tuple[nn.Module, int]:
    """A copy of the network with each batch norm that follows a convolution folded into it, and how many were.

    Which follows which is read off a symbolic trace; of a network that cannot be traced, or that has none, it is the
    network itself that comes back, with 0. The network itself is never changed.
    """
    if not any(type(module) in _NORMS for module in net.modules()):
        return net, 0
    try:
        pairs = _pairs(net)
        folded = copy.deepcopy(net) if pairs else net
        for before, after in pairs:
            convolution: Any = folded.get_submodule(before)
            norm: Any = folded.get_submodule(after)
            _put(folded, before, fuse_conv_bn_eval(convolution, norm))
            _put(folded, after, nn.Identity())
    except Exception:  # tracing runs the network's own code on stand-ins, which may raise anything
        return net, 0
    return folded, len(pairs)


class _Tracer(fx.Tracer):
    """Keeps a convolution in one piece even where it is a subclass, such as one that pads."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _CONVOLUTIONS) or super().is_leaf_module(m, module_qualified_name)


def _pairs(net: nn.Module) -> list[tuple[str, str]]:
    """Names of convolutions and of the batch norms that alone take what comes out of them; each is used once."""
    nodes = [node for node in _Tracer().trace(net).nodes if node.op == "call_module"]
    modules = dict(net.named_modules(remove_duplicate=False))
    used = Counter(id(modules[node.target]) for node in nodes)
    pairs = []
    for node in nodes:
        norm, source = modules[node.target], node.args[0] if node.args else None
        if type(norm) not in _NORMS or not isinstance(source, fx.Node) or source.op != "call_module":
            continue
        convolution = modules[str(source.target)]
        alone = len(source.users) == 1 and used[id(convolution)] == used[id(norm)] == 1
        if alone and isinstance(convolution, _CONVOLUTIONS) and norm.running_mean is not None:
            pairs.append((str(source.target), str(node.target)))
    return pairs


def _put(net: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, module.eval())


def speed_up(model: Classifier, shape: tuple[int, int, int], folding: bool, precision: str) -> Speedup:
    """Make a model's gradients cheap, its answers staying what they are.

    Batch norm is folded into the convolutions before it, unless that moves the logits. How gradients are taken (in
    bf16 or fp32, in which memory layout) is measured where `precision` is "auto": another way than fp32 in
    channels_last must be clearly faster. bf16 is not even tried where the device does not compute in it.
    Verdicts stay in fp32. `torch.compile` is not tried: on the CPU it made a gradient slower and took up to 50 s.

    Args:
        model: is changed: its net, its precision, its layout. The net that it had is left as it was.
        shape: channels, height and width of its pictures.
        folding: fold batch norms.
        precision: "auto", "fp32" or "bf16".

    Raises:
        ValueError: the model gives no logits.
    """
    if model.access != "gradient":
        return Speedup()
    device = model.device
    rows = max(1, min(_ROWS, _FLOATS // math.prod(shape))) * (1 if device.type == "cpu" else 8)
    x = torch.rand(rows, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    try:
        logits = model.logits(x)  # after which it is known whether the network stands channels_last
    except ValueError:  # its options do not fit
        raise
    except Exception:  # anybody's network; what is wrong with it is told when it is attacked
        return Speedup()
    folded, difference = _folded(model, x, logits) if folding else (0, 0.0)
    model.precision = "fp32" if precision == "auto" else precision
    rows, seconds = _fastest(model, x) if precision == "auto" else (rows, {})
    model.forwards = model.backwards = 0
    return Speedup(folded, difference, rows, seconds, _way(model))


def _folded(model: Classifier, x: Tensor, before: Tensor) -> tuple[int, float]:
    """Fold if the logits stay; how many batch norms, and how far the logits moved."""
    net, count = fold(model.net)
    if not count:
        return 0, 0.0
    original = model.net, model.layout
    model.net, model.layout = net, Layout(net)
    model.layout.wanted = original[1].wanted
    try:
        difference = float((model.logits(x) - before).abs().max())
    except Exception:  # the network may ask modules that are gone now for what they had
        difference = math.inf
    if difference <= _LOGITS * float(before.abs().max()):
        return count, difference
    model.net, model.layout = original
    return 0, 0.0


def _fastest(model: Classifier, x: Tensor) -> tuple[int, dict[str, float]]:
    """Time a gradient in each way that is open to the model, and leave it in the best; of how many rows, and the
    seconds by way."""
    layouts = [True, False] if model.layout.wanted else [False]
    precisions = ["fp32", "bf16"] if computes_in_bf16(model.device) else ["fp32"]
    ways = [(precision, layouts[0]) for precision in precisions] + [("fp32", layout) for layout in layouts[1:]]
    if len(ways) == 1:
        return len(x), {}
    best = dict.fromkeys(ways, math.inf)
    began = time.perf_counter()
    _seconds(model, x)  # warms up
    # As many rows as an audit takes at once, where that is cheap: what a few gain or lose says little of many.
    times = min(_MOST // len(x), int(_GRADIENT / min(_seconds(model, x) for _ in range(3))))
    x = x.repeat(max(1, times), 1, 1, 1)
    for turn in range(_ROUNDS):  # each in turn, the best counts: a busy moment hits all of them
        if turn and time.perf_counter() - began > _SECONDS:
            break
        for way in ways:
            model.precision, model.layout.wanted = way
            best[way] = min(best[way], _seconds(model, x))
    chosen = min(ways, key=lambda way: best[way] * (1 if way == ways[0] else _WORTH))
    named = {}
    for way in [*(way for way in ways if way != chosen), chosen]:
        model.precision, model.layout.wanted = way
        named[_way(model)] = best[way]
    return len(x), {name: seconds for name, seconds in named.items() if seconds < math.inf}


def _seconds(model: Classifier, x: Tensor) -> float:
    """Seconds of a gradient; infinite where there is none in this way."""
    with model.frozen():  # as in an attack, which lays the weights out once and not for each gradient
        _wait(x.device)
        began = time.perf_counter()
        try:
            model.gradient(x, lambda logits: logits.logsumexp(1))
        except Exception:  # no gradient, or none in this way
            return math.inf
        _wait(x.device)
        return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _way(model: Classifier) -> str:
    return f"{'channels_last, ' if model.layout.wanted else ''}{model.precision} gradients"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.2g} ms"


def computes_in_bf16(device: torch.device) -> bool:
    """True for a device with instructions for bf16; elsewhere it is emulated, many times slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    tests = (getattr(torch.cpu, f"_is_{unit}_supported", None) for unit in ("avx512_bf16", "amx_tile"))
    return device.type == "cpu" and any(test() for test in tests if test)
