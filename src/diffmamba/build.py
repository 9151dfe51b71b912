"""From a resolved configuration to the parts it describes: data, network, number of steps, weights of a checkpoint."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate

from diffmamba import ranks
from diffmamba.configuration import corpus
from diffmamba.data.datamodule import LanguageModellingData
from diffmamba.errors import SettingError
from diffmamba.models import Backbone, LanguageModel, TiedEmbedding
from diffmamba.ops import backend
from diffmamba.runs.identity import BUILT, FED, NAMES_ONLY
from diffmamba.tasks.optimization import AdamW

STRATEGIES = ("auto", "ddp", "fsdp")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true")


def check(config: dict[str, Any], here: bool = True) -> LanguageModellingData:
    """Raises SettingError where the configuration cannot work, at no cost; returns its data.

    `here` is False where it is to run on another machine, whose devices are not known.
    """
    _check_numbers(config)
    trainer = config["trainer"]
    if here and trainer["accelerator"] in ("gpu", "cuda") and not torch.cuda.is_available():
        raise SettingError("trainer.accelerator=gpu finds no CUDA device here; trainer=cpu or trainer=auto would do")
    if trainer["strategy"] not in STRATEGIES:
        raise SettingError(f"trainer.strategy={trainer['strategy']} is not known; use one of {', '.join(STRATEGIES)}")
    if here:
        _check_kernels(config)
    data = build_data(config)
    total_steps(config, data)
    data.train_streams(0, ranks.world_size(config) if here else 1)
    data.val_dataloader()
    with torch.device("meta"):
        build_network(config["model"], data.corpus.vocabulary.size)
    return data


def _check_numbers(config: dict[str, Any]) -> None:
    """Refuses what is no number, or one that makes no sense, before it fails deep inside."""
    scale, optimizer = config["scale"], config["optimizer"]
    whole = {"seed": (config["seed"], 0)} | {
        f"scale.{key}": (scale[key], 1) for key in ("steps", "epochs", "evaluate_every") if scale[key] is not None
    }
    for setting, (value, least) in whole.items():
        if type(value) is not int or value < least:
            raise SettingError(f"{setting}={value} must be a whole number of at least {least}")
    parts = config["trainer"]["accumulate_grad_batches"]
    if type(parts) is not int or parts < 1:
        raise SettingError(f"trainer.accumulate_grad_batches={parts} must be a whole number of at least 1")
    precision = config["trainer"]["precision"]
    if precision not in PRECISIONS:
        raise SettingError(f"trainer.precision={precision} is not known; use one of {', '.join(PRECISIONS)}")
    for key in ("learning_rate", "weight_decay", "warmup_steps"):
        if type(optimizer[key]) not in (int, float) or optimizer[key] < 0:
            raise SettingError(f"optimizer.{key}={optimizer[key]} must be a number of at least 0")


def _check_kernels(config: dict[str, Any]) -> None:
    """Sets the backend of the operators; refuses one that cannot work here, and compilation without a compiler."""
    requested, accelerator = config["model"]["backend"], config["trainer"]["accelerator"]
    on_gpu = torch.cuda.is_available() and accelerator in ("gpu", "cuda", "auto")
    if requested not in backend.BACKENDS:
        raise SettingError(f"model.backend={requested} is not known; use one of {', '.join(backend.BACKENDS)}")
    if requested == "cuda" and not on_gpu:
        raise SettingError("model.backend=cuda needs a CUDA device and trainer=gpu; model.backend=auto would do")
    if requested == "cuda" and (reason := backend.missing()):
        raise SettingError(f"model.backend=cuda: {reason}; {backend.INSTALL}, or use model.backend=auto")
    if requested == "cuda" and str(config["trainer"]["precision"]).startswith("64"):
        raise SettingError("model.backend=cuda has no float64; use trainer.precision=32-true, or model.backend=auto")
    if not isinstance(config["compile"], bool):
        raise SettingError(f"compile={config['compile']} is not known; use true or false")
    compilers = (os.environ.get("CXX", "g++").split()[-1], "clang++")
    if config["compile"] and not on_gpu and not any(map(shutil.which, compilers)):
        raise SettingError("compile=true needs a C++ compiler on a CPU; install g++, or use compile=false")
    backend.select(requested)


def build_data(config: dict[str, Any]) -> LanguageModellingData:
    """The data module of a resolved configuration."""
    settings = config["data"]
    fed = {key: settings[key] for key in FED}
    parts = config["trainer"]["accumulate_grad_batches"]
    return LanguageModellingData(
        corpus=corpus(settings), eval_batch_size=settings["eval_batch_size"], parts=parts, **fed
    )


def build_network(model: dict[str, Any], vocabulary_size: int) -> LanguageModel:
    """The network of a resolved `model` configuration; under `torch.device("meta")` it takes no memory."""
    parts = {key: model[key] for key in BUILT if key in model}
    parts["mixers"] = [instantiate(mixer) for mixer in model["mixers"]]
    embedding = instantiate(parts.pop("embedding")) if "embedding" in parts else TiedEmbedding  # the only one once
    return LanguageModel(vocabulary_size, Backbone(**parts), model["d_model"], embedding)


def build_optimizer(config: dict[str, Any], steps: int) -> AdamW:
    """The optimiser of a resolved configuration; `steps` is the length of its cosine where `optimizer` names none."""
    settings = {key: value for key, value in config["optimizer"].items() if key not in NAMES_ONLY}
    return AdamW(**settings | {"schedule_steps": settings["schedule_steps"] or steps})


def total_steps(config: dict[str, Any], data: LanguageModellingData) -> int:
    """Optimiser steps of the run: `scale.steps`, or `scale.epochs` epochs."""
    scale = config["scale"]
    if not scale["steps"] and not scale["epochs"]:
        raise SettingError("scale.steps and scale.epochs are both null; set one of them")
    return scale["steps"] or scale["epochs"] * data.steps_per_epoch


def network_weights(network: LanguageModel, checkpoint: Path) -> dict[str, torch.Tensor]:
    """The network's weights in a run's checkpoint; refuses a damaged one and one of another architecture."""
    everything = read_checkpoint(checkpoint)["state_dict"]
    prefix = "network."
    weights = {name.removeprefix(prefix): weight for name, weight in everything.items() if name.startswith(prefix)}
    expected = network.state_dict()
    wrong = sorted(
        name
        for name in expected.keys() | weights.keys()
        if name not in weights or name not in expected or weights[name].shape != expected[name].shape
    )
    if wrong:
        raise SettingError(
            f"{checkpoint} is of another architecture: {len(wrong)} of {len(expected)} parameters do not fit, "
            f"{wrong[0]} first; give the model settings it was trained with, or remove it"
        )
    return weights


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's content, or a SettingError that names the file."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise SettingError(f"there is no checkpoint {path}") from None
    except Exception as error:
        raise SettingError(f"{path} is not a readable checkpoint ({type(error).__name__}); remove it") from error
