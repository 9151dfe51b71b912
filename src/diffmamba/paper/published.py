"""The numbers the paper prints, as `published.yaml` beside this file holds them, ready to stand next to ours.

Only this module knows how the paper's rows are keyed. In table 2 its plain differential rows are our λ form `scalar`,
its "re. λ̄" rows our `reparam`; every other λ form, and plain Mamba with the outer norm, is a control of ours that the
paper does not have.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, cast

from omegaconf import OmegaConf

MODELS = ("mamba", "diff_mamba")
EFFICIENCY = {"mamba": "mamba", "diff_mamba_hybrid": "diff_mamba"}
"""Our names of the models in tables 7 and 8."""
PLAIN_LAMBDA_FORM = "scalar"
DECIMALS = 3  # the paper prints PPL with three decimals, so a difference of two of them has no more


@dataclass(frozen=True)
class PublishedResult:
    """What the paper prints for one cell: a value, its difference to the baseline, millions of parameters.

    In figure 5 it prints the gain over the baseline in percent; the value is read off its bars.
    """

    value: float | None = None
    delta: float | None = None
    params_m: int | None = None
    gain_percent: float | None = None


@cache
def stored(name: str) -> dict[str, Any]:
    """The content of a YAML file beside this one."""
    text = resources.files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.create(text)))


def numbers() -> dict[str, Any]:
    """The whole of `published.yaml`."""
    return stored("published")


def rows(table: str) -> dict[str, dict[str, Any]]:
    """The rows of table 1 or 3 by corpus and number of layers: `text8/6`."""
    return {f"{row['data']}/{row['layers']}": row for row in numbers()[table]["rows"]}


def table1(data: str, layers: int, model: str) -> PublishedResult:
    """Table 1 (final test PPL after 40 epochs) at one cell; `None` where the paper has no value."""
    row = rows("table1").get(f"{data}/{layers}", {})
    if model not in row:
        return PublishedResult()
    ppl = row[model]["ppl"]
    return PublishedResult(ppl, round(ppl - row["mamba"]["ppl"], DECIMALS), row[model]["params_m"])


def table2(model: str, outer_norm: bool, lambda_form: str | None) -> PublishedResult:
    """Table 2 (ablation on Text8, test PPL at epoch 10) at one cell; `None` where the paper has no value."""
    row = _table2_rows().get((model, lambda_form))
    if row is None:
        return PublishedResult()
    ppl, baseline = row["with_norm" if outer_norm else "without_norm"], _table2_rows()["mamba", None]["without_norm"]
    return PublishedResult(ppl, None if ppl is None else round(ppl - baseline, DECIMALS), row["params_m"])


def figure5(task: str, model: str) -> PublishedResult:
    """Figure 5 (accuracy on MAD) of a task or of the `total`; `None` where the paper has no bar."""
    figure = numbers()["figure5"]
    score, baseline = (figure["approximate_scores"].get(name, {}).get(task) for name in (model, MODELS[0]))
    if score is None:
        return PublishedResult()
    gain = 0.0 if model == MODELS[0] else float(figure["gain_percent"][task])
    return PublishedResult(score, round(score - baseline, DECIMALS), gain_percent=gain)


def figure8(model: str, task: str, length: str) -> float | None:
    """Figure 8 (BABILong, % right answers, mean of 3 seeds) at one point; `None` where the paper has none."""
    return _at(numbers()["figure8"].get(model, {}), task, length)


def figure4(task: str, length: str) -> float | None:
    """Figure 4 (BABILong, the better model's score over the other's) at one point; `None` where the paper has none."""
    return _at(numbers()["figure4"], task, length)


def _at(lines: dict[str, Any], task: str, length: str) -> float | None:
    lengths = numbers()["figure8"]["length"]
    return lines[task][lengths.index(length)] if task in lines and length in lengths else None


def ratio(table: str, column: str, at: int, model: str) -> PublishedResult:
    """Table 7 (memory by batch) or 8 (seconds by length) as a ratio to Mamba; `None` where the paper has no value.

    Its Diff-Mamba is the hybrid in table 8. Table 7 does not say; the hybrid is what the other tables of these models
    are of.
    """
    found = numbers()[table]
    if model not in EFFICIENCY or at not in found[column]:
        return PublishedResult()
    ours, base = (found[name][found[column].index(at)] for name in (EFFICIENCY[model], MODELS[0]))
    return PublishedResult(ours / base, ours / base - 1)


@cache
def _table2_rows() -> dict[tuple[str, str | None], dict[str, Any]]:
    forms = {"mamba": None}  # nothing is subtracted
    table = numbers()["table2"]["rows"]
    return {(row["model"], forms.get(row["model"], row.get("lambda", PLAIN_LAMBDA_FORM))): row for row in table}
