"""Comparisons: original + change = adversarial, from the PNG files beside report.json."""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ..record.audit_record import AuditRecord
from ..record.parts import Comparison, Picture
from ..record.ranking import free, ranked, strongest
from . import wording

_ROOM = 4_000_000  # characters of data: URIs, so that the page stays under 5 MB
_SMALL = 96  # below this side a picture is enlarged pixel by pixel
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Embedded:
    """Picture within the page, or a note where there is none."""

    alt: str
    src: str | None = None
    width: int = 0
    height: int = 0
    note: str = ""

    @property
    def pixelated(self) -> bool:
        return max(self.width, self.height) < _SMALL


@dataclass(frozen=True)
class Shown:
    """Picture with its caption."""

    picture: Embedded
    label: str
    detail: str


@dataclass(frozen=True)
class Pair:
    """One comparison."""

    name: str
    state: str  # "fooled", "held" or "undone"
    before: str
    after: str
    setting: str
    remark: str
    factor: str  # what the change is multiplied by when its picture stands for -1 to 1; "" but in L∞
    original: Shown
    change: Shown
    adversarial: Shown


@dataclass
class PictureSource:
    """Reads PNG files from a folder, nothing outside it, until the page is full."""

    folder: Path
    room: int = field(default=_ROOM)

    def load(self, file: str, alt: str) -> Embedded:
        """Embed a file, `file` relative to the folder; a note says why where it cannot be."""
        path = PurePosixPath(file)
        shown = wording.clean(file)
        base = self.folder.resolve()
        if path.is_absolute() or ".." in path.parts or "\\" in file or ":" in file or "\0" in file:
            return Embedded(alt, note=f"{shown}: not a path within the report, left out")
        try:
            real = (base / path).resolve()
            if not real.is_relative_to(base):
                return Embedded(alt, note=f"{shown}: leads outside the report, left out")
            if not real.is_file():  # a pipe would be waited for
                return Embedded(alt, note=f"{shown}: missing beside report.json")
            if real.stat().st_size * 4 / 3 > self.room:
                return Embedded(alt, note=f"{shown}: left out to keep this page small; the file lies beside it")
            content = real.read_bytes()
        except (OSError, RuntimeError, ValueError):
            return Embedded(alt, note=f"{shown}: missing beside report.json")
        if not content.startswith(_SIGNATURE) or len(content) < 33:
            return Embedded(alt, note=f"{shown}: not a PNG file")
        width, height = struct.unpack(">II", content[16:24])
        src = "data:image/png;base64," + base64.b64encode(content).decode("ascii")
        self.room -= len(src)
        return Embedded(alt, src, width, height)


def pairs(record: AuditRecord, source: PictureSource) -> list[Pair]:
    """List the comparisons, those of the strongest attack first."""
    texts = {point.eps: wording.clean(point.text, 20) for point in record.worst_case}
    best = strongest(record)
    first = None if best is None else record.attacks[best].title
    apart = ", the strongest attack" if len(ranked(record)) > 1 else ""
    loose = {attack.title for attack in free(record)}
    shown = []
    for c in sorted(record.comparisons, key=lambda c: c.attack != first):
        eps = None if c.eps is None else texts.get(c.eps, wording.eps(c.eps))
        within = f"within ε = {eps}" if eps is not None else "smallest change it found"
        limit = "no limit to the change" if c.attack in loose else f"{within}, {wording.NORMS[c.norm]}"
        rank = apart if c.attack == first else ""
        shown.append(_pair(c, source, f"{wording.clean(c.attack, 40)}{rank}, {limit}"))
    return shown


def _pair(c: Comparison, source: PictureSource, setting: str) -> Pair:
    name, attack = wording.clean(c.name), wording.clean(c.attack, 40)
    before, after = wording.clean(c.original.label), wording.clean(c.adversarial.label)
    size = _size(c)
    times = wording.number(c.amplification)
    sees = f"the model sees {before}, {_confidence(c.original)}"
    original = source.load(c.original.file, f"{name} before the attack: {sees}")
    change = source.load(c.perturbation, f"The change {attack} made to {name}, amplified {times} times to be visible")
    adversarial = source.load(
        c.adversarial.file,
        f"{name} with that change, {size}, added: the model sees {after}, {_confidence(c.adversarial)}",
    )
    state = "undone" if c.undone else "held" if c.original.index == c.adversarial.index else "fooled"
    return Pair(
        name=name,
        state=state,
        before=before,
        after=after,
        setting=setting,
        remark=_remark(c, state),
        factor=f"{wording.levels(1 / c.amplification)}/255",
        original=Shown(original, before, _confidence(c.original)),
        change=Shown(change, f"change, amplified {times} ×", size),
        adversarial=Shown(adversarial, after, _confidence(c.adversarial)),
    )


def _remark(c: Comparison, state: str) -> str:
    parts = []
    if c.truth and c.truth != c.original.label:
        parts.append(f"True class: {wording.clean(c.truth)}.")
    if c.target is not None:
        reached = "reached" if c.adversarial.label == c.target else "not reached"
        parts.append(f"Target “{wording.clean(c.target)}”: {reached} in the saved picture.")
    if state == "undone":
        fooled = f"{wording.clean(c.before_label)} ({wording.percent(c.before_confidence, 1000)})"
        parts.append(f"Rounding to 8 bits undid this attack: before it was saved as a picture the model saw {fooled}.")
    if state == "held":
        parts.append("The attack did not change what the model sees.")
    return " ".join(parts)


def _confidence(picture: Picture) -> str:
    return f"{wording.percent(picture.confidence, 1000)} confidence"


def _size(c: Comparison) -> str:
    rms = f"root mean square {wording.levels(c.rms)}"
    if c.norm == "linf":
        return f"at most {wording.levels(c.size)} of 255 levels, {rms}"
    return f"{wording.NORMS[c.norm]} size {wording.number(c.size)}, {rms} of 255 levels"
