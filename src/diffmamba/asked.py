"""What `reproduce` and `report` are asked for: the works of a sweep, and a table or figure of each part of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from diffmamba.errors import SettingError
from diffmamba.reports import Design, swept
from diffmamba.runs.described import Described
from diffmamba.runs.plan import Planned, cells_of, expand

KINDS = ("table", "figure", "sweep")
DEFAULT = ("table", "table2")
OF_A_SWEEP = ("baseline", "title")
Part = tuple[Design, Sequence[tuple[str, Mapping[str, Any]]]]
"""A design, and the ids and configurations of its works."""


@dataclass(frozen=True)
class Asked:
    """The works of a sweep, and the designs that show them."""

    sweep: str
    planned: list[Planned]
    parts: list[Part]


def wanted(settings: Mapping[str, Any]) -> tuple[str, str]:
    """The kind and the name of what is asked for: table 2 where nothing is. Raises SettingError for two at once."""
    words = [f"{kind}={settings[kind]}" for kind in KINDS if settings[kind]] + ["all=true"] * settings["all"]
    if len(words) > 1:
        raise SettingError(f"{' and '.join(words)}: one at a time; leave out all but one")
    kind, name = next(((kind, settings[kind]) for kind in KINDS if settings[kind]), DEFAULT)
    further = [f"{name}={settings[name]}" for name in OF_A_SWEEP if settings[name]]
    if further and not words:
        raise SettingError(f"{further[0]}: say which sweep: sweep=NAME")
    if further and kind != "sweep":
        raise SettingError(f"{further[0]} is for sweep=NAME; a table or figure has its own, so leave it out")
    return kind, name


def of_design(design: Design, words: Sequence[str], prepare: bool) -> Asked:
    """A table or figure with these further words. `prepare`: data are prepared where they are not."""
    planned = expand(design.sweep, words, prepare)
    return Asked(design.sweep, planned, [(design, [(item.id, item.config) for item in planned if item.asked])])


def of_sweep(told: Described, words: Sequence[str], settings: Mapping[str, Any], prepare: bool) -> Asked:
    """The tables of a sweep: one for its trainings, and one for each of its measures."""
    planned = expand(told.name, words, prepare)
    baseline, title = settings["baseline"] or told.baseline, settings["title"] or told.title
    parts = swept.kinds(cells_of(planned))
    found: list[Part] = []
    for kind, cells in parts.items():
        design = swept.design_of(told.name, cells, baseline, title, told.varied, kind)
        found.append((replace(design, asked={name: settings[name] for name in OF_A_SWEEP if settings[name]}), cells))
    return Asked(told.name, planned, found)


def scale_of(cells: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """The scale of these works; of several scales their names."""
    return "+".join(dict.fromkeys(config["scale"]["name"] for _, config in cells))
