"""The audit of tables 1 and 2: everything that can be checked without training and without a corpus, as a document."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from diffmamba.document import Bullets, Document, Section
from diffmamba.paper import checks, mechanism, sections
from diffmamba.paper.agreement import agreements, readings
from diffmamba.paper.budget import EPOCHS, SCHEDULES, budget, curve
from diffmamba.paper.cases import PUBLISHED_SCALE, TABLES, Case, collect
from diffmamba.paper.compute import DEVICES, Assumed, compute, hours
from diffmamba.paper.counts import count
from diffmamba.paper.published import numbers, stored
from diffmamba.paper.remarks import lines, printed, sentence

CHECKS = vars(checks) | vars(mechanism)  # a finding's function has the finding's key as its name


def audit(overrides: Sequence[str], seeds: int | None = None, assumed: Assumed | None = None) -> Document:
    """The audit under further settings; its `data` is the content of `audit.json`.

    Args:
        overrides: settings for all cases, the scale among them, as in `scale=paper model.lambda_index=mixers`.
        seeds: how many seeds the totals are of; the scale's where None.
        assumed: device and utilisation behind the GPU-hours.

    Contradictions and further checks are always those of scale paper. Raises SettingError for settings that cannot be.
    """
    cases, assumed = collect(overrides), assumed or Assumed()
    paper = cases if list(overrides) == [f"scale={PUBLISHED_SCALE}"] else collect([f"scale={PUBLISHED_SCALE}"])
    scale = cases[0].config["scale"]
    cells = [_cell(case, cases, assumed) for case in cases]
    compared = agreements(cases) if scale["name"] == PUBLISHED_SCALE else []
    data = {
        "source": numbers()["source"],
        "scale": scale["name"],
        "settings": list(overrides),
        "verdict": _summary(cells, compared),
        "cells": cells,
        "compute": _totals(cells, assumed, seeds or len(str(scale["seeds"]).split(","))),
        "hyper_parameters": compared,
        "readings": readings(cases, paper),
        "contradictions": _findings("contradictions", paper),
        "further": _findings("further", paper),
    }
    return Document("Audit of tables 1 and 2: is the published setting met?", tuple(_blocks(data)), data)


def _cell(case: Case, cases: Sequence[Case], assumed: Assumed) -> dict[str, Any]:
    names = ("key", "table", "data", "layers", "model", "outer_norm", "lambda_form")
    return {name: getattr(case, name) for name in names} | {
        "parameters": count(case, cases),
        "budget": budget(case),
        "learning_rate": [curve(case, schedule) for schedule in SCHEDULES],
        "compute": compute(case, assumed),
    }


def _summary(cells: Sequence[dict[str, Any]], compared: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many printed numbers are met, and which are not."""
    counts = {cell["key"]: cell["parameters"] for cell in cells if cell["parameters"]["published_m"] is not None}
    return {
        "counts_compared": len(counts),
        "counts_within_1_percent": sum(found["within"] for found in counts.values()),
        "counts_equal_cut_off": sum(found["cut_off"] for found in counts.values()),
        "counts_off": {key: found["reason"] for key, found in counts.items() if not found["within"]},
        "hyper_parameters_compared": len(compared),
        "hyper_parameters_equal": sum(agreement["equal"] for agreement in compared),
        "hyper_parameters_off": [agreement for agreement in compared if not agreement["equal"]],
    }


def _totals(cells: Sequence[dict[str, Any]], assumed: Assumed, seeds: int) -> dict[str, Any]:
    """Operations and GPU-hours of each table with all its seeds."""
    tables = {}
    for table in TABLES:
        total = seeds * sum(cell["compute"]["total"] for cell in cells if cell["table"] == table)
        tables[table] = {"operations": total, "hours": {device: hours(total, device, assumed) for device in DEVICES}}
    most = max(cell["compute"]["forward_upper_bound"] / cell["compute"]["forward_per_token"] - 1 for cell in cells)
    totals = {"assumed": asdict(assumed), "seeds": seeds, "tables": tables, "devices": DEVICES}
    return totals | {"forward_at_most": most}


def _findings(group: str, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """The findings of a group of `findings.yaml`, contradictions with their number in docs/paper.md."""
    found = []
    for number, (key, words) in enumerate(stored("findings")[group].items(), 1):
        values = CHECKS[key](cases)
        title = f"{number}. {words['title']}" if group == "contradictions" else words["title"]
        computed = sentence(words["computed"], found=values)
        found.append({"key": key, "title": title, "printed": printed(words["printed"]), "computed": computed})
        found[-1]["values"] = values
    return found


def _blocks(data: dict[str, Any]) -> list[Any]:
    page, words = stored("page"), stored("findings")
    once = {(cell["table"], cell["data"], cell["layers"]): cell for cell in reversed(data["cells"])}
    rates = [cell | curve for cell in reversed(once.values()) for curve in cell["learning_rate"]]
    rows = {
        "cells": data["cells"],
        "rates": [row | {"rates": _landmarks(row)} for row in rates],
        "hours": [
            {"device": DEVICES[device]["name"], "table": table} | spent
            for table, found in data["compute"]["tables"].items()
            for device, spent in found["hours"].items()
        ],
        "readings": data["readings"],
    }
    blocks: list[Any] = [Bullets(lines(page["verdict"], **data), tone="strong")]
    blocks += [sections.of_layout(layout, rows, data) for layout in page["sections"]]
    blocks.insert(4, sections.chart(rates))
    for group, title in (
        ("contradictions", "Where the paper contradicts itself"),
        ("further", "What else can be computed"),
    ):
        parts = [sections.of_finding(found, words[group][found["key"]].get("columns", {})) for found in data[group]]
        blocks.append(Section(title, tuple(parts)))
    return blocks


def _landmarks(curve: dict[str, Any]) -> dict[str, float | None]:
    """The learning rates at landmarks in units of 1e-4, None for epochs that a run does not reach."""
    reached = {mark["name"]: 1e4 * mark["rate"] for mark in curve["landmarks"]}
    return {f"after epoch {epoch}": None for epoch in EPOCHS} | reached
