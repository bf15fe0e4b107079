"""Exported programs (`.pt2`) and TorchScript: read without running any code that is no operator of a network."""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.errors import ModelError
from robustkit.models.checkpoints import check_finite, read_pickle
from robustkit.text import one_line

# Operators a network is made of. torch would resolve any dotted name, such as torch.hub.load.
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|higher_order|torchvision)\.[\w.]+|_operator\.\w+|math\.\w+|torch\.sym_\w+"
)
# Sizes are formulas that sympy evaluates as Python: symbols, numbers and these functions are all they need.
_SYMBOL = re.compile(r"[a-z]{1,4}\d+")
_FUNCTIONS = {
    *(
        "Mod",
        "PythonMod",
        "FloorDiv",
        "CleanDiv",
        "CeilDiv",
        "IntTrueDiv",
        "FloatTrueDiv",
        "Max",
        "Min",
        "Abs",
    ),
    *(
        "floor",
        "ceiling",
        "Pow",
        "PowByNatural",
        "Eq",
        "Ne",
        "Lt",
        "Le",
        "Gt",
        "Ge",
        "And",
        "Or",
        "Not",
        "Where",
    ),
    *("Symbol", "Integer", "Float", "Rational", "Add", "Mul", "positive", "nonnegative", "integer", "real"),
    *("ToFloat", "TruncToInt", "RoundToInt", "Identity", "True", "False", "oo", "int_oo", "inf"),
}


class Program(nn.Module):
    """A loaded program as a module that takes any batch.

    Args:
        program: the loaded module.
        size, channels: of its input where the file says; None where it does not.
        batch: the only batch size it is given; None if it takes any.
        dtype: of its input; None for that of the pictures.
    """

    def __init__(
        self,
        program: nn.Module,
        size: tuple[int, int] | None = None,
        channels: int | None = None,
        batch: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.program = program
        self.differentiable = getattr(program, "differentiable", True)
        # Pixels are rounded to bytes by the file's own declaration, and gradients go straight through.
        self.whole_levels = getattr(program, "whole_levels", False)
        self.size = size
        self.channels = channels
        self.batch = batch
        self.dtype = dtype

    def forward(self, x: Tensor) -> Any:
        """[B, C, H, W] -> logits [B, K], in chunks of the fixed batch size, the last filled with zeros."""
        x = x if self.dtype is None else x.to(self.dtype)
        if self.batch is None or len(x) == self.batch:
            return self.program(x)
        outs = []
        for chunk in torch.split(x, self.batch):
            fill = chunk.new_zeros(self.batch - len(chunk), *chunk.shape[1:])
            out = self.program(torch.cat([chunk, fill]))
            if not isinstance(out, Tensor):
                return out
            outs.append(out[: len(chunk)])
        return torch.cat(outs)


def is_torchscript(file: Path) -> bool:
    """True for a TorchScript archive: a zip of code and constants."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    return any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names)


def read_torchscript(file: Path, place: torch.device) -> Program:
    """The network in a TorchScript archive.

    Raises:
        ModelError: damaged, of another kind, or with broken weights.
    """
    try:
        with warnings.catch_warnings():  # torch calls TorchScript deprecated; the user has the file already
            warnings.simplefilter("ignore")
            script = torch.jit.load(str(file), map_location=place).eval()  # type: ignore[no-untyped-call]
    except Exception as error:  # TorchScript raises its own kinds
        raise ModelError(f"{file} cannot be read as TorchScript ({one_line(error)}): save it again") from None
    wanted = [each.name for each in script.forward.schema.arguments[1:] if not each.has_default_value()]
    if len(wanted) != 1:
        raise ModelError(f"{file} takes {len(wanted)} inputs: {', '.join(wanted)}; one of [B, C, H, W] is needed")
    state = script.state_dict()
    check_finite(state, str(file))
    kernel = next((value for value in state.values() if value.dim() == 4), None)
    dtype = next((value.dtype for value in state.values() if value.is_floating_point()), None)
    return Program(script, channels=None if kernel is None else kernel.shape[1], dtype=dtype)


def read_exported(file: Path, place: torch.device) -> Program:
    """The network in a `.pt2` that `torch.export.save` wrote.

    Raises:
        ModelError: damaged, not a program of one picture batch, or one that would run code when read.
    """
    if not zipfile.is_zipfile(file):
        raise ModelError(f"{file} is no exported program: save it with torch.export.save")
    _check_archive(file)
    logger = logging.getLogger("torch.export")
    before = logger.level
    logger.setLevel(logging.CRITICAL)  # torch logs a traceback and raises too: the error below says it in one line
    try:
        program = torch.export.load(str(file))
        if place.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, place)
        names = program.graph_signature.user_inputs
        values = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
        shapes, dtypes = [tuple(value.shape) for value in values], [value.dtype for value in values]
        module = program.module()
        bounds = {str(symbol): limits for symbol, limits in program.range_constraints.items()}
    except Exception as error:  # many kinds, depending on what is damaged
        raise ModelError(f"{file} cannot be read as an exported program ({one_line(error)}): export it again") from None
    finally:
        logger.setLevel(before)
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ModelError(
            f"{file} takes {len(shapes)} input{'s' * (len(shapes) != 1)}: {', '.join(map(_sides, shapes))}; "
            "one of [B, C, H, W] is needed"
        )
    if not dtypes[0].is_floating_point:
        raise ModelError(f"{file} takes {dtypes[0]} pictures: export it from floating numbers in [0,1]")
    check_finite(module.state_dict(), str(file))
    batch, channels, height, width = (side if isinstance(side, int) else None for side in shapes[0])
    size = (height, width) if height and width else None
    limits = bounds.get(str(shapes[0][0]))
    if batch is None and limits is not None:
        # Bounds that a batch of any size would cross: all are given in the one size that is sure to be allowed.
        low, high = float(limits.lower), float(limits.upper)
        batch = int(high) if high < 1e6 else int(low) if low > 2 else None
    return Program(module, size, channels, batch, dtypes[0])


def _sides(shape: Sequence[Any]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _check_archive(file: Path) -> None:
    """Refuse what torch.export.load would run: its own fallback for an unsafe pickle is to read it anyway."""
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                if member.endswith(".pt"):
                    _check_pickle(archive.read(member), file, member)
                elif member.endswith(".json"):
                    _check_json(archive, member, file)
    except (zipfile.BadZipFile, ValueError, KeyError, OSError, EOFError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{file} is damaged ({one_line(error)}): export it again") from None


def _check_json(archive: zipfile.ZipFile, member: str, file: Path) -> None:
    for key, value, owner in _entries(json.loads(archive.read(member))):
        if key == "target" and isinstance(value, str) and not _OPERATOR.fullmatch(value):
            raise ModelError(f"{file} calls {value}, no operator of a network: export it from a module of torch layers")
        if key == "expr_str" and not _is_formula(str(value)):
            raise ModelError(f"{file} has a size that is no formula ({str(value)[:40]!r}): export it again")
        if key == "path_name":
            if not re.match(r"(weight|tensor)_\d+$", str(value)):
                raise ModelError(
                    f"{file} holds Python objects ({value}) and to read them would run code: export it again"
                )
            if owner.get("use_pickle"):
                _check_pickle(archive.read(f"{member.rpartition('/')[0]}/{value}"), file, str(value))


def _check_pickle(content: bytes, file: Path, member: str) -> None:
    if content:
        read_pickle(io.BytesIO(content), f"{file} ({member})")


def _is_formula(text: str) -> bool:
    text = re.sub(r"'[a-z]{1,4}\d+'", "", text)  # Symbol('s77', positive=True)
    words = re.findall(r"[A-Za-z_]\w*", text)
    plain = re.fullmatch(r"[\w\s+\-*/%(),.<>=!&|~]*", text) and not re.search(r"[A-Za-z_)]\w*\s*\.", text)
    return bool(plain) and all(word in _FUNCTIONS or _SYMBOL.fullmatch(word) for word in words)


def _entries(tree: Any) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Every (key, value, dict it stands in) of a JSON tree."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield key, value, tree
            yield from _entries(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _entries(value)
