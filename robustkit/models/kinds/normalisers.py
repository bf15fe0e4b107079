"""Normalisers in a checkpoint: (x - mean) / std, which a network was wrapped in when it was saved."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from robustkit.errors import ModelError

# Names of the buffers, by who writes them: most, MadryLab's robustness, RobustBench's networks, detectors, smoothing.
_PAIRS = (
    ("mean", "std"),
    ("new_mean", "new_std"),
    ("mu", "sigma"),
    ("_mean", "_std"),
    ("pixel_mean", "pixel_std"),
    ("image_mean", "image_std"),
    ("means", "sds"),
)
_BYTES = 2.0  # a mean above is one of pixels in 0 to 255, and so is a std above the next
_SPREAD = 5.0


@dataclass(frozen=True)
class Normaliser:
    """Normalisation of pixels in [0,1].

    Args:
        mean, std: one number, or one for each channel.
        keys: of both in the file.
        divided: they were of pixels in 0 to 255, and have been divided by 255.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    keys: tuple[str, str]
    divided: bool = False

    def __str__(self) -> str:
        """What a report says of it."""
        mean, std = (", ".join(f"{number:.4g}" for number in numbers) for numbers in (self.mean, self.std))
        divided = ", given for pixels in 0 to 255" if self.divided else ""
        return f"normalised by the checkpoint's own {' and '.join(self.keys)}: mean {mean}, std {std}{divided}"


def find_normaliser(prefix: str, around: Mapping[str, Tensor], channels: int, file: Path) -> Normaliser | None:
    """The normaliser that a network is wrapped in.

    Args:
        prefix: of the network's keys, such as "1.module.".
        around: what the state dict holds besides the network.
        channels: of the network's input.
        file: that all is from.

    Raises:
        ModelError: several of them, or a mean and std that cannot be.
    """
    found = []
    for key, mean in around.items():
        parent, _, last = key.rpartition(".")
        for mean_name, std_name in _PAIRS:
            other = f"{parent}.{std_name}".lstrip(".")
            fits = last == mean_name and other in around and mean.numel() == around[other].numel()
            if fits and mean.numel() in (1, channels) and _comes_before(parent, prefix):
                found.append(_normaliser(key, other, around, file))
    if len(found) > 1:
        names = ", ".join(each.keys[0] for each in found)
        raise ModelError(f"{file} normalises more than once ({names}): save the network's own state_dict")
    return found[0] if found else None


def _normaliser(mean_key: str, std_key: str, around: Mapping[str, Tensor], file: Path) -> Normaliser:
    mean, std = around[mean_key].double().flatten(), around[std_key].double().flatten()
    if not (torch.isfinite(mean).all() and torch.isfinite(std).all() and (std > 0).all()):
        raise ModelError(f"{file} has a normaliser of no use: {std_key} must be positive, both finite")
    divided = bool(mean.max() > _BYTES or std.min() > _SPREAD)
    scale = 255.0 if divided else 1.0
    return Normaliser(tuple((mean / scale).tolist()), tuple((std / scale).tolist()), (mean_key, std_key), divided)


def _comes_before(parent: str, prefix: str) -> bool:
    """In a `Sequential`, where parts are numbered, a normaliser stands before the network."""
    for mine, its in zip(prefix.split("."), parent.split("."), strict=False):
        if mine != its:
            return not (mine.isdecimal() and its.isdecimal()) or int(its) < int(mine)
    return True


def hidden_part(prefix: str, whole: Collection[str]) -> str:
    """A part of a `Sequential` that comes before the network and has no weights in the file; "" if there is none.

    It may be a normaliser whose mean and std are plain attributes.
    """
    above = ""
    for part in prefix.split(".")[:-1]:
        for place in range(int(part) if part.isdecimal() else 0):
            if not any(key.startswith(f"{above}{place}.") for key in whole):
                return f"{above}{place}"
        above += f"{part}."
    return ""
