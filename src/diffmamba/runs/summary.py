"""How a work ended, in one line for people. Which figures there are, the record says."""

import math
from pathlib import Path
from typing import Any

from diffmamba.runs.store import Record


def summary(record: Record, store: Path) -> str:
    """The line of a command for one work."""
    place = store / record["id"]
    if record["status"] == "failed":
        error, step = record["error"], f" at step {record['error']['step']}" * (record["kind"] == "training")
        again = "retry_failed=true goes on with it" if step else "retry_failed=true tries it again"
        return f"error: run {record['id']} failed{step}: {error['message']} (traceback in {place}/result.json; {again})"
    if record["kind"] == "measurement":
        return f"{place}: {figures(record)}, {record['wall_seconds']:.0f} s"
    return (
        f"{place}: {figures(record)} after {record['evaluations'][-1]['step']} steps, "
        f"{record['parameters']['total']:,} parameters, {record['wall_seconds']:.0f} s, "
        f"{record['tokens_per_second']:,.0f} symbols/s"
    )


def ending(record: Record) -> str:
    """The line of a sweep: which of its runs, and how it ended."""
    config = record["config"]
    model: dict[str, Any] = {"mixers": []} | config["model"]
    layers = model.get("n_layers")
    parts = [
        config["data"]["name"],
        f"{layers} layer{'s' * (layers != 1)}" * (layers is not None),
        model["name"],
        "outer norm" * bool(model.get("outer_norm")),
        f"λ {model.get('lambda_form')}" * any("lambda_form" in mixer.get("combine", {}) for mixer in model["mixers"]),
        f"seed {config['seed']}",
    ]
    name = ", ".join(filter(None, parts))
    if record["kind"] == "measurement":
        name = f"{record['measure']['name']} of {name}"
    if record["status"] == "failed":
        return f"{name}: failed: {record['error']['message']} (run {record['id']})"
    return f"{name}: {figures(record, val=False)} in {record['wall_seconds']:.0f} s"


def figures(record: Record, val: bool = True) -> str:
    """The headline of a finished work, by its name and with its digits; for a training also on the val split."""
    if record["kind"] == "measurement":
        told, values = record["measure"], record["values"]
        keys = [told["headline"]]
    else:
        told, values = record["task"], record["evaluations"][-1]
        keys = [told["headline"], *([told["headline"].replace("test/", "val/")] if val else [])]
    texts = []
    for key in dict.fromkeys(keys):
        split, _, name = key.rpartition("/")
        metric = told["metrics"][name]
        texts.append(f"{split} {metric['label']} {values[key]:.{metric['digits']}f}".strip())
    return ", ".join(texts)


def objective(record: Record) -> float | None:
    """The headline as the number that a search is to make better; None where the record does not have it yet.

    A work that failed is worse than any other: infinite, with the sign that is worse.
    """
    told = record["task"] if record["kind"] == "training" else record["measure"]
    metric = told["metrics"][told["headline"].rpartition("/")[2]]
    if record["status"] == "failed":
        return math.inf if metric["better"] == "lower" else -math.inf
    values = record["values"] if record["kind"] == "measurement" else (record["evaluations"] or [{}])[-1]
    return values.get(told["headline"])
