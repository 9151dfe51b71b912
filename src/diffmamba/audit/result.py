"""Everything the audit finds, as data: what `audit.json` holds and what the sentences and grids are made from."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from diffmamba.audit import contradictions, further, mechanism
from diffmamba.audit.agreement import Agreement, Reading, agreements, readings
from diffmamba.audit.budget import Budget, Curve, budget, curves, distinct
from diffmamba.audit.cells import PUBLISHED_SCALE, TABLES, Cell, collect
from diffmamba.audit.compute import Assumed, Compute, compute, devices, hours
from diffmamba.audit.counts import MILLION, Count, count, parameters
from diffmamba.audit.document import Finding
from diffmamba.models import AdaptiveEmbedding
from diffmamba.paper import published

CONTRADICTIONS = (
    contradictions.copied_counts,
    contradictions.bits,
    mechanism.place_of_the_norm,
    mechanism.sign_of_lambda_init,
    contradictions.two_counts,
    contradictions.deeper_is_worse,
    contradictions.near_uniform,
)
FURTHER = (
    further.counts_cut_off,
    further.ablation_length,
    further.gain_shrinks,
    further.not_matched,
    further.heads,
    further.medium_counts,
    further.latency,
    further.babilong,
)


@dataclass(frozen=True)
class Audited:
    """A cell with what was found about it."""

    cell: Cell
    count: Count
    budget: Budget
    curves: list[Curve]
    compute: Compute


@dataclass(frozen=True)
class Result:
    """The audit under some settings. Contradictions are always those of scale paper, whatever the settings."""

    overrides: list[str]
    seeds: int
    assumed: Assumed
    audited: list[Audited]
    agreements: list[Agreement]
    readings: list[Reading]
    contradictions: list[Finding]
    further: list[Finding]

    @property
    def scale(self) -> str:
        return self.audited[0].cell.config["scale"]["name"]

    @property
    def compared(self) -> list[Audited]:
        """The cells with a published count."""
        return [found for found in self.audited if found.count.published_m is not None]

    def of(self, table: str) -> list[Audited]:
        """The cells of a table."""
        return [found for found in self.audited if found.cell.table == table]

    def operations(self, table: str) -> float:
        """Operations of a table with all its seeds."""
        return self.seeds * sum(found.compute.total for found in self.of(table))


def run(overrides: Sequence[str], seeds: int | None = None, assumed: Assumed | None = None) -> Result:
    """The audit under further settings; `seeds` for each cell, the scale's where None."""
    assumed = assumed or Assumed()
    cells = collect(overrides)
    paper = cells if list(overrides) == [f"scale={PUBLISHED_SCALE}"] else collect([f"scale={PUBLISHED_SCALE}"])
    by_budget = {_budget_of(cell): curves(cell) for cell in distinct(cells)}
    audited = []
    for cell in cells:
        spent = budget(cell)
        found = compute(cell, spent, assumed)
        audited.append(Audited(cell, count(cell, cells), spent, by_budget[_budget_of(cell)], found))
    published_scale = cells[0].config["scale"]["name"] == PUBLISHED_SCALE
    return Result(
        overrides=list(overrides),
        seeds=seeds or len(str(cells[0].config["scale"]["seeds"]).split(",")),
        assumed=assumed,
        audited=audited,
        agreements=agreements(cells) if published_scale else [],
        readings=readings(cells, paper, _tied_m(paper)),
        contradictions=[contradiction(paper) for contradiction in CONTRADICTIONS],
        further=[check(paper) for check in FURTHER],
    )


def _budget_of(cell: Cell) -> tuple[str, str, int]:
    return cell.table, cell.data, cell.layers


def _tied_m(cells: Sequence[Cell]) -> float | None:
    """Millions of parameters of WikiText-103's Mamba of 6 layers if the first projections were one."""
    network = contradictions.find(cells, "table1", "wikitext103", 6, "mamba").network
    if not isinstance(network.embedding, AdaptiveEmbedding):
        return None
    return (parameters(network) - network.embedding.head_projection.numel()) / MILLION


def as_dict(result: Result) -> dict[str, Any]:
    """The content of `audit.json`."""
    return {
        "source": published.numbers()["source"],
        "scale": result.scale,
        "settings": result.overrides,
        "verdict": summary(result),
        "cells": [_cell(found) for found in result.audited],
        "compute": _totals(result),
        "hyper_parameters": [asdict(agreement) | {"equal": agreement.equal} for agreement in result.agreements],
        "readings": [asdict(reading) for reading in result.readings],
        "contradictions": [asdict(finding) for finding in result.contradictions],
        "further": [asdict(finding) for finding in result.further],
    }


def summary(result: Result) -> dict[str, Any]:
    """How many figures are met, and which are not."""
    compared = result.compared
    return {
        "counts_compared": len(compared),
        "counts_within_1_percent": sum(bool(found.count.within) for found in compared),
        "counts_equal_cut_off": sum(bool(found.count.cut_off) for found in compared),
        "counts_off": {found.cell.key: found.count.reason for found in compared if not found.count.within},
        "hyper_parameters_compared": len(result.agreements),
        "hyper_parameters_equal": sum(agreement.equal for agreement in result.agreements),
        "hyper_parameters_off": [asdict(agreement) for agreement in result.agreements if not agreement.equal],
    }


def _cell(found: Audited) -> dict[str, Any]:
    cell = found.cell
    return {
        "key": cell.key,
        "table": cell.table,
        "data": cell.data,
        "layers": cell.layers,
        "model": cell.model,
        "outer_norm": cell.outer_norm,
        "lambda_form": cell.lambda_form,
        "parameters": asdict(found.count),
        "budget": asdict(found.budget),
        "learning_rate": [asdict(curve) for curve in found.curves],
        "compute": asdict(found.compute),
    }


def _totals(result: Result) -> dict[str, Any]:
    return {
        "assumed": asdict(result.assumed),
        "seeds": result.seeds,
        "tables": {
            table: {
                "operations": result.operations(table),
                "hours": {name: hours(result.operations(table), name, result.assumed) for name in devices()},
            }
            for table in TABLES
        },
        "devices": devices(),
    }
