"""A store of runs that were never trained, the command on it, and what it wrote."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.browse.shelves import Shelf
from tests.outcome import Outcome, outcome_of

VARIANTS = [("mamba", False, "scalar"), ("mamba", True, "scalar"), ("diff_mamba", True, "scalar")]


@dataclass(frozen=True)
class Desk:
    """A store, and the folder for what is written."""

    folder: Path

    @property
    def shelf(self) -> Shelf:
        return Shelf(self.folder / "runs")

    @property
    def reports(self) -> Path:
        return self.folder / "reports"

    def make(self, *words: str) -> Outcome:
        """`diffmamba dashboard` on this store."""
        return outcome_of("dashboard", f"runs={self.shelf.directory}", f"reports={self.reports}", *words)

    def written(self, name: str) -> Any:
        return json.loads((self.reports / "dashboard" / f"{name}.json").read_text())

    def fill(self, group: str = "table2") -> None:
        """Two seeds of three variants on one corpus, and one of another corpus, scale and group each."""
        for number, (model, norm, form) in enumerate(VARIANTS):
            for seed in (0, 42):
                told = {"model.name": model, "model.outer_norm": norm, "model.lambda_form": form, "seed": seed}
                self.shelf.put(f"t{number}{seed}", settings=told | {"group": group})
        self.shelf.put("tdata", settings=told | {"group": group, "data.name": "pysrc8"})
        self.shelf.put("tscale", settings=told | {"group": group, "scale.name": "small", "model.name": "other"})
        self.shelf.put("tgroup", settings=told | {"group": "mine", "model.name": "diff_s6"})


def panels_of(spec: Any) -> Iterator[Any]:
    """All panels of a workspace or a report, in their order."""
    if "section" in spec:
        for section in spec["section"]["panelBankConfig"]["sections"]:
            yield from section["panels"]
    for block in spec.get("blocks", ()):
        if block["type"] == "panel-grid":
            yield from block["metadata"]["panelBankSectionConfig"]["panels"]


def run_sets(spec: Any) -> list[Any]:
    """The sets of runs of a workspace or a report."""
    if "section" in spec:
        return list(spec["section"]["runSets"])
    grids = (block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid")
    return [one for grid in grids for one in grid["runSets"]]


def asked(runs: Any) -> dict[str, Any]:
    """What a set of runs is filtered by."""
    return {one["key"]["name"]: one["value"] for one in runs["filters"]["filters"]}
