"""Catalogue of foolbox: its attacks by name, the norms each works in, and the parameters each takes."""

from __future__ import annotations

import functools
import inspect
import math
import operator
import re
import types
import typing
import warnings
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from ..core.validation import check_choice, check_count, check_flag, check_from_zero, check_positive, require
from ..geometry import norms

# `norm` stands for the first two; pictures have their channels in front, and an attack writes no files.
_SETTLED = ("distance", "constraint", "channel_axis", "tensorboard")
_ABSENT: dict[str, Any] = {"steps": 10}  # VirtualAdversarialAttack names no default
_BLEND = "LinearSearchBlendedUniformNoiseAttack"
# They begin at pictures that are wrong already: the attack that finds those where none is named.
STARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "BoundaryAttack": (_BLEND, {"steps": 50}),
    "HopSkipJumpAttack": (_BLEND, {"steps": 50}),
    "PointwiseAttack": ("SaltAndPepperNoiseAttack", {}),
    "BinarizationRefinementAttack": ("SaltAndPepperNoiseAttack", {}),
    **{f"{norm}BrendelBethgeAttack": (_BLEND, {}) for norm in ("L0", "L1", "L2", "Linfinity")},
}
# Of these names: they ask whether a picture is wrong and no more.
_LABELS = re.compile("Noise|Contrast|Blur|Inversion|Spatial|Dataset|Binarization|Boundary|HopSkipJump|Pointwise")
# Ranges that foolbox has in mind, but neither states nor checks; what lies outside fails in the midst of its work, or
# never ends.
_LEAST = {"candidates": 2}  # with the label
_MOST = {
    **dict.fromkeys(("target", "threshold", "mutation_probability", "gamma"), 1.0),
    "HopSkipJumpAttack.gamma": math.inf,  # another thing
}
_BELOW_ONE = ("adam_beta1", "adam_beta2")
_POSITIVE = {
    ("HopSkipJumpAttack", "gamma"),
    ("GenAttack", "sampling_temperature"),
    ("VirtualAdversarialAttack", "xi"),
    ("BoundaryAttack", "step_adaptation"),
}
# They take nothing but pictures.
_PICTURES = ("GaussianBlurAttack", "SpatialAttack")
_MISCITED = {"InversionAttack": "1703.06857"}  # its docstring links another paper


@functools.cache
def sources() -> dict[str, Any]:
    """The classes by name, foolbox's abbreviations (LinfPGD, FGSM) included."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # foolbox imports from where SciPy no longer wants it to
        from foolbox import attacks
        from foolbox.attacks.base import Attack
    found = {name: getattr(attacks, name) for name in dir(attacks)}
    return {
        name: source
        for name, source in found.items()
        if isinstance(source, type) and issubclass(source, Attack) and not inspect.isabstract(source)
    }


def version() -> str:
    return metadata.version("foolbox")


def targetable(name: str) -> bool:
    return not re.search("FastGradientAttack|NewtonFool|VirtualAdversarial", name)


def access(name: str) -> str:
    """Access to the model that an attack needs; see `core.attack.ACCESS`."""
    return "labels" if _LABELS.search(name) else "scores" if name == "GenAttack" else "gradient"


def needs_pictures(name: str, parameters: Mapping[str, Any]) -> bool:
    """True for an attack that with these parameters takes rows [C, H, W] alone."""
    return name in _PICTURES or parameters.get("reduced_dims") is not None


def paper(name: str) -> str:
    cited = re.search(r"arxiv\.org/abs/([\w.]+\d)", inspect.getdoc(sources()[name]) or "")
    arxiv = _MISCITED.get(name, cited[1] if cited else "")
    own = f"foolbox {version()}, Rauber et al. 2020"
    return f"arXiv {arxiv}, as in {own}" if arxiv else own


def distance(source: Any) -> float | None:
    """The p of the norm that an attack works in; None where the caller chooses."""
    from foolbox.attacks.base import FlexibleDistanceMinimizationAttack

    takes = inspect.signature(source).parameters
    if issubclass(source, FlexibleDistanceMinimizationAttack) or "constraint" in takes:
        return None
    return float((source().distance if isinstance(source.distance, property) else source.distance).p)


def norms_of(source: Any) -> tuple[str, ...]:
    """The norms that an attack can be asked for; none if it has no notion of distance."""
    if not hasattr(source, "distance"):
        return ()
    if "constraint" in inspect.signature(source).parameters:
        return ("l2", "linf")
    # L0 is none of ours: what such an attack finds can be measured in each.
    return {math.inf: ("linf",), 2: ("l2",), 1: ("l1",)}.get(distance(source) or 0, tuple(norms.NORMS))


def parameters_of(source: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and default of each parameter that is left to choose."""
    if source.__name__ == "BinarizationRefinementAttack":  # takes its starting points in another way
        yield "init_attack", str | None, None
    if source.__init__ is object.__init__:
        return
    hints = typing.get_type_hints(source.__init__)
    for name, parameter in inspect.signature(source).parameters.items():
        if name not in _SETTLED:
            default = _ABSENT.get(name) if parameter.default is parameter.empty else parameter.default
            yield name, str | None if name == "init_attack" else _plain(hints[name]), default


def _plain(hint: Any) -> Any:
    """A type as it is written today: int | None, Literal["a", "b"], tuple[int, int]."""
    kinds = typing.get_args(hint) if typing.get_origin(hint) is typing.Union else (hint,)
    words = [word for kind in kinds if typing.get_origin(kind) is typing.Literal for word in typing.get_args(kind)]
    if words:
        return typing.Literal.__getitem__(tuple(words))
    plain = [
        types.GenericAlias(tuple, typing.get_args(kind)) if typing.get_origin(kind) is tuple else kind for kind in kinds
    ]
    return functools.reduce(operator.or_, plain)


def check_value(attack: str, name: str, value: Any, kind: Any) -> None:
    """ValueError for a value that is not of the type that foolbox documents, or out of its range."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if value is None and types.NoneType in options:
        return
    wanted = options[0]
    if wanted is bool:
        check_flag(name, value)
    elif wanted is int:
        check_count(name, value, _LEAST.get(name, 1))
    elif wanted is float:
        check = check_positive if (attack, name) in _POSITIVE else check_from_zero
        check(name, value, _MOST.get(f"{attack}.{name}", _MOST.get(name, math.inf)))
        require(name not in _BELOW_ONE or value < 1, f"{name} must be below 1, got {value!r}")
    elif wanted is str:
        check_choice(name, value, _starters())
    elif typing.get_origin(wanted) is typing.Literal:
        check_choice(name, value, typing.get_args(wanted))
    else:
        count = len(typing.get_args(wanted))
        require(
            isinstance(value, tuple) and len(value) == count, f"{name} must be {count} whole numbers, got {value!r}"
        )
        for number in value:
            check_count(name, number)


def _starters() -> list[str]:
    """The attacks that can look for another's starting points."""
    from foolbox.attacks.base import MinimizationAttack

    return [name for name, source in sources().items() if issubclass(source, MinimizationAttack) and name not in STARTS]
