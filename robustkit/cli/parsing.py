"""Words of the command line or a TOML file parsed into the objects that the library takes."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from robustkit.attacks.core.attack import Attack
from robustkit.attacks.foolbox_bridge.attack import PREFIX, foolbox_attack, foolbox_names
from robustkit.attacks.geometry import norms
from robustkit.attacks.registry import ATTACKS
from robustkit.errors import ConfigError
from robustkit.reports.record.statistics import SAME_EPS
from robustkit.text import suggestion

DEFAULT_ATTACKS = ("fgsm", "pgd", "lbfgs:steps=10,searches=5,candidates=3")
_SMALLEST = {  # the attacks that look for the smallest change, by norm
    "linf": ("fmn", "deepfool"),
    "l2": ("fmn", "ddn", "deepfool", "cw"),
    "l1": ("fmn", "ead"),
}
PRESETS: dict[str, dict[str, tuple[str, ...]]] = {
    "quick": dict.fromkeys(norms.NORMS, ("fgsm", "pgd:steps=20")),
    "standard": dict.fromkeys(norms.NORMS, DEFAULT_ATTACKS),
    "autoattack": dict.fromkeys(norms.NORMS, ("autoattack",)),
    "thorough": {norm: ("autoattack", *_SMALLEST[norm], "square", "uniform-noise") for norm in norms.NORMS},
}
_PHOTO_EPS = {
    "linf": "0.25/255,0.5/255,1/255,2/255,4/255",
    "l2": "0.1,0.25,0.5,1,2",
    "l1": "2,5,10,20,50",
}
# Digits are black and white: what flips a photograph does nothing to them.
_DIGIT_EPS = {"linf": "0.05,0.1,0.2,0.3", "l2": "0.5,1,1.5,2,3", "l1": "2,5,10,15,20"}


def parse_eps(text: str, norm: str) -> float:
    """One ε: a number or a fraction such as 4/255, positive, and at most 1 in L∞."""
    top, slash, bottom = text.strip().partition("/")
    try:
        value = float(top) / float(bottom) if slash else float(top)
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"eps {text!r} is not a number: write 0.03 or 8/255") from None
    if not math.isfinite(value) or value <= 0:
        raise ConfigError(f"eps must be a positive number, got {text}")
    if norm == "linf" and value > 1:
        raise ConfigError(f"eps is in pixel units of [0,1], so at most 1 in linf, got {text}: did you mean {text}/255?")
    return value


def parse_grid(text: str | None, model: str, norm: str) -> dict[float, str]:
    """A comma-separated ε grid as {value: as it was written}, ascending; by default one that suits the model."""
    if text is None:
        text = (_DIGIT_EPS if model.startswith("lenet") else _PHOTO_EPS)[norm]
    parts = [part.strip() for part in text.split(",")]
    if not any(parts):
        raise ConfigError("eps is empty: give at least one, such as 4/255")
    if not all(parts):
        raise ConfigError(f"eps {text!r} has an empty entry: leave out the comma, or write a number there")
    return dict(sorted({parse_eps(part, norm): part for part in parts}.items()))


def parse_floors(texts: Sequence[str], norm: str, grid: Mapping[float, str]) -> dict[float, tuple[str, float]]:
    """`4/255=0.30` as {ε: (ε as written, floor)}; each ε must be in the audit's grid, before it runs."""
    floors = {}
    for text in texts:
        left, equals, right = text.rpartition("=")
        try:
            floor = float(right)
        except ValueError:
            floor = math.nan
        if not equals or not 0 <= floor <= 1:
            raise ConfigError(f"--fail-under {text!r}: write EPS=FLOOR with a floor from 0 to 1, such as 4/255=0.30")
        eps = parse_eps(left, norm)
        match = next((value for value in grid if abs(value - eps) < SAME_EPS), None)
        if match is None:
            raise ConfigError(
                f"--fail-under asks for eps {left}, the grid has {', '.join(grid.values())}: add it to --eps"
            )
        floors[match] = (left.strip(), floor)
    return floors


def preset_attacks(preset: str, norm: str) -> tuple[str, ...]:
    """The attacks of a preset, each as it is written on the command line."""
    check_norm(norm)
    if preset not in PRESETS:
        known = ", ".join(PRESETS)
        raise ConfigError(f"there is no preset {preset!r}{suggestion(preset, PRESETS)}; there are {known}")
    return PRESETS[preset][norm]


def attack_kind(name: str) -> type[Attack]:
    """The class of the attack that is called so, `foolbox:NAME` included."""
    if name.startswith(PREFIX):
        theirs, known = name.removeprefix(PREFIX), foolbox_names()
        if theirs not in known:
            hint = suggestion(theirs, known)
            raise ConfigError(f"foolbox has no attack {theirs!r}{hint}; robustkit attacks foolbox lists all")
        return foolbox_attack(theirs)
    if name == "transfer":
        raise ConfigError("transfer needs a model to make its points on: use --surrogate MODEL")
    if name not in ATTACKS:
        known = [*ATTACKS, f"{PREFIX}NAME"]
        raise ConfigError(f"there is no attack {name!r}{suggestion(name, ATTACKS)}; there are {', '.join(known)}")
    return ATTACKS[name]


def parse_attack(spec: str, norm: str, *, strict: bool = False) -> Attack:
    """An attack from its name and parameters, `pgd:steps=40,restarts=2` or `foolbox:LinfPGD:steps=20`.

    It works in the audit's norm if it can; one that looks for the smallest change otherwise in its own, unless `strict`
    says that both the attack and the norm were asked for. A budgeted attack's eps comes from the grid of the audit, so
    it is no parameter here.
    """
    name, _, rest = spec.strip().partition(":")
    if f"{name}:" == PREFIX:
        theirs, _, rest = rest.partition(":")
        name = f"{PREFIX}{theirs.strip()}"
    kind = attack_kind(name)
    check_norm(norm)
    hints = typing.get_type_hints(kind)
    chosen = (field.name for field in dataclasses.fields(kind) if field.init and field.name not in ("norm", "eps"))
    fields = {name: hints[name] for name in chosen}
    values: dict[str, Any] = {"norm": norm} if kind.ball and norm in kind.norms else {}
    if kind.ball and not values and (strict or not kind.minimum_norm):
        raise ConfigError(f"{name} works in {' and '.join(kind.norms)}, not in {norm}: use --norm {kind.norms[0]}")
    for part in filter(None, (piece.strip() for piece in rest.split(","))):
        key, equals, text = part.partition("=")
        if not equals:
            raise ConfigError(f"{part!r} in {spec!r} is no parameter: write {name}:KEY=VALUE,KEY=VALUE")
        if key in ("norm", "eps"):
            raise ConfigError(f"{key} of {name} is set for the whole audit: use --{key}")
        if key not in fields:
            raise ConfigError(f"{name} has no parameter {key!r}{suggestion(key, fields)}; it has {', '.join(fields)}")
        if key in values:
            raise ConfigError(f"{key} of {name} is given twice in {spec!r}")
        values[key] = _value(f"{key} of {name}", text, fields[key])
    try:
        return kind(**values)
    except ValueError as error:
        reason = str(error)
        raise ConfigError(reason if reason.startswith(kind.title) else f"{name}: {reason}") from None


def check_norm(norm: str) -> str:
    """The norm; ConfigError if there is none called so."""
    if norm not in norms.NORMS:
        raise ConfigError(
            f"there is no norm {norm!r}{suggestion(norm, norms.NORMS)}; there are {', '.join(norms.NORMS)}"
        )
    return norm


def _value(what: str, text: str, kind: Any) -> Any:
    options = typing.get_args(kind) if typing.get_origin(kind) is types.UnionType else (kind,)
    if types.NoneType in options and text == "none":
        return None
    if bool in options:
        answers = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in answers:
            raise ConfigError(f"{what} is true or false, not {text!r}")
        return answers[text.lower()]
    for option in options:
        if typing.get_origin(option) is tuple:
            return tuple(_value(what, part, typing.get_args(option)[0]) for part in text.split("+"))
        if typing.get_origin(option) is typing.Literal:
            return next((word for word in typing.get_args(option) if str(word) == text), text)
    try:
        if int in options:
            return int(text)
        if float in options:
            top, slash, bottom = text.partition("/")
            return float(top) / float(bottom) if slash else float(top)
    except (ValueError, ZeroDivisionError):
        wanted = "a whole number" if int in options else "a number"
        raise ConfigError(f"{what} is {wanted}, not {text!r}") from None
    return text
