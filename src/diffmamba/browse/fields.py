"""The names by which runs are listed, sorted and chosen: of settings, of figures, and of what a record says itself.

A setting has its dotted name: `optimizer.learning_rate`. A group stands for the choice made in it: `model` is
`model.name`. A figure has the name that it has in the record: `test/ppl`.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cached_property
from operator import attrgetter
from typing import Any

from diffmamba.errors import SettingError
from diffmamba.runs.index import Entry
from diffmamba.spelling import did_you_mean

OF_A_RUN: Mapping[str, Callable[[Entry], Any]] = {
    **{name: attrgetter(name) for name in ("id", "kind", "status", "step", "steps", "seconds", "speed", "parameters")},
    **{name: attrgetter(name) for name in ("host", "started", "finished", "when", "measure")},
    "error": lambda entry: entry.error.get("kind") or entry.error.get("type"),
    "weights": lambda entry: given_weights(entry),
}
"""What a record says itself, beside its settings and its figures."""
OF_A_MEASUREMENT = ("measure", "measured")
"""The groups that a measurement has beside those of the training whose weights it measures."""
CHOICES = ("name", "_target_")
"""The settings that say what was chosen in a group."""
NOTHING = "–"


def given_weights(entry: Entry) -> str | None:
    """The weights that a work was told to take: the id of a run, a file, or `fresh` for those of a measurement.

    None for a training of fresh ones, and for a measurement of those it trains.
    """
    if entry.kind == "measurement" and str(entry.setting("weights._target_")).endswith(".Fresh"):
        return "fresh"
    return entry.weights if entry.setting("weights.run") else entry.setting("weights.path")


class Names:
    """All names that some runs have."""

    def __init__(self, entries: Iterable[Entry]):
        entries = list(entries)
        parts = {id(part): part for entry in entries for part in entry.parts.values()}
        self.settings = list(dict.fromkeys(name for part in parts.values() for name in part))
        self.figures = list(dict.fromkeys(name for entry in entries for name in entry.values))
        self._all = {*OF_A_RUN, *self.settings, *self.figures}
        self._groups = {name.partition(".")[0] for name in self.settings if "." in name}

    def found(self, given: str, further: Iterable[str] = ()) -> str:
        """The whole name that is meant. `further` are other words that might have been. Raises SettingError."""
        if name := self._meant(given):
            return name
        if several := self._endings.get(given):
            raise SettingError(f"{given} is the name of several settings: {', '.join(several)}; give one of these")
        known = [*further, *OF_A_RUN, *self._groups, *self._endings, *sorted(self._all)]
        raise SettingError(f"no run has {given}{did_you_mean(given, known)}")

    def short(self, name: str) -> str:
        """The shortest way to write a whole name: `model` for `model.name`, `dropout` for `model.dropout`."""
        group, _, last = name.rpartition(".")
        for shorter in (group if last in CHOICES and "." not in group else "", last):
            if shorter and shorter not in CHOICES and name in self._all and self._meant(shorter) == name:
                return shorter
        return name

    def _meant(self, given: str) -> str | None:
        """The whole name that is meant, if there is one."""
        for name in (given, *(f"{given}.{choice}" for choice in CHOICES), *self._ending(given)):
            if name in self._all or not self._all - OF_A_RUN.keys():  # of no run at all, every name may be right
                return name
        return None

    def _ending(self, given: str) -> list[str]:
        """The setting whose last name this is, if it is one alone. A scale only sets others, so it does not count.

        A setting of a training counts before those of a measurement.
        """
        found = self._endings.get(given, [])
        least = min((name.count(".") for name in found), default=0)
        first = [name for name in found if name.count(".") == least]
        first = [name for name in first if name.partition(".")[0] not in OF_A_MEASUREMENT] or first
        return first if len(first) == 1 else []

    @cached_property
    def _endings(self) -> dict[str, list[str]]:
        """The settings by their last names."""
        found: dict[str, list[str]] = {}
        for name in self.settings:
            if "." in name and not name.startswith("scale."):
                found.setdefault(name.rpartition(".")[2], []).append(name)
        return found


def value(entry: Entry, name: str) -> Any:
    """What a run has under a whole name; None where it has nothing."""
    if name in OF_A_RUN:
        return OF_A_RUN[name](entry)
    return entry.values[name] if name in entry.values else entry.setting(name)


def text(value: Any, digits: int | None = None, nothing: str = NOTHING) -> str:
    """A value as a command line would have it. `digits`: decimals of a figure; `nothing`: what stands for None."""
    if value is None:
        return nothing
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.{digits}f}" if digits is not None else f"{value:.10g}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(text, value))}]"
    return str(value)


def shown(entry: Entry, name: str) -> str:
    """The text for a person of what a run has under a whole name."""
    found = value(entry, name)
    if name in ("seconds", "speed") and isinstance(found, int | float):
        return f"{found:,.0f}"
    if name == "parameters" and isinstance(found, int):
        return f"{found:,}"
    if name.endswith("_target_") and isinstance(found, str):
        return found.rpartition(".")[2]
    if name in ("when", "started", "finished") and isinstance(found, str):
        return moment(found)
    return text(found, entry.digits.get(name.rpartition("/")[2]) if name in entry.values else None)


def moment(iso: str) -> str:
    """A date and time as this machine's clock has it, to the minute."""
    try:
        return f"{datetime.fromisoformat(iso).astimezone():%Y-%m-%d %H:%M}"
    except ValueError:  # edited by hand
        return iso
