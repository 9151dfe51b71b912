"""The loggers of a run, told where the run lives and what it is; and how they end."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger, WandbLogger

from diffmamba.runs.store import Record, Run

PARTS = ("network", "module")  # of `model` and `data`: what the settings beside them are made into


def loggers(settings: Mapping[str, Any], run: Run, parameters: int) -> list[Logger]:
    """The configured loggers of a training."""
    os.environ.setdefault("WANDB_SILENT", "true")  # the run's directory says what its banner says
    found: list[Logger] = []
    for name, node in settings["logger"].items():
        extra: dict[str, Any] = {"save_dir": run.directory}
        if name == "wandb":
            model, data, scale = settings["model"], settings["data"], settings["scale"]
            extra |= {
                "id": run.id,
                "name": f"{model['name']}-{data['name']}-{scale['name']}-seed{settings['seed']}",
                "group": settings["group"],
                "tags": [model["name"], data["name"], scale["name"]],
            }
        logger = instantiate(node, **extra)
        getattr(logger, "_wandb_init", {}).pop("anonymous", None)  # Lightning's default, which W&B warns about
        logger.log_hyperparams(_shown(settings) | {"run": run.id, "parameters": parameters})
        found.append(logger)
    return found


def _shown(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without the trees that they are made into, which say the same a second time."""
    shown = dict(settings)
    for group in ("model", "data"):
        shown[group] = {key: value for key, value in settings[group].items() if key not in PARTS}
    return shown


def close(found: Iterable[Logger], record: Record | None) -> None:
    """Ends the W&B run, with the record's figures as its summary."""
    for logger in found:
        if isinstance(logger, WandbLogger) and record is not None:
            summary = {key: record[key] for key in ("status", "wall_seconds", "tokens_per_second", "corpus", "git")}
            logger.experiment.summary.update(summary | record["parameters"] | (record["evaluations"] or [{}])[-1])
            logger.experiment.finish(exit_code=0 if record["status"] == "finished" else 1)
