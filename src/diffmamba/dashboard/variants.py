"""What the run store says about the runs of a page: which variants there are, and which colour each has."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

from diffmamba.browse.columns import TREES, UNTOLD, telling
from diffmamba.browse.fields import OF_A_RUN
from diffmamba.dashboard.description import Description
from diffmamba.reports.charts import HUES, OTHER_HUES
from diffmamba.runs.index import Entry

Variant = tuple[str, ...]
"""The values of the settings that tell a variant from the others, as W&B writes them."""
MODEL, PPL = "model.name", "test/ppl"
LIGHTER = 0.3
"""How much nearer to white each further variant of a model is: its models keep their hue."""


@dataclass(frozen=True)
class Shown:
    """A page, and the runs of the store that it shows.

    Args:
        name: of the page, such as `table2`.
        scale: of its runs; "" where it shows all scales.
        runs: the ids of all runs that it may show, where these are not all runs of its group and no others.
        left: how many runs of its group it does not show, since they are not in the plan of its sweep.
    """

    name: str
    description: Description
    entries: Sequence[Entry]
    scale: str = ""
    runs: Sequence[str] = ()
    left: int = 0

    @property
    def settings(self) -> list[str]:
        """The settings that tell variants apart: those of the description, else those that differ among the runs."""
        if self.description.variants or not self.entries:
            return self.description.variants or [MODEL]
        away = (*UNTOLD, "seed", self.description.each, *OF_A_RUN)
        found = (name for name in telling(self.entries) if name not in away and not name.startswith(TREES))
        return list(found) or [MODEL]

    @property
    def results(self) -> list[str]:
        """The figures that count among its runs, on test and val: the columns of the table of runs."""
        found = sorted({entry.headline for entry in self.entries if entry.headline}) or [PPL]
        return [one for name in found for one in dict.fromkeys((name, name.replace("test/", "val/", 1)))]

    @property
    def variants(self) -> list[Variant]:
        """The variants that there are, in the order of their values."""
        settings = self.settings
        return sorted({tuple(written(entry.setting(name)) for name in settings) for entry in self.entries})

    @property
    def colours(self) -> dict[Variant, str]:
        """A colour for each variant. Those of one model have its hue, the first as in our own pictures."""
        place = self.settings.index(MODEL) if MODEL in self.settings else None
        others, found = cycle(OTHER_HUES), {}
        hues, count = dict(HUES), dict[str, int]()
        for variant in self.variants:
            model = " ".join(variant) if place is None else variant[place]
            if model not in hues:
                hues[model] = next(others)
            found[variant] = lighter(hues[model], 1 - (1 - LIGHTER) ** count.setdefault(model, 0))
            count[model] += 1
        return found

    @property
    def parts(self) -> list["Shown"]:
        """The page for each value of the setting `each`; itself where there is none."""
        each = self.description.each
        values = {written(entry.setting(each)): entry.setting(each) for entry in self.entries} if each else {}
        if not values:
            return [self]
        return [
            replace(
                self,
                description=self.description.model_copy(update={"where": {**self.description.where, each: value}}),
                entries=[entry for entry in self.entries if written(entry.setting(each)) == text],
            )
            for text, value in sorted(values.items())
        ]


def shown(
    name: str, description: Description, entries: Iterable[Entry], scale: str, planned: Iterable[str] = ()
) -> Shown:
    """A page with the runs of its group, its scale, and the settings that it asks for.

    `planned`: the runs of its sweep, whichever group they have. Other runs of its group are left out then, unless it
    has no run of the plan: it is a sweep of trials.
    """
    asked, planned = dict[str, Any](description.where), set(planned)
    if description.group:
        asked["scale.name"] = scale
    trained = (entry for entry in entries if entry.kind == "training")
    found = [entry for entry in trained if all(entry.setting(key) == value for key, value in asked.items())]
    if not description.group:
        return Shown(name, description, found)
    own = {entry.id for entry in found if entry.setting("group") == description.group}
    kept = planned if planned & own or not own else own
    found = [entry for entry in found if entry.id in kept]
    is_group = {entry.id for entry in found} == own
    return Shown(name, description, found, scale, () if is_group else sorted(kept), len(own - kept))


def groups(entries: Iterable[Entry]) -> list[str]:
    """The groups of W&B that there are runs of."""
    return sorted({str(group) for entry in entries if (group := entry.setting("group")) is not None})


def written(value: Any) -> str:
    """A value as W&B writes it in the name of a group of runs."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def lighter(colour: str, share: float) -> str:
    """A colour `#rrggbb`, mixed with this share of white."""
    parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)
