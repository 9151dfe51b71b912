"""The audit of tables 1 and 2: everything that can be checked without training and without a corpus, as a document."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from diffmamba.document import Block, Bullets, Document, Section
from diffmamba.paper import checks, mechanism, sections
from diffmamba.paper.agreement import agreements, readings
from diffmamba.paper.budget import SCHEDULES, budget, curve
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
    cells = [_cell(case, assumed) for case in cases]
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
    return Document("Audit of tables 1 and 2: is the published setting met?", _blocks(data), data)


def _cell(case: Case, assumed: Assumed) -> dict[str, Any]:
    names = ("key", "row", "table", "data", "layers", "model", "outer_norm", "lambda_form")
    return {name: getattr(case, name) for name in names} | {
        "parameters": count(case),
        "budget": budget(case),
        "learning_rate": [curve(case, schedule) for schedule in SCHEDULES],
        "compute": compute(case, assumed),
    }


def _summary(cells: Sequence[dict[str, Any]], compared: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many printed numbers are met, and which are not."""
    counts = {cell["key"]: cell["parameters"] for cell in cells if cell["parameters"]["published_m"] is not None}
    off = [agreement for agreement in compared if not agreement["equal"]]
    return {
        "counts_compared": len(counts),
        "counts_within_1_percent": sum(found["within"] for found in counts.values()),
        "counts_equal_cut_off": sum(found["cut_off"] for found in counts.values()),
        "counts_off": {key: found["reason"] for key, found in counts.items() if not found["within"]},
        "hyper_parameters_compared": len(compared),
        "hyper_parameters_equal": len(compared) - len(off),
        "hyper_parameters_off": off,
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
    """The findings of a group of `findings.yaml` with the values behind them."""
    found = []
    for key, words in stored("findings")[group].items():
        values = CHECKS[key](cases)
        said = {"printed": printed(words["printed"]), "computed": sentence(words["computed"], found=values)}
        found.append({"key": key, "title": words["title"]} | said | {"values": values})
    return found


def _blocks(data: dict[str, Any]) -> tuple[Block, ...]:
    """The page: the verdict, the sections of `page.yaml`, and the findings."""
    page, words = stored("page"), stored("findings")
    tables = data["compute"]["tables"].items()
    spent = [(table, device, hours) for table, row in tables for device, hours in row["hours"].items()]
    rows = {
        "cells": data["cells"],
        "rates": [cell | curve for cell in data["cells"] for curve in cell["learning_rate"]],
        "hours": [{"table": table, "device": DEVICES[device]["name"]} | hours for table, device, hours in spent],
        "readings": data["readings"],
    }
    drawn = [sections.of_layout(layout, rows, data) for layout in page["sections"]]
    found = [
        Section(title, tuple(sections.of_finding(one, words[group][one["key"]].get("columns")) for one in data[group]))
        for group, title in page["findings"].items()
    ]
    return (Bullets(lines(page["verdict"], **data), tone="strong"), *drawn, *found)
