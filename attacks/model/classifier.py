"""The model under attack: a frozen network on pixels in [0,1] that counts what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from .channels_last import Layout
from .fast_kernels import Kernels
from .functions import FunctionModule
from .rounding import sums_to_one

PRECISIONS = ("fp32", "bf16")
OUTPUTS = ("logits", "probabilities", "labels")
_NO_GRADIENT = "the model gives no gradient: its output does not depend on its input through differentiable operations"


class Classifier:
    """Any `nn.Module`, or any function that answers, as a classifier of pictures in [0,1].

    The normalisation is folded in, so an ε means pixels. A network is used as it stands, not copied: while a
    query runs it is in eval mode with its parameters out of the autograd graph (only the input's gradient is
    wanted), and afterwards mode and `requires_grad` are as they were.

    A plain function (a prediction endpoint, an ONNX session) takes a float tensor on the CPU and returns a tensor or
    an array. It gives no gradients, so only attacks that need none run on it.

    Args:
        net: maps [B, C, H, W] to logits [B, K], K >= 2.
        mean, std: one number or one per channel, in pixel units; the network sees `(x - mean) / std`.
        labels: K class names, in order.
        precision: of `gradient`; "bf16" takes it under autocast. `logits` is always full precision.
        outputs: what `net` returns: "logits"; "probabilities", whose logarithms are taken for logits; "labels",
            whole numbers [B], whose logits are 1 for the label and 0 for the others.
        classes: K, needed with "labels" unless the names are given.

    Attributes:
        forwards, backwards: samples sent through the network, and back through it, so far.
        listener: called after every query, for a progress display; None by default.

    Raises:
        ValueError: not a module or function, std not positive, a wrong precision or kind of output; on a query, an
            output that is not a finite-enough [B, K] tensor of floats, or not what `outputs` says.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    >>> model = Classifier(net, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    >>> model.logits(torch.rand(2, 3, 2, 2)).shape, model.forwards
    (torch.Size([2, 3]), 2)
    """

    def __init__(
        self,
        net: nn.Module | Callable[[Tensor], Any],
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        labels: Sequence[str] | None = None,
        precision: str = "fp32",
        outputs: str = "logits",
        classes: int | None = None,
    ) -> None:
        if not callable(net) or isinstance(net, type):
            raise ValueError(f"a Classifier wraps a torch.nn.Module or a function, not {type(net).__name__}")
        if outputs not in OUTPUTS:
            raise ValueError(f"outputs is one of {', '.join(OUTPUTS)}, not {outputs!r}")
        if precision not in PRECISIONS:
            raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, not {precision!r}")
        # A module around it gives a plain function a mode and (no) weights like any other.
        self.net = net if isinstance(net, nn.Module) else FunctionModule(net)
        self.outputs = outputs
        self.mean = _per_channel("mean", mean)
        self.std = _per_channel("std", std)
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")
        self.labels = None if labels is None else tuple(str(label) for label in labels)
        self.classes = classes if classes is not None else None if self.labels is None else len(self.labels)
        if outputs == "labels" and (self.classes is None or self.classes < 2):
            raise ValueError("a model that returns labels must be told how many classes there are, such as classes=10")
        self.precision = precision
        self.forwards = 0
        self.backwards = 0
        self.listener: Callable[[], None] | None = None
        self._depth = 0
        self.layout = Layout(self.net)
        self._kernels = Kernels(self.net)

    @property
    def access(self) -> str:
        """Access that it gives to an attack: "labels", "scores" (logits or probabilities) or "gradient" as well.

        A module that answers from outside torch says so by an attribute `differentiable = False`.
        """
        if self.outputs == "labels":
            return "labels"
        return "gradient" if getattr(self.net, "differentiable", True) else "scores"

    @property
    def device(self) -> torch.device:
        """Device of the network's weights; the CPU if it has none."""
        tensor = next(_tensors(self.net), None)
        return torch.device("cpu") if tensor is None else tensor.device

    @property
    def dtype(self) -> torch.dtype | None:
        """Floating type of the weights; None if there are none."""
        return next((t.dtype for t in _tensors(self.net) if t.is_floating_point()), None)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Eval mode and no parameter in the graph inside, everything as it was afterwards; may be nested."""
        if self._depth:
            yield
            return
        trained = [p for p in self.net.parameters() if p.requires_grad]
        # A frozen TorchScript module has no mode.
        modes = [(module, module.training) for module in self.net.modules() if hasattr(module, "training")]
        self._depth += 1
        try:
            if any(mode for _, mode in modes):
                try:
                    self.net.eval()
                except NotImplementedError:  # an exported program inside has its mode baked in; the rest has not
                    for module, _ in modes:
                        module.training = False
            for parameter in trained:
                parameter.requires_grad_(False)
            self.layout.put()
            # Under a caller's autocast even the backward pass would round.
            with torch.autocast(self.device.type, enabled=False):
                yield
        finally:
            self._depth -= 1
            self.layout.back()
            for parameter in trained:
                parameter.requires_grad_(True)
            for module, mode in modes:
                if module.training != mode:
                    module.training = mode

    def logits(self, x: Tensor, *, draws: int = 1) -> Tensor:
        """Full-precision logits [B, K] of x [B, C, H, W] in [0,1], without a graph; the mean of several draws."""
        with self.frozen(), torch.no_grad():
            out = self._answer(x)
            for _ in range(draws - 1):
                out = out + self._answer(x)
        self._tell()
        return out / draws if draws > 1 else out

    def gradient(
        self, x: Tensor, objective: Callable[[Tensor], Tensor], *, exact: bool = False, draws: int = 1
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [B, K], objective(logits) [B] and its gradient with respect to x, shaped like x.

        Of an objective [B, M] every column has a gradient of its own, [B, M, ...]: one pass forward, M back.

        With several draws each is the mean over as many queries: expectation over transformation (Athalye et al.
        2018), for a model that answers at random.

        Rows are independent in eval mode, so one backward pass of the sum gives every row its own gradient.
        Entries of the gradient that are NaN count as zero: the search goes on along the others. With `exact` it is
        taken in full precision, whatever the model's own.
        """
        precision = "fp32" if exact else self.precision
        with self.frozen(), torch.inference_mode(False), torch.enable_grad():
            logits, value, grad = self._one_gradient(x, objective, precision)
            for _ in range(draws - 1):
                more = self._one_gradient(x, objective, precision)
                logits, value, grad = logits + more[0], value + more[1], grad + more[2]
        self._tell()
        return (logits, value, grad) if draws == 1 else (logits / draws, value / draws, grad / draws)

    def graph(self, x: Tensor) -> Tensor:
        """Full-precision logits that lead back to x if it asks for a gradient; each pass back through them counts."""
        with self.frozen():
            logits = self._answer(x)
        if logits.requires_grad:
            logits.register_hook(self._went_back)  # type: ignore[no-untyped-call]
        elif x.requires_grad and torch.is_grad_enabled():
            raise ValueError(_NO_GRADIENT)
        self._tell()
        return logits

    def _went_back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)

    def _one_gradient(
        self, x: Tensor, objective: Callable[[Tensor], Tensor], precision: str
    ) -> tuple[Tensor, Tensor, Tensor]:
        point = x.detach().clone() if x.is_inference() else x.detach()
        point = self.layout.of(point).requires_grad_()
        logits = self._answer(point, precision)
        value = objective(logits)
        if not value.requires_grad:
            raise ValueError(_NO_GRADIENT)
        grads, columns = [], [value.sum()] if value.dim() == 1 else value.sum(0).unbind()
        for number, column in enumerate(columns, 1):
            (grad,) = torch.autograd.grad(column, point, retain_graph=number < len(columns), allow_unused=True)
            self.backwards += len(x)
            grads.append(torch.zeros_like(x) if grad is None else torch.nan_to_num_(grad.contiguous(), nan=0.0))
        return logits.detach(), value.detach(), grads[0] if value.dim() == 1 else torch.stack(grads, dim=1)

    def _answer(self, x: Tensor, precision: str = "fp32") -> Tensor:
        try:
            return self._forward(x, precision)
        except RuntimeError as error:
            if not self.layout.give_up(error):
                raise
            return self._forward(x.contiguous(), precision)

    def _forward(self, x: Tensor, precision: str = "fp32") -> Tensor:
        self.forwards += len(x)
        point = self._normalised(x)
        kernels = self._kernels if self._kernels.worth(x) else nullcontext()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"), kernels:
            out: Any = self.net(point)
        if self.outputs != "logits":
            out = self._as_logits(out, x)
        if not isinstance(out, Tensor):
            raise ValueError(
                f"the model returned a {type(out).__name__}, not a tensor of logits: wrap it in a module that "
                "returns the logits alone"
            )
        if out.dim() != 2 or len(out) != len(x) or out.shape[1] < 2 or not out.is_floating_point():
            raise ValueError(
                f"the model returned {out.dtype} of shape {tuple(out.shape)} for {len(x)} pictures; "
                f"logits of shape [{len(x)}, classes] are needed, with at least two classes"
            )
        if self.labels is not None and out.shape[1] != len(self.labels):
            raise ValueError(f"the model returned {out.shape[1]} classes, but {len(self.labels)} labels were given")
        # Of the pictures' dtype, whatever an endpoint answers in: what an attack computes is in one.
        logits: Tensor = out.to(torch.promote_types(x.dtype, torch.float32))
        if torch.isnan(logits).any():
            raise ValueError("the model returned NaN: its weights or its preprocessing are broken")
        return logits

    def _as_logits(self, out: Any, x: Tensor) -> Any:
        if not isinstance(out, Tensor):
            return out
        if self.outputs == "probabilities":
            if out.is_floating_point() and (bool((out < -1e-4).any()) or not bool(sums_to_one(out).all())):
                raise ValueError(
                    "the model returned numbers that are no probabilities: a row is negative or not 1 in all"
                )
            return out.clamp(min=torch.finfo(out.dtype).tiny).log() if out.is_floating_point() else out
        if out.shape != x.shape[:1] or out.is_floating_point() or out.is_complex():
            raise ValueError(
                f"the model returned {out.dtype} of shape {tuple(out.shape)} for {len(x)} pictures; whole numbers of "
                f"shape [{len(x)}], the labels, are needed"
            )
        known = self.classes or 0
        if len(out) and not 0 <= int(out.min()) <= int(out.max()) < known:
            raise ValueError(f"the model returned a label outside 0 to {known - 1}")
        return torch.nn.functional.one_hot(out.long(), known).to(torch.promote_types(x.dtype, torch.float32))

    def _normalised(self, x: Tensor) -> Tensor:
        if self.mean is None and self.std is None:
            return x.clone()  # a network may work on its input in place
        for numbers, apply in ((self.mean, torch.sub), (self.std, torch.div)):
            if numbers is not None:
                if x.dim() > 1 and len(numbers) not in (1, x.shape[1]):
                    raise ValueError(f"mean and std have {len(numbers)} channels, the pictures {x.shape[1]}")
                x = apply(x, torch.tensor(numbers, dtype=x.dtype, device=x.device).view(-1, *[1] * (x.dim() - 2)))
        return x

    def _tell(self) -> None:
        if self.listener is not None:
            self.listener()


def as_classifier(model: Classifier | nn.Module | Callable[[Tensor], Any]) -> Classifier:
    """The model itself, or a bare module or function wrapped with no normalisation."""
    return model if isinstance(model, Classifier) else Classifier(model)


def _tensors(net: nn.Module) -> Iterator[Tensor]:
    yield from net.parameters()
    yield from net.buffers()


def _per_channel(name: str, numbers: float | Sequence[float] | None) -> tuple[float, ...] | None:
    if numbers is None:
        return None
    out = (float(numbers),) if isinstance(numbers, int | float) else tuple(float(number) for number in numbers)
    if not out or any(number != number or abs(number) == float("inf") for number in out):
        raise ValueError(f"{name} needs one finite number or one per channel, got {numbers!r}")
    return out
