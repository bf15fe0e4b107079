"""Versions of torchvision's weights: each was trained, and is to be tested, on a preprocessing of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlparse

from robustkit.errors import ConfigError, ModelError
from robustkit.text import suggestion


def choose_version(short: str, version: str, file_name: str = "") -> tuple[Any, tuple[str, ...]]:
    """The version of a classifier's weights, and what a report says of the choice.

    Args:
        short: of torchvision, such as "resnet50".
        version: such as "IMAGENET1K_V1"; "" for the one that the file's name tells, or torchvision's default.
        file_name: of a checkpoint; torchvision writes a part of the SHA-256 into its own: "resnet50-0676ba61.pth".

    Raises:
        ModelError: no such version.
        ConfigError: the file's name tells another version than the one that is asked for.
    """
    from torchvision import models

    enum = models.get_model_weights(short)
    # Of vgg16 there is a version without a last layer, for detectors.
    known = {member.name: member for member in enum if member.meta.get("categories") is not None}
    if version and version != "DEFAULT" and version not in known:
        raise ModelError(
            f"torchvision has no weights {version!r} of {short}{suggestion(version, known)}; "
            f"it has {', '.join(known)}{_partial(enum, version)}"
        )
    told = next((member for member in enum if _carries(file_name, member.url)), None)
    if told is not None and told.name not in known:
        raise ModelError(f"{file_name} is torchvision's {told.name} of {short}, which has no last layer to classify by")
    asked = None if not version else enum.DEFAULT if version == "DEFAULT" else known[version]
    if told is not None:
        if asked is not None and asked is not told:
            raise ConfigError(
                f"{file_name} is by its name torchvision's {told.name} of {short}, not {asked.name}: "
                f"leave out @{version}, or rename the file"
            )
        return told, (f"preprocessing of torchvision's {told.name}, which the file's name tells",)
    if asked is not None:
        return asked, ()
    default = enum.DEFAULT
    others = [member.name for member in known.values() if _input(member) != _input(default)]
    if not file_name or not others:
        return default, ()
    return default, (
        f"preprocessing of torchvision's {default.name}, its default: another is named by --arch {short}@{others[0]}",
    )


def _partial(enum: Sequence[Any], version: str) -> str:
    partial = any(member.name == version for member in enum)
    return f" ({version} has no last layer to classify by)" if partial else ""


def _carries(file_name: str, url: str) -> bool:
    """The file's name has the hash that the one at `url` has."""
    digest = re.search(r"-([0-9a-f]{8,})\.\w+$", os.path.basename(urlparse(url).path))
    return digest is not None and re.search(rf"(?<![0-9a-z]){digest[1]}(?![0-9a-z])", file_name.lower()) is not None


def _input(member: Any) -> tuple[Any, ...]:
    preset = member.transforms()
    return preset.resize_size, preset.crop_size, preset.interpolation, preset.mean, preset.std
