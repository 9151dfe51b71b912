"""What determines a run's result, and the name that follows from it.

A run is what is built and what it is fed: the model's parts, the corpus by content, the optimiser, the budget, the
precision and the seed. Names, paths, loggers and switches that nothing refers to are left out, so that two ways of
writing one configuration are one run: `naive_diff` is `diff_s6` without its outer norm, and a vanilla model is the
same run whatever its unused λ form.
"""

import hashlib
import json
from typing import Any

BUILT = ("d_model", "n_layers", "layer", "residual", "dropout", "lambda_index", "mixers", "embedding")
"""The keys of `model` that the network is built from; all others are shorthand for use inside `mixers`."""
FED = ("batch_size", "length", "eval_windows", "rotation_seed")
"""The keys of `data` that say how the corpus is fed; which corpus it is, its fingerprint says."""
NAMES_ONLY = ("schedule",)
"""The keys of `optimizer` that other keys refer to and that say nothing by themselves."""
BUDGET = ("steps", "epochs", "evaluate_every")
DIVISION = ("devices", "num_nodes", "strategy")
"""The keys of `trainer` that say among what a step's batch is divided: the same step, within rounding and but for which
dropout is drawn. The parts that it is accumulated of belong to the identity all the same: Lightning's counters cannot
go on with another number.
"""
NOT_TRAINING = (*DIVISION, "_target_", "accelerator", "log_every_n_steps", "profiler", "detect_anomaly", "benchmark")
"""The keys of `trainer` that leave the result as it is; all others, also those a user adds, belong to the identity."""


def determining(config: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    """The part of a resolved configuration that determines the result, with the corpus's fingerprint."""
    return {
        "model": {key: config["model"][key] for key in BUILT},
        "data": {"fingerprint": fingerprint, "symbols": config["data"]["symbols"]}
        | {key: config["data"][key] for key in FED},
        "optimizer": {key: value for key, value in config["optimizer"].items() if key not in NAMES_ONLY},
        "budget": {key: config["scale"][key] for key in BUDGET},
        "trainer": {key: value for key, value in config["trainer"].items() if key not in NOT_TRAINING},
        "seed": config["seed"],
    }


def identity(config: dict[str, Any], fingerprint: str) -> str:
    """The run's name: 12 hexadecimal digits of the hash of what determines it."""
    text = json.dumps(determining(config, fingerprint), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
