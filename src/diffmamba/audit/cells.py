"""The cells of tables 1 and 2, composed through their sweeps, each with its network on the meta device."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from diffmamba.build import build_network
from diffmamba.errors import SettingError
from diffmamba.models import LanguageModel
from diffmamba.paper import published
from diffmamba.runs.grid import expand

TABLES = ("table1", "table2")
PUBLISHED_SCALE = "paper"
SWEPT = ("model", "data", "experiments", "sweeps")


@dataclass(frozen=True)
class Cell:
    """One configuration of a published grid. The network holds shapes and no numbers: it is on the meta device."""

    table: str
    config: dict[str, Any]
    network: LanguageModel

    @property
    def data(self) -> str:
        return self.config["data"]["name"]

    @property
    def expected(self) -> dict[str, int]:
        """Sizes of the corpus: train, val and test in symbols, and the vocabulary."""
        return self.config["data"]["expected"]

    @property
    def model(self) -> str:
        return self.config["model"]["name"]

    @property
    def layers(self) -> int:
        return self.config["model"]["n_layers"]

    @property
    def outer_norm(self) -> bool:
        return self.config["model"]["outer_norm"]

    @property
    def lambda_form(self) -> str | None:
        """The form of λ; None where nothing is subtracted."""
        forms = [mixer.get("combine", {}).get("lambda_form") for mixer in self.config["model"]["mixers"]]
        return next(filter(None, forms), None)

    @property
    def variant(self) -> str:
        """What tells the cell from others of its model: `outer norm, reparam`."""
        return ", ".join(filter(None, ["outer norm" * self.outer_norm, self.lambda_form]))

    @property
    def key(self) -> str:
        """The cell's name in `audit.json`: `table1/text8/6/diff_mamba/outer_norm/scalar`."""
        parts = [self.table, self.data, str(self.layers), self.model]
        return "/".join([*parts, *(["outer_norm"] if self.outer_norm else []), *filter(None, [self.lambda_form])])

    @property
    def published_params_m(self) -> int | None:
        """Millions of parameters that the paper prints for the cell; None for our controls and at other scales."""
        if self.config["scale"]["name"] != PUBLISHED_SCALE:
            return None
        if self.table == "table2":
            paper = published.table2(self.model, self.outer_norm, self.lambda_form)
            return paper.params_m if paper.ppl is not None else None
        return published.table1(model=self.model, **self.config["published"]).params_m


def table1_row(data: str, layers: int) -> dict[str, Any]:
    """A row of the published table 1."""
    return next(row for row in published.numbers()["table1"]["rows"] if (row["data"], row["layers"]) == (data, layers))


def table3_row(data: str, layers: int) -> dict[str, Any]:
    """A row of the published table 3."""
    return next(row for row in published.numbers()["table3"]["rows"] if (row["data"], row["layers"]) == (data, layers))


def collect(overrides: Sequence[str]) -> list[Cell]:
    """The cells of both tables under further settings, in grid order, one seed each."""
    for word in overrides:
        name = word.partition("=")[0]
        if name in SWEPT:
            raise SettingError(f"{word}: tables 1 and 2 set {name} themselves; leave it out")
    return [cell for table in TABLES for cell in _cells(table, overrides)]


def _cells(table: str, overrides: Sequence[str]) -> list[Cell]:
    configs = [run.config for run in expand(table, [*overrides, "seed=0"], lambda config: "")]
    for config in configs:
        if "expected" not in config["data"]:
            raise SettingError(
                f"scale={config['scale']['name']} trains on {config['data']['name']}, of which no sizes are published; "
                f"use scale=paper, or add scale.corpora=published"
            )
    return [Cell(table, config, shapes(config["model"], config["data"]["expected"])) for config in configs]


def shapes(model: dict[str, Any], expected: dict[str, int]) -> LanguageModel:
    """The network of a resolved `model` configuration without memory for its parameters."""
    with torch.device("meta"):
        return build_network(model, expected["vocabulary"])


def changed(cell: Cell, mixer: dict[str, Any] | None = None, **model: Any) -> Cell:
    """The cell with other settings of its backbone and of each of its mixers, and the network they make."""
    mixers = [settings | (mixer or {}) for settings in cell.config["model"]["mixers"]]
    settings = cell.config["model"] | {"mixers": mixers} | model
    return replace(cell, config=cell.config | {"model": settings}, network=shapes(settings, cell.expected))
