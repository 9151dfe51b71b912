"""The settings in force: hyper-parameters beside the printed ones, and switches where the paper leaves a choice."""

from collections.abc import Sequence
from functools import reduce
from operator import getitem
from typing import Any

from diffmamba.paper import published
from diffmamba.paper.cases import Case

TABLE1 = {"layers": "model.n_layers"}
TABLE3 = {"dropout": "model.dropout", "batch": "data.batch_size", "lr": "optimizer.learning_rate"}
TABLE4 = TABLE3 | TABLE1 | {"warmup_steps": "optimizer.warmup_steps", "steps": "optimizer.schedule_steps"}
TABLE5 = {"channels": "model.d_model", "headdim": "model.headdim", "expand": "model.expand"}

READINGS = (  # subject, setting, other values; docs/paper.md says why each default was chosen
    ("form of λ", "model.lambda_form", "reparam, channel, exp, exp_printed, fixed"),
    ("sign of λ_init in exp", "model.lambda_form", "exp adds, exp_printed subtracts"),
    ("what depth counts in λ_init", "model.lambda_index", "mixers"),
    ("length of the cosine", "optimizer.schedule", "to_end"),
    ("place of the residual norm", "model.residual", "pre_norm"),
    ("state-space layer", "model.ssm", "mamba1"),
    ("outer norm", "model.outer_norm", "false"),
    ("precision", "trainer.precision", "bf16-mixed, 16-mixed"),
    ("rotation of the streams", "data.rotation_seed", "any number"),
)


def agreements(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Every hyper-parameter that the paper prints for a case: ours, the printed one, and whether they are equal."""
    table5 = {row["model"]: row for row in published.numbers()["table5"]["rows"]}
    found = []
    for case in cases:
        if case.table == "table1":
            found += compare(case, "table 3", TABLE3, table3_row(case.data, case.layers))
            found += compare(case, "table 1", TABLE1, case.config["published"])
        else:
            found += compare(case, "table 4", TABLE4, published.numbers()["table4"])
        if case.model in table5:
            found += compare(case, "table 5", TABLE5, table5[case.model])
    return found


def table3_row(data: str, layers: int) -> dict[str, Any]:
    """The hyper-parameters of table 3 for a corpus and a depth."""
    return next(row for row in published.numbers()["table3"]["rows"] if (row["data"], row["layers"]) == (data, layers))


def compare(case: Case, source: str, settings: dict[str, str], printed: dict[str, Any]) -> list[dict[str, Any]]:
    """The settings of a case beside the columns of a printed row."""
    found = []
    for column, setting in settings.items():
        ours, theirs = _select(case, setting), printed[column]
        names = {"cell": case.key, "setting": setting, "source": source}
        found.append(names | {"ours": ours, "published": theirs, "equal": ours == theirs})
    return found


def readings(cases: Sequence[Case], defaults: Sequence[Case]) -> list[dict[str, str]]:
    """The switches with the default and the value in force, as Diff-Mamba's cases of table 1 have them."""
    return [
        {"subject": subject, "setting": setting, "others": others}
        | {"default": _values(defaults, setting), "in_force": _values(cases, setting)}
        for subject, setting, others in READINGS
    ]


def _values(cases: Sequence[Case], setting: str) -> str:
    chosen = [case for case in cases if (case.table, case.model) == ("table1", "diff_mamba")]
    return ", ".join(dict.fromkeys(str(_select(case, setting)).lower() for case in chosen))


def _select(case: Case, setting: str) -> Any:
    """The value of a setting such as `model.dropout`."""
    return reduce(getitem, setting.split("."), case.config)
