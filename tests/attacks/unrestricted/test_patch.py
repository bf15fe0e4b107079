"""The patch: its size, its places, and that it works where noise of its kind does not."""

from __future__ import annotations

import json

import pytest
import torch
from attack_models import Counting, Trained, conv_net, linear, wrong
from torch import Tensor

from robustkit import load_data, load_model
from robustkit.attacks import Attack, Classifier, Patch
from robustkit.attacks.core.query_trace import Trace


def with_patch(attack: Patch, patch: Tensor) -> Patch:
    """As if it had been fitted to that."""
    object.__setattr__(attack, "change", patch)
    return attack


def places(attack: Patch, rows: int, *shape: int, seed: int = 0) -> Tensor:
    """Where a white patch lies on black pictures [rows, H, W]."""
    x, y = torch.zeros(rows, *shape), torch.zeros(rows, dtype=torch.int64)
    net = linear(torch.zeros(2, x[0].numel()), torch.zeros(2))
    return with_patch(attack, torch.ones(shape[0], 4, 4))(net, x, y, seed=seed)[:, 0] > 0


@pytest.mark.parametrize("share", [0.05, 0.2])
@pytest.mark.parametrize("shape", ["square", "circle"])
@pytest.mark.parametrize("size", [(1, 40, 40), (3, 30, 50)])
def test_it_covers_its_share(size: tuple[int, ...], shape: str, share: float) -> None:
    covered = places(Patch(share=share, shape=shape), 50, *size).flatten(1).float().mean(1)
    assert float(covered.mean()) == pytest.approx(share, rel=0.03)
    assert float((covered - share).abs().max()) < 0.2 * share
    smaller = places(Patch(share=share, shape=shape, scale=0.5), 200, *size).flatten(1).float().mean(1)
    assert float(smaller.max()) < 1.2 * share
    assert float(smaller.mean()) == pytest.approx(share * 7 / 12, rel=0.1)  # of the square of uniform in [.5, 1]


def test_it_lies_all_over_the_picture_and_never_over_the_edge() -> None:
    seen = places(Patch(share=0.05), 300, 1, 20, 20).float().mean(0)
    assert float(seen.min()) >= 0
    assert float(seen[4:16, 4:16].min()) > 0
    assert float(seen[:10].sum() / seen.sum()) == pytest.approx(0.5, abs=0.06)
    assert float(seen[:, :10].sum() / seen.sum()) == pytest.approx(0.5, abs=0.06)


def test_a_place_is_a_matter_of_seed_and_id() -> None:
    attack = with_patch(Patch(share=0.1), torch.rand(1, 5, 5))
    x, y, ids = torch.rand(9, 1, 12, 12), torch.zeros(9, dtype=torch.int64), torch.arange(9) * 3
    net = linear(torch.zeros(2, 144), torch.zeros(2))
    whole = attack(net, x, y, ids=ids, seed=4)
    order = torch.randperm(9)
    torch.testing.assert_close(attack(net, x[order], y, ids=ids[order], seed=4), whole[order])
    torch.testing.assert_close(attack(net, x[2:3], y[:1], ids=ids[2:3], seed=4), whole[2:3])
    assert not torch.equal(attack(net, x, y, ids=ids, seed=5), whole)
    moved = (whole != x).flatten(1)
    assert len({tuple(row.tolist()) for row in moved}) == 9


def test_unturned_it_is_the_patch_pixel_by_pixel() -> None:
    """As large as the picture allows there is one place for it."""
    patch = torch.rand(2, 6, 6)
    x, y = torch.zeros(1, 2, 6, 12), torch.zeros(1, dtype=torch.int64)
    net = linear(torch.zeros(2, 144), torch.zeros(2))
    for seed in range(5):
        out = with_patch(Patch(share=0.5, rotate=0.0), patch)(net, x, y, seed=seed)[0]
        columns = (out[0] > 0).any(0).nonzero().squeeze(1)
        assert 5 <= len(columns) <= 7
        close = [float((out[:, :, c : c + 6] - patch).abs().mean()) for c in range(7)]
        assert min(close) < 0.25


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_on_a_linear_model_it_turns_as_white_or_black_as_the_weights_say(dtype: torch.dtype) -> None:
    """Wherever it lies, white on the first channel and black on the second lowers the margin."""
    weight = torch.stack([torch.ones(64), -torch.ones(64)]).flatten()
    net = linear(torch.stack([-weight, weight]) / 100, torch.tensor([2.0, 0.0])).to(dtype)
    x, y = torch.full((6, 2, 8, 8), 0.5, dtype=dtype), torch.zeros(6, dtype=torch.int64)
    attack = Patch(share=0.2, epochs=20).fitted(net, lambda: [(x, y, torch.arange(6))])
    assert float(attack.change[0].mean()) > 0.95
    assert float(attack.change[1].mean()) < 0.05
    assert attack.change.dtype == dtype


@pytest.mark.parametrize("shape", ["square", "circle"])
def test_unseen_digits_are_fooled_by_it_and_not_by_a_random_one(shape: str) -> None:
    model = load_model("lenet-mnist", device="cpu", precision="fp32")
    batch = next(load_data("mnist-samples").batches(model, 400, 400))
    seen, unseen = slice(0, 200), slice(200, 400)
    plain = Patch(share=0.1, shape=shape)
    attack = plain.fitted(model, lambda: [(batch.x[seen], batch.y[seen], batch.ids[seen])])

    def left(attack: Patch) -> float:
        adv = attack(model, batch.x[unseen], batch.y[unseen], ids=batch.ids[unseen])
        return float((model.logits(adv).argmax(1) == batch.y[unseen]).float().mean())

    # 64 % of 500 unseen ones after fitting on 500, 82 % with random pixels instead.
    assert left(attack) < left(with_patch(Patch(share=0.1, shape=shape), torch.rand(attack.change.shape))) - 0.1


def test_towards_a_class(trained: Trained) -> None:
    net, x, y = trained
    attack = Patch(share=0.4, towards=2).fitted(net, lambda: [(x, y, torch.arange(64))])
    others = y != 2
    before, after = (net(points).argmax(1)[others] == 2 for points in (x, attack(net, x, y)))
    assert float(after.float().mean()) > float(before.float().mean()) + 0.3
    only = Patch(towards=0).fitted(net, lambda: [(x[y == 0], y[y == 0], torch.arange(int((y == 0).sum())))])
    assert only.change is not None  # nothing to learn from, but there were samples


def test_the_goal_of_a_call_is_the_goal_of_the_fit(trained: Trained) -> None:
    net, x, y = trained
    target = torch.where(y == 2, 3, 2)
    adv = Patch(share=0.4)(net, x, y, target=target)
    assert float((net(adv).argmax(1) == target).float().mean()) > 0.3
    assert int(wrong(net, Patch(share=0.4)(net, x, y), y).sum()) > 20


def test_fitting_costs_its_epochs_and_attacking_nothing(trained: Trained) -> None:
    net = Counting(conv_net().eval())
    model, x, y = Classifier(net), trained.x, trained.y
    attack = Patch(epochs=3, batch=10).fitted(model, lambda: [(x, y, torch.arange(64))])
    assert (net.forwards, net.backwards) == (model.forwards, model.backwards) == (192, 192)
    attack(model, x, y)
    assert net.forwards == 192
    trace = Trace(64)
    Patch(epochs=3, batch=10)(model, x, y, trace=trace)
    assert trace.forwards.tolist() == trace.backwards.tolist() == [3] * 64


def test_fitted_its_parameters_are_plain_and_it_is_one_attack(trained: Trained) -> None:
    attack = Patch(epochs=1).fitted(trained.net, lambda: [(trained.x, trained.y, torch.arange(64))])
    assert attack.parameters() == Patch(epochs=1).parameters()
    assert json.loads(json.dumps(attack.parameters())) == attack.parameters()
    assert [kind for kind in Attack.kinds() if kind.name == "patch"] == [Patch]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 0}, "share must be a positive number of at most 0.5, got 0"),
        ({"share": 0.6}, "share must be"),
        ({"shape": "star"}, "shape is one of square, circle"),
        ({"rotate": -1}, "rotate must be a number from 0 to 180, got -1"),
        ({"scale": 1.5}, "scale must be a positive number of at most 1"),
        ({"towards": -1}, "towards must be a whole number"),
        ({"epochs": 0}, "epochs must be a whole number"),
        ({"batch": 0}, "batch must be a whole number"),
        ({"step_size": 2}, "step_size must be a positive number of at most 1"),
    ],
)
def test_wrong_parameters_are_one_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        Patch(**settings)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((4, 64), r"needs pictures \[B, C, H, W\]"), ((4, 1, 4, 16), "wider than a picture of 16x4 pixels")],
)
def test_where_no_patch_fits_it_says_so(shape: tuple[int, ...], message: str) -> None:
    net = linear(torch.zeros(2, 64), torch.zeros(2))
    with pytest.raises(ValueError, match=message):
        Patch(share=0.4)(net, torch.rand(shape), torch.zeros(4, dtype=torch.int64))


def test_other_channels_are_refused() -> None:
    net = linear(torch.zeros(2, 64), torch.zeros(2))
    with pytest.raises(ValueError, match="fitted on pictures of 3 channels, these have 1"):
        with_patch(Patch(), torch.rand(3, 2, 2))(net, torch.rand(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="class 7 asked of a model that has 2 classes"):
        Patch(towards=7)(net, torch.rand(1, 1, 8, 8), torch.zeros(1, dtype=torch.int64))
