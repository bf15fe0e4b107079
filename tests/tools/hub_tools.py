"""The cache of the Hugging Face hub as a test fills it: nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

SIZES = ((131, 97), (97, 131), (75, 301), (300, 211), (23, 31), (40, 39), (181, 181))
"""Heights and widths of pictures, odd and even, larger and smaller than the inputs of the tests."""


def pictures(mode: str = "RGB") -> list[Image.Image]:
    """Pictures of full-range noise over a slope, of every size in SIZES."""
    found = []
    for height, width in SIZES:
        noise = np.random.default_rng((height, width)).integers(0, 256, (height, width, 3))
        slope = np.linspace(0, 255, width)[None, :, None]
        found.append(Image.fromarray(np.uint8((noise + slope) / 2)).convert(mode))
    return found


def hub_cache(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache in the place of the user's."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(root))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    root.mkdir(parents=True, exist_ok=True)
    return root


def cached(root: Path, repo: str) -> Path:
    """The folder of a repository in a cache, as a download leaves it: its files go there."""
    place = root / f"models--{repo.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    snapshot = place / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    return snapshot
