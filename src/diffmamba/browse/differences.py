"""`diffmamba runs diff ID ID`: what differs between runs, and their results beside each other."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffmamba.browse.columns import TREES, UNTOLD, order
from diffmamba.browse.fields import shown, text
from diffmamba.browse.listing import state
from diffmamba.browse.screen import Column, Screen
from diffmamba.browse.words import Words, run_of
from diffmamba.errors import SettingError
from diffmamba.runs.form import Record
from diffmamba.runs.index import Entry, Found, entry_of, flat, live
from diffmamba.runs.store import RunStore
from diffmamba.runs.summary import title

OPTIONS = ("runs",)
PARTS = {
    "data": ("corpus",),
    "made by": ("versions", "git"),
    "made on": ("hardware", "operators", "precision", "parameters"),
}
"""Which parts of the records are compared under which heading."""
ABSENT = "–"
BESIDE = ("step", "seconds", "speed")  # told beside the figures


def run(words: Words, store: RunStore, found: Found) -> int:
    """Prints what differs. Returns the exit status."""
    if len(words.ids) < 2 or words.chosen:
        raise SettingError("runs diff takes two ids or more: diffmamba runs diff ID ID")
    runs = [run_of(store, given, [*found.entries, *found.damaged]) for given in words.ids]
    if len({run.id for run in runs}) < len(runs):
        raise SettingError(f"{runs[0].id} is asked for twice; give ids of different runs")
    records = [run.load() for run in runs]
    there = [record for record in records if record is not None]
    entries = [live(entry_of(r, run.result.stat().st_mtime), run) for r, run in zip(there, runs, strict=True)]
    screen = Screen()
    _show_heads(screen, there, entries)
    differs = [
        _show(screen, "settings", entries, _settings(entries)),
        _show(screen, "sources", entries, _sources(there)),
        *[_show(screen, head, entries, [_flat(record, parts) for record in there]) for head, parts in PARTS.items()],
    ]
    if not any(differs):
        screen.line()
        screen.line("settings, sources, data, versions and hardware do not differ")
    _show_results(screen, entries)
    screen.print()
    return 0


def _show_heads(screen: Screen, records: Sequence[Record], entries: Sequence[Entry]) -> None:
    for record, entry in zip(records, entries, strict=True):
        name = entry.setting("name") or title(record["config"], entry.measure or "")
        screen.pairs({entry.id: f"{state(entry)}: {name}"})


def _settings(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The settings of each run. What groups are made into counts only where nothing else differs."""
    all_of_them = [{n: v for n, v in e.settings.items() if n.partition(".")[0] not in UNTOLD} for e in entries]
    plain = [{name: value for name, value in one.items() if not name.startswith(TREES)} for one in all_of_them]
    return plain if _differing(plain) else all_of_them


def _sources(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The digests of the modules that all runs have. The one of another version of Python says nothing."""
    digests = [_flat(record, ("sources",), "sources.digests.") for record in records]
    versions = {(record.get("sources") or {}).get("python") for record in records}
    shared = set.intersection(*(set(one) for one in digests)) if len(versions) == 1 else set()
    return [{name: digest for name, digest in one.items() if name in shared} for one in digests]


def _flat(record: Record, parts: Sequence[str], below: str = "") -> dict[str, Any]:
    """Parts of a record by dotted names; or only what is below a name, without it."""
    named = dict(pair for part in parts for pair in flat(part, record.get(part)))
    return {name.removeprefix(below): value for name, value in named.items() if name.startswith(below)}


def _differing(columns: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names under which they differ. One that repeats another of the same last name is left out."""
    names = sorted(dict.fromkeys(name for one in columns for name in one), key=order)
    found: dict[tuple[str, ...], str] = {}
    for name in names:
        told = tuple(_told(one, name) for one in columns)
        if len(set(told)) > 1:
            found.setdefault((name.rpartition(".")[2], *told), name)
    return list(found.values())


def _told(one: Mapping[str, Any], name: str) -> str:
    return text(one[name], nothing="null") if name in one else ABSENT


def _show(screen: Screen, heading: str, entries: Sequence[Entry], columns: Sequence[Mapping[str, Any]]) -> bool:
    """A row for each name that differs. Returns whether there is one."""
    if names := _differing(columns):
        _table(screen, heading, entries, names, [[_told(one, name) for name in names] for one in columns])
    return bool(names)


def _show_results(screen: Screen, entries: Sequence[Entry]) -> None:
    figures = list(dict.fromkeys(name for entry in entries for name in entry.values))
    known = [name for name in BESIDE if any(getattr(entry, name) is not None for entry in entries)]
    names = [*figures, *known]
    _table(screen, "results", entries, names, [[shown(entry, name) for name in names] for entry in entries])


def _table(
    screen: Screen, heading: str, entries: Sequence[Entry], names: Sequence[str], cells: Sequence[Sequence[str]]
) -> None:
    """A row for each name, a column for each run."""
    screen.line()
    runs = [Column(entry.id, told, rank=1) for entry, told in zip(entries, cells, strict=True)]
    left_out = screen.table([Column(heading, names), *runs])
    if left_out:
        screen.line(f"no room for {', '.join(left_out)}", "note")
