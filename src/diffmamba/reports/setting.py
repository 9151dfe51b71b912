"""The cells of table 1, which are also the curves of figure 2."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from diffmamba.errors import SettingError
from diffmamba.paper import published
from diffmamba.reports.table import Key, Line


@dataclass(frozen=True)
class Setting(Key):
    """A model at one published corpus and depth, and the corpus and the layers that were really trained for it."""

    data: str
    layers: int
    trained_on: str
    trained_layers: int
    model: str

    baseline = "mamba of the same data and layers"

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        row, model = config["published"], config["model"]
        if row is None:
            raise SettingError("published is not set: table 1 is made of experiments like experiments=table1/text8_6l")
        return cls(row["data"], row["layers"], config["data"]["name"], model["n_layers"], model["name"])

    @property
    def label(self) -> str:
        return f"{self.group}, {self.model}"

    @property
    def group(self) -> str:
        """`text8, 6 layers`, and in brackets what was trained instead: `text8, 6 layers (here pydoc8, 1 layer)`."""
        trained = [self.trained_on] if self.trained_on != self.data else []
        trained += [_layers(self.trained_layers)] if self.trained_layers != self.layers else []
        return f"{self.data}, {_layers(self.layers)}" + (f" (here {', '.join(trained)})" if trained else "")

    @property
    def is_baseline(self) -> bool:
        return self.model == "mamba"

    @property
    def published(self) -> published.Published:
        return published.table1(self.data, self.layers, self.model)

    @property
    def is_as_published(self) -> bool:
        """Whether corpus and depth are the paper's."""
        return (self.trained_on, self.trained_layers) == (self.data, self.layers)


def setting(line: Line) -> Setting:
    """The key of a line of this table."""
    assert isinstance(line.cell.key, Setting)
    return line.cell.key


def _layers(count: int) -> str:
    return f"{count} layer{'s' * (count != 1)}"
