"""Find a network's weights in a checkpoint, whatever they are nested in: wrappers, averages, normalisers.

A state dict of `Sequential(Normalize, DataParallel(net))` calls a weight "1.module.conv1.weight". The prefix is not
guessed from a list: it is the one under which every weight of the architecture lies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustkit.errors import ConfigError, ModelError
from robustkit.models.kinds.normalisers import Normaliser, find_normaliser, hidden_part
from robustkit.text import some

_AVERAGE = re.compile(r"(?:^|_)(?:ema|swa|avg|averaged?|shadow)(?:_|$)", re.IGNORECASE)
# Wrappers that put a name of theirs anywhere in a key; no network calls a layer so.
_MARKS = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_LOSS = re.compile(r"(?:(?:train|val|valid|test)_)?(?:criterion|criteria|loss|metric|acc|f1|auroc|confmat)\w*")
_COUNTERS = {"n_averaged", "num_updates", "decay", "initted", "step", "global_step"}
_DEPTH = 4  # of mappings in each other

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Wanted:
    """An architecture whose weights are looked for.

    Args:
        name: as it was asked for.
        keys: of its state dict.
        rename: brings the keys of older releases to those of today.
        channels: of its input.
    """

    name: str
    keys: frozenset[str]
    rename: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    channels: int

    @cached_property
    def needed(self) -> frozenset[str]:
        """Batch norm counts its batches only to train on; files older than the counter are whole without it."""
        return frozenset(key for key in self.keys if not key.endswith("num_batches_tracked"))

    @cached_property
    def tops(self) -> frozenset[str]:
        """First parts of the keys, such as "conv1"."""
        return frozenset(key.partition(".")[0] for key in self.keys)


@dataclass(frozen=True)
class Network:
    """Weights of a network as they were found in a checkpoint.

    Args:
        state: the architecture's keys, and those of the file that are not accounted for.
        prefix: that all keys of the network have in the file, such as "module."; "" where there is none.
        normaliser: that the network is wrapped in; None if there is none.
        hidden: a part without weights that comes before the network, such as "0"; "" if there is none.
        averaged: the weights are an average over steps of training.
        notes: for a report: what was taken and what was left out.
    """

    state: dict[str, Tensor]
    prefix: str = ""
    normaliser: Normaliser | None = None
    hidden: str = ""
    averaged: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Fit:
    """One prefix in one state dict of the file.

    Args:
        path: keys that lead to the state dict.
        prefix: of the network's weights in it.
        whole: the state dict.
        state: what lies under the prefix, renamed.
        averaged: over steps of training.
    """

    path: tuple[str, ...]
    prefix: str
    whole: State
    state: dict[str, Tensor]
    averaged: bool

    @property
    def name(self) -> str:
        return ".".join((*self.path, self.prefix)).strip(".") or "the state dict"


def find_network(content: Mapping[str, Any], wanted: Wanted, file: Path, weights: str = "auto") -> Network:
    """The weights of an architecture in what a file holds.

    Args:
        content: a state dict, or mappings in which one lies.
        wanted: the architecture.
        file: that all is from.
        weights: "raw", "ema" (averaged), or "auto": the averaged ones where there are some.

    Returns:
        The network; where none fits, the state dict that comes closest, whose faults `fill` names.

    Raises:
        ModelError: no tensors, several networks that fit, averaged weights that do not, or a normaliser out of range.
        ConfigError: the file has no weights of the kind that is asked for.
    """
    states = list(_state_dicts(content))
    if not states:
        raise ModelError(f"{file} holds no tensors: save model.state_dict()")
    fits = [fit for path, whole in states for fit in _fits(path, whole, wanted, "averaging_state" in content)]
    most = max(_count(fit, wanted) for fit in fits)
    if most < len(wanted.needed):
        return _closest(fits, most, wanted)
    complete = [fit for fit in fits if _count(fit, wanted) == most]
    unread = _unread_averages(content, complete)
    chosen, notes = _chosen(complete, unread, weights, file, wanted)
    state = {key: value for key, value in chosen.state.items() if key in wanted.keys}
    rest = _rest(chosen, complete, wanted)
    layers = tuple(f"{chosen.prefix}{top}" for top in wanted.tops)
    around = {key: value for key, value in rest.items() if not f"{key}.".startswith(tuple(f"{e}." for e in layers))}
    normaliser = find_normaliser(chosen.prefix, around, wanted.channels, file)
    if normaliser is not None:
        around = {key: value for key, value in around.items() if key not in normaliser.keys}
        notes.append(str(normaliser))
    counters = [key for key, value in around.items() if _counts(key, value)]
    averages = [key for key in around if _is_average(key.split(".")) and key not in counters]
    if averages and weights != "raw":
        raise ModelError(_not_laid(file, averages, wanted))
    losses = [key for key in around if any(_LOSS.fullmatch(part) for part in key.split("."))]
    if beside := [*losses, *averages]:
        notes.append(f"no part of the network and left out: {some(beside)}")
    accounted = {*(normaliser.keys if normaliser else ()), *beside, *counters}
    state |= {key: value for key, value in rest.items() if key not in accounted}
    hidden = hidden_part(chosen.prefix, chosen.whole)
    return Network(state, chosen.prefix, normaliser, hidden, averaged=chosen.averaged, notes=tuple(notes))


def _state_dicts(content: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], State]]:
    """Each mapping that holds tensors, and the keys that lead to it; not those of optimisers."""
    tensors = {_MARKS.sub("", key): value for key, value in _named(content) if isinstance(value, Tensor)}
    if tensors:
        yield path, tensors
    if len(path) < _DEPTH:
        for key, value in _named(content):
            if isinstance(value, Mapping):
                yield from _state_dicts(value, (*path, key))


def _named(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(key, str) and not (key.startswith("optim") and isinstance(value, Mapping)):
            yield key, value


def _fits(path: tuple[str, ...], whole: State, wanted: Wanted, lightning: bool) -> Iterator[_Fit]:
    """Everything under each prefix. `lightning`: Lightning's WeightAveraging has put the average in `state_dict`."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, value in whole.items():
        for prefix in above(key):
            groups.setdefault(prefix, {})[key.removeprefix(prefix)] = value
    for prefix, state in groups.items():
        averaged = _is_average((*path, *prefix.split("."))) or any(f"{up}n_averaged" in whole for up in above(prefix))
        averaged = averaged or (lightning and path == ("state_dict",))
        yield _Fit(path, prefix, whole, wanted.rename(state), averaged)


def above(key: str) -> list[str]:
    """The prefixes of a key, from none to the longest."""
    parts = key.split(".")
    return ["".join(f"{part}." for part in parts[:count]) for count in range(len(parts))]


def _count(fit: _Fit, wanted: Wanted) -> int:
    return len(wanted.needed & fit.state.keys())


def _counts(key: str, value: Tensor) -> bool:
    return value.numel() == 1 and key.rpartition(".")[2] in _COUNTERS


def _closest(fits: Sequence[_Fit], most: int, wanted: Wanted) -> Network:
    """What comes closest; of another architecture the largest state dict as it is."""
    if 2 * most > len(wanted.needed):
        closest = [fit for fit in fits if _count(fit, wanted) == most]
        best = min(closest, key=lambda fit: (len(fit.prefix), len(fit.path)))
    else:
        best = max((fit for fit in fits if not fit.prefix), key=lambda fit: len(fit.state))
    outside = {key: value for key, value in best.whole.items() if not key.startswith(best.prefix)}
    return Network({**best.state, **outside}, best.prefix)


def _is_average(parts: Iterable[str]) -> bool:
    return any(_AVERAGE.search(part) for part in parts)


def _unread_averages(content: Any, complete: Sequence[_Fit], path: tuple[str, ...] = ()) -> list[str]:
    """Names of mappings and lists in the file that are called averages, hold tensors and do not fit."""
    found: list[str] = []
    if isinstance(content, Mapping) and len(path) <= _DEPTH:
        for key, value in _named(content):
            here = (*path, key)
            if not _is_average([key]):
                found += _unread_averages(value, complete, here)
            elif _holds_tensors(value) and not any(fit.path[: len(here)] == here for fit in complete):
                found.append(".".join(here))
    return found


def _holds_tensors(value: Any, depth: int = 0) -> bool:
    """A mapping or list with a tensor somewhere in it."""
    if not isinstance(value, Mapping | list | tuple) or depth > _DEPTH:
        return False
    items = list(value.values()) if isinstance(value, Mapping) else value
    return any(isinstance(item, Tensor) or _holds_tensors(item, depth + 1) for item in items)


def _chosen(
    complete: Sequence[_Fit], unread: Sequence[str], weights: str, file: Path, wanted: Wanted
) -> tuple[_Fit, list[str]]:
    """The one network that is meant, and what is to be said of it."""
    averaged = [fit for fit in complete if fit.averaged]
    raw = [fit for fit in complete if not fit.averaged]
    if unread and not averaged and weights != "raw":
        raise ModelError(_not_laid(file, unread, wanted))
    kind = weights if weights != "auto" else "ema" if averaged else "raw"
    fits = averaged if kind == "ema" else raw
    if not fits:
        what, others = ("averaged", "raw") if kind == "ema" else ("raw", "averaged")
        raise ConfigError(f"{file} holds {others} weights of {wanted.name} and no {what} ones: leave out --weights")
    # A network of few layers may also fit a part of itself: what leaves nothing over is meant.
    fits = [fit for fit in fits if not _rest(fit, [], wanted)] or fits
    chosen = min(fits, key=lambda fit: (len(fit.prefix), len(fit.path)))
    rivals = [fit for fit in fits if fit is not chosen and not _same(fit, chosen, wanted)]
    if rivals:
        names = some(fit.name for fit in (chosen, *rivals))
        raise ModelError(
            f"{file} holds several networks that fit {wanted.name} ({names}): save the one that you mean alone"
        )
    if kind == "raw":
        if not averaged and not unread:
            return chosen, []
        left = some([*(fit.name for fit in averaged), *unread])
        return chosen, [f"raw weights from {chosen.name}, the averaged ones ({left}) left out"]
    counts = [chosen.whole[f"{up}n_averaged"] for up in above(chosen.prefix) if f"{up}n_averaged" in chosen.whole]
    of = f", of {int(counts[0])} models" if counts and counts[0].numel() == 1 else ""
    other = f"; --weights raw takes those from {some(fit.name for fit in raw)}" if raw else ""
    return chosen, [f"averaged weights (EMA or SWA{of}) from {chosen.name}{other}"]


def _not_laid(file: Path, names: Iterable[str], wanted: Wanted) -> str:
    return (
        f"{file} holds averaged weights ({some(names)}) in a form that does not fit {wanted.name}: "
        "give --weights raw for the others, or save the averaged network's state_dict"
    )


def _same(one: _Fit, other: _Fit, wanted: Wanted) -> bool:
    pairs = ((one.state[key], other.state[key]) for key in wanted.needed)
    return all(
        mine.dtype == its.dtype and (mine.data_ptr() == its.data_ptr() or torch.equal(mine, its)) for mine, its in pairs
    )


def _rest(chosen: _Fit, complete: Sequence[_Fit], wanted: Wanted) -> dict[str, Tensor]:
    """What is in the state dict besides the network, and not in a branch that holds another copy of it."""
    rest = {key: value for key, value in chosen.whole.items() if not key.startswith(chosen.prefix)}
    rest |= {f"{chosen.prefix}{key}": value for key, value in chosen.state.items() if key not in wanted.keys}
    mine = above(f"{chosen.prefix}*")
    for other in complete:
        if other.whole is chosen.whole and other is not chosen:
            branch = next((up for up in above(f"{other.prefix}*") if up not in mine), None)
            if branch is not None:
                rest = {key: value for key, value in rest.items() if not key.startswith(branch)}
    return rest
