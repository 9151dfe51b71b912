"""The cases of tables 1 and 2: each configuration, composed through its sweep, with a network that has shapes only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from diffmamba.errors import SettingError
from diffmamba.mixers import Difference, Mamba2, Single
from diffmamba.mixers.combine import Lambda
from diffmamba.models import Backbone, LanguageModel
from diffmamba.models.backbone import ResidualBlock
from diffmamba.paper import published
from diffmamba.runs.plan import expand
from diffmamba.runs.work import build_network

TABLES = ("table1", "table2")
PUBLISHED_SCALE = "paper"
SWEPT = ("model", "data", "experiments", "sweeps")
COMBINES: dict[str, Any] = {
    "mamba": Single,
    "diff_s6": partial(Difference, scope="ssm"),
    "diff_mamba": partial(Difference, scope="block"),
}


@dataclass(frozen=True)
class Case:
    """One configuration of table 1 or 2, whatever its seed. The network is on the meta device: shapes, no numbers.

    `lambda_form` is None where nothing is subtracted. `published_m` are the millions of parameters that the paper
    prints; None for our controls and at other scales.
    """

    table: str
    data: str
    layers: int
    model: str
    outer_norm: bool
    lambda_form: str | None
    published_m: int | None
    config: dict[str, Any]
    network: LanguageModel

    @property
    def row(self) -> str:
        """The row of the paper's table, in words."""
        return f"{self.table.replace('table', 'table ')}, {self.data}, {self.layers} layers, {self.model}"

    @property
    def key(self) -> str:
        """The name in `audit.json`: `table1/text8/6/diff_mamba/outer_norm/scalar`."""
        switches = filter(None, ["outer_norm" * self.outer_norm, self.lambda_form])
        return "/".join([self.table, self.data, str(self.layers), self.model, *switches])


def collect(overrides: Sequence[str]) -> list[Case]:
    """The cases of both tables under further settings, in the order of their sweeps.

    Raises SettingError for a setting that the tables vary, and where the sizes of a corpus are not published.
    """
    for word in overrides:
        name = word.partition("=")[0]
        if name in SWEPT:
            raise SettingError(f"{word}: tables 1 and 2 set {name} themselves; leave it out")
    words = [*overrides, "seed=0"]
    return [case_of(table, made.config) for table in TABLES for made in expand(table, words, prepare=False)]


def case_of(table: str, config: dict[str, Any]) -> Case:
    """The case of a resolved configuration."""
    data, model, norm = config["data"], config["model"]["name"], config["model"]["outer_norm"]
    if "expected" not in data:
        raise SettingError(
            f"scale={config['scale']['name']} trains on {data['name']}, of which no sizes are published; "
            "use scale=paper, or add scale.corpora=published"
        )
    with torch.device("meta"):
        network = cast(LanguageModel, build_network(config, data["expected"]["vocabulary"]))
    form = next((part.form for part in network.modules() if isinstance(part, Lambda)), None)
    row, found = config["published"], published.PublishedResult()
    if config["scale"]["name"] == PUBLISHED_SCALE:
        printed_at = published.table1(row["data"], row["layers"], model) if table == "table1" else None
        found = printed_at or published.table2(model, norm, form)
    printed = found.params_m if found.delta is not None else None
    return Case(table, data["name"], config["model"]["n_layers"], model, norm, form, printed, config, network)


def find(cases: Sequence[Case], start: str) -> Case:
    """The first case whose key starts like this."""
    return next(case for case in cases if case.key.startswith(start))


def layers_of(network: LanguageModel) -> list[nn.Module]:
    """The mixer or the feed-forward layer of every residual block."""
    blocks = cast(Iterable[ResidualBlock], network.backbone.blocks)
    return [block.layer for block in blocks]


def mixer(model: str, headdim: int, expand: int, d_state: int = 64) -> partial[Mamba2]:
    """What makes a Mamba-2 mixer of this model, given d_model and depth. `expand` and `headdim` are of one branch."""
    return partial(Mamba2, headdim=headdim, expand=expand, d_state=d_state, combine=COMBINES[model])


def shapes(
    d_model: int, n_layers: int, mixers: Sequence[partial[Mamba2]], vocabulary: int, **other: Any
) -> LanguageModel:
    """A network without memory for its parameters; `other` are further arguments of its backbone."""
    with torch.device("meta"):
        return LanguageModel(vocabulary, Backbone(d_model, n_layers, mixers, **other), d_model)
