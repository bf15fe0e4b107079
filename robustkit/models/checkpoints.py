"""Load weights from a file into a network: nothing is executed, and whatever does not fit is named."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.errors import ModelError
from robustkit.models.kinds.stand_ins import ALLOWED, Anything
from robustkit.text import one_line, some

# A number of classes that no layer has by chance: where it turns up, the classes are counted.
_PROBE = 1237


def read_state(file: Path, remedy: str = "save or copy it again") -> Mapping[str, Any]:
    """What a `.safetensors` file or a pickle holds: a state dict, or mappings in which one lies.

    Raises:
        ModelError: unreadable, no state dict inside, or a pickle that would run code.
    """
    if file.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file} is no whole safetensors file ({one_line(error)}): {remedy}") from None
    content = read_pickle(file, remedy=remedy)
    if not isinstance(content, Mapping):
        what = "an object" if isinstance(content, Anything) else f"a {type(content).__name__}"
        raise ModelError(f"{file} holds {what}, not a state dict: save model.state_dict()")
    return content


def read_pickle(file: Path | io.BytesIO, name: str = "", remedy: str = "save or copy it again") -> Any:
    """Read what `torch.save` wrote, with `weights_only=True`; what is no tensor comes back as a stand-in.

    Raises:
        ModelError: cut short or not torch's, or a pickle that needs more than tensors.
    """
    name = name or str(file)
    try:
        with (
            torch.serialization.safe_globals(ALLOWED),
            warnings.catch_warnings(),
        ):
            # Of pickle protocols: what comes of them is said below.
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise nearly anything
        wanted = _wants(file, error)
        if wanted is None and "Unsupported operand" in str(error) and zipfile.is_zipfile(file):
            raise ModelError(
                f"{name} is pickled in another protocol than torch.save's own, which only code could read: save it "
                "without pickle_protocol, or as safetensors"
            ) from None
        if wanted is None:
            reason = f" ({one_line(error)})" if isinstance(error, RuntimeError) else ""
            raise ModelError(f"{name} is no file that torch.save wrote, or is damaged{reason}: {remedy}") from None
    raise ModelError(
        f"{name} holds more than weights ({wanted}), and to read that would run code from the file: save the "
        "weights alone, torch.save(model.state_dict(), ...) or safetensors"
    )


def _wants(file: Path | io.BytesIO, error: Exception) -> str | None:
    """The name that a refused pickle would import and call; None if something else is wrong with it."""
    if not isinstance(error, pickle.UnpicklingError):
        return None
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    if named:
        return named[1]
    # Pickles of other protocols than torch's fail before their first import is met: look for one.
    stream = io.BytesIO(file.read_bytes()) if isinstance(file, Path) else file
    stream.seek(0)
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name in ("GLOBAL", "INST"):
                return str(argument).replace(" ", ".")
            if opcode.name == "STACK_GLOBAL":
                return ".".join(strings[-2:])
            if isinstance(argument, str):
                strings.append(argument)
    except Exception:  # no pickle after all
        return None
    return None


def key_shapes(make: Callable[[int], nn.Module]) -> dict[str, torch.Size]:
    """Shapes of a network's weights by their keys; the rows of its last layer are as many as no layer has by chance."""
    try:
        with torch.device("meta"):
            net = make(_PROBE)
    except NotImplementedError:  # RegNet computes with tensors while it is built
        net = make(_PROBE)
    return {key: tensor.shape for key, tensor in net.state_dict().items()}


def count_classes(shapes: Mapping[str, torch.Size], state: Mapping[str, Tensor], default: int) -> int:
    """Outputs of the network the state dict was saved from: rows of its last layer."""
    heads = [key for key, shape in shapes.items() if len(shape) > 1 and shape[0] == _PROBE]
    found = [len(state[key]) for key in heads if key in state and state[key].dim()]
    return found[-1] if found else default


def fill(net: nn.Module, state: Mapping[str, Tensor], file: Path, arch: str) -> None:
    """Load the state dict into the network, in place.

    Raises:
        ModelError: keys missing, unexpected or of another shape; weights that are NaN or infinite. All named.
    """
    wanted = net.state_dict()
    # Batch norm counts its batches only to train on; files older than the counter are whole without it.
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in wanted]
    faults = [f"{text}: {some(keys)}" for text, keys in (("missing", missing), ("unexpected", unexpected)) if keys]
    if faults:
        raise ModelError(f"{file} does not fit {arch}, {'; '.join(faults)}: give the architecture it was saved from")
    shapes = [
        f"{key} is {list(state[key].shape)} instead of {list(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in state and state[key].shape != tensor.shape
    ]
    if shapes:
        raise ModelError(f"{file} does not fit {arch}, other shapes: {some(shapes)}: give the architecture it is from")
    whole_numbers = [
        f"{key} is {str(state[key].dtype).removeprefix('torch.')}"
        for key, tensor in wanted.items()
        if key in state and tensor.is_floating_point() and not state[key].is_floating_point()
    ]
    if whole_numbers:
        raise ModelError(f"{file} holds quantised weights ({some(whole_numbers)}): save plain fp32 weights")
    check_finite(state, str(file))
    # Some networks (MNASNet) ask for the version of their layout: the keys fit, so it is today's.
    filled = OrderedDict(state)
    filled._metadata = wanted._metadata  # type: ignore[attr-defined]
    try:
        net.load_state_dict(filled, strict=False)
    except RuntimeError as error:
        raise ModelError(f"{file} cannot be loaded into {arch} ({one_line(error)}): save plain fp32 weights") from None


def check_finite(state: Mapping[str, Tensor], name: str) -> None:
    """Refuse weights that are NaN or infinite, and say which.

    Raises:
        ModelError: some are.
    """
    broken = [
        key for key, value in state.items() if value.is_floating_point() and not torch.isfinite(value.float()).all()
    ]
    if broken:
        raise ModelError(f"{name} has NaN or infinite weights in {some(broken)}: take an earlier checkpoint")
