"""The famous figure: original + ε · perturbation = adversarial, as files, judged as files.

What stands under a picture is what the model says of the saved 8-bit file read back from disk. Rounding moves
each pixel by up to half a level, enough to undo an attack of a fraction of a level; then the comparison says so.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustkit.attacks.core.attack import Attack
from robustkit.attacks.geometry import norms
from robustkit.data.pictures import load_picture
from robustkit.errors import ConfigError
from robustkit.models.load import LoadedModel
from robustkit.reports import Comparison, Picture

_LONGEST = 200  # bytes of a name, of 255 that a file's may have


@dataclass(frozen=True)
class Pair:
    """A sample and its adversarial example."""

    sample: int
    name: str
    truth: int | None  # None where it is not known: the clean prediction stands in for it
    x: Tensor  # [C, H, W] in [0,1]
    adversarial: Tensor  # like x
    attack: Attack
    norm: str
    eps: float | None
    target: int | None


def save_comparison(model: LoadedModel, pair: Pair, folder: Path, stem: str) -> Comparison:
    """Write the three pictures of a pair into `folder` and say what the model makes of the files.

    The perturbation is saved around mid-grey, amplified so that its largest change spans the full range.
    Files are named `stem-original.png`, `stem-perturbation.png` and `stem-adversarial.png`; in the result they
    are relative to the parent of `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    device = pair.x.device
    names = {part: f"{stem}-{part}.png" for part in ("original", "perturbation", "adversarial")}
    _save(pair.x, folder / names["original"])
    _save(pair.adversarial, folder / names["adversarial"])
    original, adversarial = (_read(folder / names[part]).to(device) for part in ("original", "adversarial"))

    # Drawn from the point before rounding: a change below half a level still has a shape worth seeing.
    change = pair.adversarial - pair.x
    top = float(change.abs().max())
    amplification = 1 / top if top > 0 else 1.0
    _save((0.5 + 0.5 * amplification * change).clamp(0, 1), folder / names["perturbation"])

    before, clean, after = model.logits(torch.stack([pair.adversarial, original, adversarial])).softmax(1)
    truth = int(clean.argmax()) if pair.truth is None else pair.truth
    # In whole levels, so that 1/255 is 1/255 and not a rounded difference of two floats.
    saved = ((adversarial * 255).round() - (original * 255).round())[None].double() / 255
    reached = [_reached(row, truth, pair.target) for row in (before, after)]
    return Comparison(
        sample=pair.sample,
        name=pair.name,
        truth="" if pair.truth is None else model.class_name(truth),
        attack=pair.attack.title,
        norm=pair.norm,
        eps=pair.eps,
        target=None if pair.target is None else model.class_name(pair.target),
        original=_judged(model, clean, f"{folder.name}/{names['original']}"),
        perturbation=f"{folder.name}/{names['perturbation']}",
        amplification=amplification,
        adversarial=_judged(model, after, f"{folder.name}/{names['adversarial']}"),
        size=float(norms.get(pair.norm).size(saved)[0]),
        rms=float(saved.square().mean().sqrt()),
        before_label=model.class_name(int(before.argmax())),
        before_confidence=float(before.max()),
        undone=reached == [True, False],
    )


def compare_picture(
    model: LoadedModel,
    path: Path,
    attack: Attack,
    eps: float,
    target: int | str | None,
    seed: int,
    folder: Path,
) -> tuple[Comparison, Path]:
    """Attack the picture at `path` and save the comparison; returns it with the path of the composed figure.

    What the model says of the clean picture stands in for its true class. A budgeted attack runs at `eps`, with
    all its steps.

    Raises:
        DataError: the file is no picture.
        ConfigError: the target is unknown, or is what the model says already; the attack does not go with the model.
    """
    model.check_attack(attack, target is not None)
    x = load_picture(path, model.preprocess)[None].to(model.device)
    seen = model.logits(x).argmax(1)
    aim = None if target is None else model.class_index(target)
    if aim is not None and aim == int(seen):
        raise ConfigError(f"the model already sees {model.class_name(aim)} in {path}: choose another target")
    budgeted = attack.ball and not attack.minimum_norm
    if budgeted:
        attack = attack.at(eps).thorough()
    goal = None if aim is None else torch.tensor([aim], device=model.device)
    try:
        point = attack(model, x, seen, target=goal, seed=seed)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    radius = eps if budgeted else None
    norm = attack.norm if attack.ball else "l2"
    pair = Pair(
        sample=0,
        name=path.name,
        truth=None,
        x=x[0],
        adversarial=point[0],
        attack=attack,
        norm=norm,
        eps=radius,
        target=aim,
    )
    stem = _stem(path)
    comparison = save_comparison(model, pair, folder, stem)
    return comparison, draw_figure(comparison, folder, stem)


def _stem(path: Path) -> str:
    """What the files of a picture are called after: its whole name, so that cat.png and cat.jpg each have their own."""
    name = os.fsencode(path.name)
    if len(name) <= _LONGEST:
        return path.name
    return f"{path.name[:40]}-{hashlib.sha256(name).hexdigest()[:16]}"


def draw_figure(comparison: Comparison, folder: Path, stem: str) -> Path:
    """The three saved pictures side by side with what the model says of each, as `stem-comparison.png`."""
    from matplotlib.figure import Figure

    parts = (
        (Path(comparison.original.file).name, _caption(comparison.original), ""),
        (Path(comparison.perturbation).name, "perturbation", f"+\n{1 / comparison.amplification:.4g} ×"),
        (Path(comparison.adversarial.file).name, _caption(comparison.adversarial), "="),
    )
    with Image.open(folder / parts[0][0]) as picture:
        side = max(picture.size)
    panel = 2.7  # inches; whole screen pixels for each pixel of the picture, so that nothing is lost
    dpi = max(1, round(400 / side)) * side / panel
    figure = Figure(figsize=(10, 3.6), dpi=dpi, facecolor="white")
    for place, (file, caption, sign) in enumerate(parts):
        left = 0.02 + 0.345 * place
        axes = figure.add_axes((left, 0.21, 0.27, 0.75))
        with Image.open(folder / file) as picture:
            axes.imshow(np.asarray(picture), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.axis("off")
        figure.text(left + 0.135, 0.17, caption, ha="center", va="top", fontsize=9, parse_math=False)
        figure.text(left - 0.0375, 0.585, sign, ha="center", va="center", fontsize=9, linespacing=1.4)
    path = folder / f"{stem}-comparison.png"
    figure.savefig(path)
    return path


def _caption(picture: Picture) -> str:
    label = picture.label if len(picture.label) <= 40 else f"{picture.label[:39]}…"
    return f"{label}\n{100 * picture.confidence:.1f} % confidence"


def _reached(probabilities: Tensor, truth: int, target: int | None) -> bool:
    seen = int(probabilities.argmax())
    return seen != truth if target is None else seen == target


def _judged(model: LoadedModel, probabilities: Tensor, file: str) -> Picture:
    index = int(probabilities.argmax())
    return Picture(file, model.class_name(index), index, float(probabilities[index]))


def _save(picture: Tensor, path: Path) -> None:
    levels = (picture.cpu() * 255).round().to(torch.uint8)
    array = levels[0].numpy() if len(levels) == 1 else levels.permute(1, 2, 0).numpy()
    Image.fromarray(array).save(path, format="PNG")


def _read(path: Path) -> Tensor:
    with Image.open(path) as file:
        array = np.asarray(file, dtype=np.float32) / 255
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())
