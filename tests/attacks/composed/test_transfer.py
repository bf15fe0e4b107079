"""Points made on one model for another that is asked nothing."""

from __future__ import annotations

import json

import pytest
import torch
from attack_models import Counting, Trained, conv_net, wrong
from torch import nn

from robustkit import load_data, load_model
from robustkit.attacks import DDN, MIFGSM, PGD, Classifier, Square, Transfer
from robustkit.attacks.core.query_trace import Trace


def test_the_points_are_the_inner_attacks_and_the_model_is_asked_nothing(trained: Trained) -> None:
    x, y, ids = trained.x, trained.y, torch.arange(64) + 5
    asked, trace = Counting(conv_net(seed=1)), Trace(64)
    surrogate, inner = Classifier(trained.net), PGD(norm="l2", eps=0.8, steps=7)
    adv = Transfer(surrogate, inner)(asked, x, y, ids=ids, seed=3, trace=trace)
    assert torch.equal(adv, PGD(norm="l2", eps=0.8, steps=7, early_stop=False)(trained.net, x, y, ids=ids, seed=3))
    assert (asked.forwards, int(trace.forwards.sum()), int(trace.backwards.sum())) == (0, 0, 0)
    assert surrogate.backwards == 64 * 7
    target = (y + 1) % 5
    aimed = Transfer(surrogate, inner)(asked, x, y, ids=ids, seed=3, target=target)
    whole = PGD(norm="l2", eps=0.8, steps=7, early_stop=False)
    assert torch.equal(aimed, whole(trained.net, x, y, ids=ids, seed=3, target=target))


def test_norm_and_eps_are_the_inner_attacks_unless_given(trained: Trained) -> None:
    surrogate = Classifier(trained.net)
    plain = Transfer(surrogate)
    assert (plain.norm, plain.eps, plain.attack) == ("linf", 8 / 255, MIFGSM(steps=20, early_stop=False))
    assert Transfer(surrogate, norm="l2", eps=2.0).attack == MIFGSM(norm="l2", eps=2.0, steps=20, early_stop=False)
    moved = Transfer(surrogate, PGD(norm="l1", eps=3.0, early_stop=True)).at(5.0)
    assert (moved.norm, moved.eps, moved.attack) == ("l1", 5.0, PGD(norm="l1", eps=5.0, early_stop=False))
    assert Transfer(surrogate, Square(), eps=0.2).attack == Square(eps=0.2, early_stop=False)


def test_its_parameters_can_be_written_down(trained: Trained) -> None:
    shown = Transfer(Classifier(trained.net), PGD(eps=0.1)).parameters()
    assert json.loads(json.dumps(shown)) == shown
    assert (shown["surrogate"], shown["attack"], shown["eps"], shown["inner_steps"]) == ("Sequential", "pgd", 0.1, 40)


def test_a_surrogate_of_another_dtype_keeps_the_budget(trained: Trained) -> None:
    x, y = trained.x.double() * 0.999, trained.y
    adv = Transfer(Classifier(trained.net), eps=0.05)(conv_net().double(), x, y)
    assert adv.dtype == torch.float64
    assert float((adv - x).abs().max()) <= 0.05 + 1e-12
    assert 0 <= float(adv.min()) <= float(adv.max()) <= 1


def test_what_does_not_fit_is_named(trained: Trained) -> None:
    x, y = trained.x[:2], trained.y[:2]
    surrogate = Classifier(trained.net, labels="abcde")
    with pytest.raises(ValueError, match="has other classes than the model"):
        Transfer(surrogate)(Classifier(conv_net(6), labels="abcdef"), x, y)
    with pytest.raises(ValueError, match="class 7 asked of a model that has 5 classes"):
        Transfer(surrogate)(conv_net(8), x, y + 7 - y)
    with pytest.raises(ValueError, match="surrogate is a Classifier, not Sequential"):
        Transfer(trained.net)
    with pytest.raises(ValueError, match="DDN cannot make points"):
        Transfer(surrogate, DDN())
    with pytest.raises(ValueError, match="Transfer cannot make points"):
        Transfer(surrogate, Transfer(surrogate))
    with pytest.raises(ValueError, match="norm is 'l2', but the inner attack PGD works in 'linf'"):
        Transfer(surrogate, PGD(), norm="l2")
    with pytest.raises(ValueError, match="eps must be a positive number, got 0"):
        Transfer(surrogate, eps=0)
    with pytest.raises(ValueError, match="PGD needs gradients, this model gives"):
        Transfer(Classifier(lambda x: nn.Flatten()(x)), PGD())


@pytest.fixture(scope="module")
def lenets():
    models = [load_model(name, device="cpu", precision="fp32") for name in ("lenet-mnist-pgd", "lenet-mnist")]
    batch = next(load_data("mnist-samples").batches(models[0], 100, 100))
    return *models, batch.x, batch.y


def test_more_steps_than_it_takes_make_points_that_transfer(lenets) -> None:
    hard, soft, x, y = lenets
    adv = Transfer(hard, eps=0.3)(soft, x, y)
    hasty = MIFGSM(eps=0.3, steps=20)(hard, x, y)
    assert int(wrong(soft.net, adv, y).sum()) >= int(wrong(soft.net, hasty, y).sum())
    assert int(wrong(soft.net, adv, y).sum()) >= 30
