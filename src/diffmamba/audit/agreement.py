"""The settings in force: hyper-parameters beside tables 3 to 5, and switches where the paper can be read twice."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from typing import Any

from diffmamba.audit.cells import Cell, table3_row
from diffmamba.paper import published


@dataclass(frozen=True)
class Agreement:
    """One hyper-parameter of one cell: ours and the printed one."""

    cell: str
    setting: str
    source: str
    ours: float
    published: float

    @property
    def equal(self) -> bool:
        return self.ours == self.published


@dataclass(frozen=True)
class Reading:
    """A place where the paper can be read in several ways: the setting that chooses, and what it chooses."""

    subject: str
    setting: str
    default: str
    others: str
    why: str
    in_force: str


TABLE3 = {"dropout": "scale.dropout", "batch": "data.batch_size", "lr": "optimizer.learning_rate"}
TABLE4 = TABLE3 | {
    "layers": "model.n_layers",
    "warmup_steps": "optimizer.warmup_steps",
    "steps": "optimizer.schedule_steps",
}
TABLE5 = {"channels": "model.d_model", "headdim": "model.headdim", "expand": "model.expand"}

READINGS = (  # subject, setting, other values, why the default is what it is
    (
        "form of λ",
        "model.lambda_form",
        "reparam, channel, exp, exp_printed, fixed",
        "one number per mixer: eq. 17 and the plain rows of table 2, whose re. λ̄ rows are reparam",
    ),
    (
        "sign of λ_init in exp",
        "model.lambda_form",
        "exp adds, exp_printed subtracts",
        "not in force: no published number uses it; their code adds, eq. 11 subtracts",
    ),
    (
        "what depth counts in λ_init",
        "model.lambda_index",
        "mixers",
        "their code counts every residual block, feed-forward ones too",
    ),
    (
        "length of the cosine",
        "optimizer.schedule",
        "to_end",
        "as shipped with their code, 800,000 steps; the paper is silent",
    ),
    ("place of the residual norm", "model.residual", "pre_norm", "their language models of tables 1 and 2"),
    ("state-space layer", "model.ssm", "mamba1", "all published results; their Mamba-1 block exists in code only"),
    (
        "outer norm",
        "model.outer_norm",
        "false",
        "the contribution: after the subtraction (eqs. 16, 21); there is no switch for before it",
    ),
    ("precision", "trainer.precision", "bf16-mixed, 16-mixed", "their published command"),
    ("rotation of the streams", "data.rotation_seed", "any number", "their loader: epoch e draws from seed 42 + e"),
)


def agreements(cells: Sequence[Cell]) -> list[Agreement]:
    """Every hyper-parameter that the paper prints, cell by cell."""
    table5 = {row["model"]: row for row in published.numbers()["table5"]["rows"]}
    found = []
    for cell in cells:
        of_table = _table3 if cell.table == "table1" else _table4
        found += of_table(cell)
        if cell.model in table5:
            found += compare(cell, "table 5", TABLE5, table5[cell.model])
    return found


def _table3(cell: Cell) -> list[Agreement]:
    wanted = cell.config["published"]
    found = compare(cell, "table 3", TABLE3, table3_row(**wanted))
    return [*found, *compare(cell, "table 1", {"layers": "model.n_layers"}, wanted)]


def _table4(cell: Cell) -> list[Agreement]:
    return compare(cell, "table 4", TABLE4, published.numbers()["table4"])


def compare(cell: Cell, source: str, settings: dict[str, str], printed: dict[str, Any]) -> list[Agreement]:
    """The settings of a cell beside the columns of a printed row."""
    return [
        Agreement(cell.key, setting, source, _select(cell, setting), printed[column])
        for column, setting in settings.items()
    ]


def readings(cells: Sequence[Cell], defaults: Sequence[Cell], tied_m: float | None) -> list[Reading]:
    """The switches with the default and the value in force, read from Diff-Mamba's cells of table 1."""
    found = [
        Reading(subject, setting, _value(defaults, setting), others, why, _value(cells, setting))
        for subject, setting, others, why in READINGS
    ]
    return [*found, *([_first_projection(tied_m)] if tied_m is not None else [])]


def _value(cells: Sequence[Cell], setting: str) -> str:
    values = [_select(cell, setting) for cell in cells if _is_diff_mamba(cell)]
    return ", ".join(dict.fromkeys(str(value).lower() for value in values))


def _select(cell: Cell, setting: str) -> Any:
    """The value of a setting such as `scale.dropout` in a cell."""
    return reduce(getitem, setting.split("."), cell.config)


def _is_diff_mamba(cell: Cell) -> bool:
    return cell.table == "table1" and cell.model == "diff_mamba"


def _first_projection(tied_m: float) -> Reading:
    return Reading(
        subject="adaptive softmax's first projection",
        setting="no switch",
        default="separate",
        others="tied",
        why=f"as in Transformer-XL; tied, Mamba of 6 layers would have {tied_m:.1f}M parameters where 167M are printed",
        in_force="separate",
    )
