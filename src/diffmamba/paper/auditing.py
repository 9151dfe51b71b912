"""The audit of tables 1 and 2: everything that can be checked without training and without a corpus, as a document."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from diffmamba.document import Bullets, Document, Section
from diffmamba.paper import contradictions, further, mechanism, published, sections
from diffmamba.paper.agreement import agreements, readings
from diffmamba.paper.budget import SCHEDULES, budget, curve
from diffmamba.paper.cases import PUBLISHED_SCALE, TABLES, Case, collect
from diffmamba.paper.compute import DEVICES, Assumed, compute, hours
from diffmamba.paper.counts import count
from diffmamba.paper.finding import Finding

CONTRADICTIONS = (
    contradictions.wikitext103_12_layer_counts,
    contradictions.ppl_called_bits,
    mechanism.place_of_the_norm,
    mechanism.sign_of_lambda_init,
    contradictions.diff_mamba_129_or_128,
    contradictions.deeper_is_worse,
    contradictions.figure3a_near_uniform,
    mechanism.lambda_hardly_learns,
)
FURTHER = (
    further.counts_cut_off,
    further.ablation_length,
    further.gain_shrinks,
    further.not_matched,
    further.heads,
    further.medium_counts,
    further.latency_not_monotonic,
    further.figure4_from_figure8,
    further.first_projection,
)


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
    against_itself = [Finding.of(check, paper, f"{number}. ") for number, check in enumerate(CONTRADICTIONS, 1)]
    others = [Finding.of(check, paper) for check in FURTHER]
    data = {
        "source": published.numbers()["source"],
        "scale": scale["name"],
        "settings": list(overrides),
        "verdict": _summary(cells, compared),
        "cells": cells,
        "compute": _totals(cells, assumed, seeds or len(str(scale["seeds"]).split(","))),
        "hyper_parameters": compared,
        "readings": readings(cases, paper),
        "contradictions": [asdict(finding) for finding in against_itself],
        "further": [asdict(finding) for finding in others],
    }
    blocks = (
        Bullets(tuple(_verdict(data)), tone="strong"),
        sections.counts(cells),
        sections.steps(cells),
        sections.rates(cells),
        sections.compute(cells, data["compute"]),
        sections.readings(data["readings"]),
        Section("Where the paper contradicts itself", tuple(finding.section() for finding in against_itself)),
        Section("What else can be computed", tuple(finding.section() for finding in others)),
    )
    return Document("Audit of tables 1 and 2: is the published setting met?", blocks, data)


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
    return {"assumed": asdict(assumed), "seeds": seeds, "tables": tables, "devices": DEVICES}


def _verdict(data: dict[str, Any]) -> Iterable[str]:
    """The verdict from the content of `audit.json`, one statement a sentence."""
    met, total = data["verdict"], data["compute"]
    if met["counts_compared"]:
        within, cut_off = met["counts_within_1_percent"], met["counts_equal_cut_off"]
        yield (
            f"{within} of {met['counts_compared']} parameter counts are within 1 % of the printed ones, {cut_off} "
            "equal when cut off after the million."
        )
        for reason in dict.fromkeys(met["counts_off"].values()):
            yield f"Not met: {', '.join(key for key, why in met['counts_off'].items() if why == reason)} ({reason})."
        yield f"{met['hyper_parameters_equal']} of {met['hyper_parameters_compared']} hyper-parameters are as printed."
        for off in met["hyper_parameters_off"]:
            yield f"{off['cell']}: {off['setting']}={off['ours']}, {off['source']} has {off['published']}."
    else:
        yield f"Scale {data['scale']} is not the published one, so nothing is compared."
    if len(data["settings"]) > 1:
        yield f"With {' '.join(data['settings'])}."
    device = total["assumed"]["device"]
    fp32, bf16 = (sum(table["hours"][device][p] for table in total["tables"].values()) for p in ("fp32", "bf16"))
    yield (
        f"Both tables with {total['seeds']} seeds would take about {fp32:,.0f} GPU-hours in fp32 and {bf16:,.0f} in "
        f"bf16 on one {DEVICES[device]['name']}; the utilisation behind this is assumed, not measured."
    )
