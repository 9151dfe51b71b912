"""Which arguments of `lightning.Trainer` a setting may give.

A run sets its budget, its evaluations, its checkpoints and its logs itself. Another part of Lightning that changed one
of them would be overridden without a word, or would end the run early. So every argument is on one of two lists, and an
argument that a later Lightning adds is refused until somebody has put it on one.
"""

from collections.abc import Iterable

from diffmamba.errors import SettingError
from diffmamba.spelling import nearest

ALLOWED = (
    *("accelerator", "devices", "num_nodes", "strategy", "precision"),
    *("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "log_every_n_steps"),
    *("deterministic", "benchmark", "inference_mode", "detect_anomaly", "profiler", "sync_batchnorm"),
)
"""Arguments that a setting may give: trainer.NAME."""

_STEPS = "use scale.steps or scale.epochs"
_EVALUATE = "use scale.evaluate_every"
_WINDOWS = "use scale.eval_windows"
REFUSED = {
    "max_steps": _STEPS,
    "min_steps": _STEPS,
    "max_epochs": "use scale.epochs, with scale.steps=null",
    "min_epochs": "use scale.epochs, with scale.steps=null",
    "max_time": "interrupt it when its time is over, the same command goes on",
    "fast_dev_run": f"for a short run {_STEPS}",
    "limit_train_batches": _STEPS,
    "overfit_batches": _STEPS,
    "limit_val_batches": _WINDOWS,
    "limit_test_batches": _WINDOWS,
    "limit_predict_batches": "leave it out, a training predicts nothing",
    "val_check_interval": _EVALUATE,
    "check_val_every_n_epoch": _EVALUATE,
    "num_sanity_val_steps": "leave it out, the settings are checked before",
    "callbacks": "use the group callbacks",
    "logger": "use the group logger",
    "default_root_dir": "use runs=DIR",
    "enable_checkpointing": "leave it out, a run keeps its last and its best checkpoint",
    "enable_progress_bar": "leave it out, there is a bar where the output is a terminal",
    "enable_model_summary": "leave it out, the record has the number of parameters",
    "enable_autolog_hparams": "leave it out, the record has all settings",
    "reload_dataloaders_every_n_epochs": "leave it out, the run keeps its place in the data",
    "use_distributed_sampler": "leave it out, the data divide themselves among devices",
    "barebones": "leave it out, a run without checkpoints cannot go on",
    "plugins": "leave it out, use trainer.precision and trainer.strategy",
    "model_registry": "leave it out, a run's checkpoints are in the run store",
}
"""Arguments that a run sets itself, and what to do instead."""


def check_arguments(names: Iterable[str]) -> None:
    """Raises SettingError for an argument that no setting may give."""
    for name in names:
        if name in REFUSED:
            raise SettingError(f"trainer.{name} is set by the run itself; {REFUSED[name]}")
        if name not in ALLOWED:
            near = nearest(name, (*ALLOWED, *REFUSED))
            advice = f"use one of {', '.join(ALLOWED)}"
            if near:
                advice = f"trainer.{near} is set by the run itself; {REFUSED[near]}" if near in REFUSED else ""
                advice = advice or f"did you mean trainer.{near}?"
            raise SettingError(f"trainer.{name} is no argument of lightning.Trainer that a run can be given; {advice}")
