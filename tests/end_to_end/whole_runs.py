"""All that a whole run leaves behind, to the last bit, and settings under which a run is easily not whole."""

import csv
import json

import lightning as L
import torch

TIMED = ("training_seconds", "seconds_before", "train/tokens_per_second", "seconds", "memory_gb")
PLACES = ("dirpath", "best_model_path", "last_model_path", "kth_best_model_path", "best_k_models")
KEPT = (
    "state_dict",
    "optimizer_states",
    "lr_schedulers",
    "global_step",
    "epoch",
    "callbacks",
    "LanguageModellingData",
    "loops",
)


class Counted(L.Callback):
    """Counts every hook that a callback may have, in its state."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def state_dict(self):
        return dict(self.counts)

    def load_state_dict(self, state):
        self.counts = dict(state)


def _counting(name):
    def hook(callback, *_):
        callback.counts[name] = callback.counts.get(name, 0) + 1

    return hook


for _when in ("epoch_start", "epoch_end", "batch_start", "batch_end"):
    for _what in ("train", "validation"):
        if (_name := f"on_{_what}_{_when}") not in ("on_validation_batch_start", "on_validation_batch_end"):
            setattr(Counted, _name, _counting(_name))
Counted.on_validation_start, Counted.on_validation_end = _counting("start"), _counting("end")

EARLY = "{_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/loss, mode: max, patience: 1}"
BESIDE = "evaluations beside the epoch's end"
COUNTED = f"+callbacks.counted={{_target_: {__name__}.Counted}}"
SETTINGS = {  # an epoch of the world's text has 10 steps
    BESIDE: ("scale.evaluate_every=4", "scale.steps=22"),
    "evaluations at the epoch's end": ("scale.evaluate_every=5", "scale.steps=12"),
    "gradients of two parts": ("scale.evaluate_every=3", "scale.steps=11", "trainer.accumulate_grad_batches=2"),
    "epochs of one step": ("scale.evaluate_every=2", "scale.steps=5", "scale.batch_size=32", "scale.length=24"),
    "ended early": (
        "scale.evaluate_every=3",
        "scale.steps=22",
        "scale.learning_rate=0.05",
        f"+callbacks.early={EARLY}",
    ),
}


def left_behind(world, record):
    """All of a run that no clock has written, to the last bit."""
    run = world.run(record)
    kept = {key: record[key] for key in ("status", "error", "progress", "parameters", "evaluations")}
    kept["stopped"] = record.get("stopped")
    for name in ("last", "best"):
        content = torch.load(run.checkpoint(name), weights_only=True)
        kept[name] = {key: content[key] for key in KEPT}
    with (run.directory / "csv/metrics.csv").open() as file:
        kept["rows"] = list(csv.DictReader(file))
    kept["files"] = sorted(path.name for path in run.last_checkpoint.parent.iterdir())
    return json.loads(json.dumps(_without_times(kept), default=lambda tensor: tensor.numpy().tobytes().hex()))


def _without_times(node):
    if isinstance(node, dict):
        return {key: _without_times(value) for key, value in node.items() if key not in (*TIMED, *PLACES)}
    return [_without_times(value) for value in node] if isinstance(node, list) else node


def words(name):
    return ("scale.dropout=0.3", "trainer.log_every_n_steps=1", COUNTED, *SETTINGS[name])
