"""Image classifiers of Hugging Face's transformers, from the hub or from a folder."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustkit.errors import ConfigError, ModelError
from robustkit.models.checkpoints import check_finite
from robustkit.models.kinds.image_processor import read_processor
from robustkit.models.source import ModelSource, Request
from robustkit.text import one_line

PREFIX = "hf:"


class _Logits(nn.Module):
    """A model of transformers as a module that maps pictures to logits.

    Args:
        model: returns an object with `logits`.
        flipped: takes the channels as blue, green, red.
    """

    def __init__(self, model: nn.Module, flipped: bool) -> None:
        super().__init__()
        self.model, self.flipped = model, flipped

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=x.flip(1) if self.flipped else x).logits
        return logits


def is_folder(request: Request) -> bool:
    """A folder that `save_pretrained` wrote."""
    return request.name != "" and (request.file / "config.json").is_file()


def load(request: Request) -> ModelSource:
    """The classifier called "hf:ORG/NAME", "hf:FOLDER" or just "FOLDER", in float32. None of its own code is run.

    Raises:
        ModelError: transformers is not installed; not there, no image classifier, without its head, or preprocessed
            in a way that cannot be done here.
    """
    try:
        import transformers
    except ImportError:
        raise ModelError(f"{request.name} needs transformers: pip install 'robustkit[hf]'") from None
    place = request.name.removeprefix(PREFIX)
    folder = Path(place)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelError(f"{folder} has no config.json: give a folder that save_pretrained wrote")
    if not folder.is_dir() and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", place):
        raise ModelError(f"{place!r} is no folder, and no name such as hf:google/vit-base-patch16-224: check it")
    with quiet(transformers):
        config = _config(transformers, place, request.name)
        net, missing = _weights(transformers, place, config, request.name)
        _check_whole(net, missing, request.name)
        channels = int(getattr(config, "num_channels", 3) or 3)
        found = read_processor(transformers, place, channels, request)
    known = getattr(config, "dtype", None)
    said = [type(net).__name__]
    if known not in (None, torch.float32):
        said.append(f"{str(known).removeprefix('torch.')} weights run in float32")
    if found.by_pillow:
        said.append("pictures resized as by its Pillow backend")
    return ModelSource(
        _Logits(net, found.flipped),
        f"{folder.resolve().name if folder.is_dir() else place} ({', '.join(said)})",
        found.preprocess,
        mean=found.mean,
        std=found.std,
        labels=_labels(config, request.name),
        classes=int(config.num_labels),
        channels=(channels,),
    )


@contextmanager
def quiet(library: Any) -> Iterator[None]:
    """Keep a library of Hugging Face's from printing: what it warns of is looked at, and raised."""
    log = library.utils.logging
    level, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(level)
        if bars:
            log.enable_progress_bar()


def _config(transformers: Any, place: str, name: str) -> Any:
    """The configuration, of a kind of model that classifies pictures.

    Raises:
        ModelError: not to be had, or of another kind.
    """
    try:
        config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
    except ImportError as error:
        raise ModelError(f"{name} needs a package that is not here ({one_line(error)})") from None
    except OSError as error:
        if Path(place).is_dir():
            raise ModelError(f"{place}: config.json cannot be read ({one_line(error)}): save it again") from None
        raise ModelError(
            f"{name} is not in the Hugging Face cache and could not be fetched ({one_line(error)}): run "
            f"hf download {place} where there is a network, or give the folder it is in"
        ) from None
    except Exception as error:  # of a kind that is not known, or one that brings its own code
        own = "it brings code of its own, which is not run" if "trust_remote_code" in str(error) else one_line(error)
        raise ModelError(f"{name} is no model that transformers knows ({own}): load it in a file.py") from None
    if type(config) not in transformers.AutoModelForImageClassification._model_mapping:
        raise ModelError(f"{name} is a {config.model_type}, of which there is no image classifier")
    if getattr(config, "quantization_config", None):
        raise ModelError(f"{name} has quantised weights, which have no gradients: give the original")
    task = config.problem_type
    if task in ("multi_label_classification", "regression") or config.num_labels < 2:
        what = task.replace("_", " ") if task else f"{config.num_labels} output"
        raise ModelError(f"{name} is made for {what}: one class for each picture is needed")
    given = getattr(config, "model_args", None)
    if given:  # timm writes the number of classes here too, and transformers then passes it twice
        config.model_args = {key: value for key, value in given.items() if key != "num_classes"}
    return config


def _weights(transformers: Any, place: str, config: Any, name: str) -> tuple[nn.Module, list[str]]:
    """The network in float32, and the keys of its weights that the file has not."""
    try:
        net, info = transformers.AutoModelForImageClassification.from_pretrained(
            place, config=config, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
        )
    except ImportError as error:
        raise ModelError(f"{name} needs a package that is not here ({one_line(error)})") from None
    except Exception as error:  # absent, damaged, of other shapes: transformers has a kind for each
        raise ModelError(
            f"the weights of {name} cannot be loaded ({one_line(error)}): "
            f"{'save' if Path(place).is_dir() else 'download'} it again"
        ) from None
    if "pixel_values" not in inspect.signature(net.forward).parameters:
        raise ModelError(f"{name} is a {type(net).__name__}, which does not take pictures as pixels")
    return net, sorted(info["missing_keys"])


def _check_whole(net: nn.Module, missing: list[str], name: str) -> None:
    """Refuse weights that are not all from the file: transformers draws the others at random."""
    some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
    base = f"{getattr(net, 'base_model_prefix', '')}."
    if any(not key.startswith(base) for key in missing):
        raise ModelError(
            f"{name}: its classification head is not in the file ({some}): give a checkpoint that was trained to "
            f"classify, not one that makes features for a {type(net).__name__}"
        )
    if missing:
        raise ModelError(f"{name}: weights of its {type(net).__name__} are not in the file ({some}): save it again")
    check_finite(net.state_dict(), name)


def _labels(config: Any, name: str) -> tuple[str, ...] | None:
    """Names of the classes; None where they are placeholders."""
    names: Mapping[Any, Any] = config.id2label or {}
    labels = {int(number): str(label) for number, label in names.items()}
    if all(re.fullmatch(rf"(LABEL_|label_)?{number}", label) for number, label in labels.items()):
        return None
    if sorted(labels) != list(range(config.num_labels)):
        raise ConfigError(f"{name}: id2label in config.json does not number its {config.num_labels} classes from 0")
    return tuple(labels[number] for number in range(config.num_labels))
