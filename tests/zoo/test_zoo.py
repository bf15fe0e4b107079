"""The networks in the zoo are as good as their card says, and training them is repeatable."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from robustkit.attacks import PGD
from robustkit.data.load import load_data
from robustkit.models.load import load_model
from robustkit.zoo import train

ZOO = Path(train.__file__).parent
CARDS = json.loads((ZOO / "lenet.json").read_text())


@pytest.mark.parametrize("name", list(train.RECIPES))
def test_the_card_tells_the_truth(name: str) -> None:
    model = load_model(name, device="cpu", precision="fp32")
    (batch,) = load_data("mnist-samples").batches(model, 1000)
    clean = float((model.logits(batch.x).argmax(1) == batch.y).float().mean())
    assert clean == pytest.approx(CARDS[name]["clean_accuracy"], abs=0.002)
    x, y = batch.x[:200], batch.y[:200]
    points = PGD(eps=0.1, steps=40)(model, x, y, seed=0)
    robust = float((model.logits(points).argmax(1) == y).float().mean())
    # The card is of all 1,000; two standard errors of 200 are 0.07.
    assert robust == pytest.approx(CARDS[name]["pgd40_accuracy"]["0.1"], abs=0.07)


def test_the_cards_are_of_todays_recipes() -> None:
    for name, recipe in train.RECIPES.items():
        assert CARDS[name]["recipe"] == asdict(recipe)
    assert CARDS["lenet-mnist"]["clean_accuracy"] >= 0.975
    assert CARDS["lenet-mnist-pgd"]["pgd40_accuracy"]["0.3"] >= 0.6


@pytest.mark.parametrize("name", list(train.RECIPES))
def test_training_is_repeatable(name: str) -> None:
    x, y = train.digits(held_out=False)
    rows = torch.arange(0, 4000, 20)
    recipe = replace(train.RECIPES[name], epochs=2, warmup=1, steps=2)
    first, second = (train.train(recipe, x[rows], y[rows], seed=3, log=False) for _ in range(2))
    other = train.train(recipe, x[rows], y[rows], seed=4, log=False)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key])
    assert not torch.equal(first.fc3.weight, other.fc3.weight)


def test_training_writes_weights_and_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = replace(train.RECIPES["lenet-mnist"], epochs=1, batch=1000)
    monkeypatch.setitem(train.RECIPES, "lenet-mnist", short)
    monkeypatch.setattr(train, "TESTED_EPS", (0.3,))
    monkeypatch.setattr("sys.argv", ["train", "--out", str(tmp_path), "--only", "lenet-mnist"])
    train.main()
    assert load_file(tmp_path / "lenet-mnist.safetensors")["fc3.weight"].shape == (10, 84)
    card = json.loads((tmp_path / "lenet.json").read_text())
    assert list(card) == ["lenet-mnist"]
    assert 0 < card["lenet-mnist"]["clean_accuracy"] < 1


def test_moved_digits_stay_digits() -> None:
    x, _ = train.digits(held_out=True)
    moved = train.moved(x[:50], torch.Generator().manual_seed(0))
    assert moved.shape == (50, 1, 28, 28)
    assert moved.min() >= 0
    assert moved.max() <= 1
    ink = moved.sum((1, 2, 3)) / x[:50].sum((1, 2, 3))
    assert ((ink > 0.7) & (ink < 1.4)).all()
