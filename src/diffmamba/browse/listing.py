"""`diffmamba runs list`: one row a run, with the settings that tell them apart."""

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from diffmamba.browse import columns
from diffmamba.browse.fields import Names, shown, value
from diffmamba.browse.screen import Column, Screen
from diffmamba.browse.words import COMMA, Words, choose
from diffmamba.errors import SettingError
from diffmamba.runs.form import STATUSES
from diffmamba.runs.index import Entry, Found
from diffmamba.runs.store import RunStore
from diffmamba.runs.summary import duration

OPTIONS = ("runs", "columns", "sort", "limit", "format")
FORMATS = ("table", "json", "csv")
SHOWN_DAMAGE = 3  # damaged records that are told one by one
FIRST_TO_GO = {"when": 3, "seconds": 2}
"""Columns that are left out first in a narrow terminal."""
SHORTEST = {"status": len("interrupted …")}
"""How far columns are cut in a narrow terminal, in signs."""


def run(words: Words, store: RunStore, found: Found) -> int:
    """Prints the list. Returns the exit status."""
    format_ = words.choice("format", FORMATS)
    entries, names = sorted(found.entries.values(), key=lambda one: (one.when, one.id)), Names(found.entries.values())
    chosen = choose(entries, words.conditions(names))
    chosen = _limited(_sorted(chosen, words, names), words)
    asked = [names.found(one.strip(), OPTIONS) for one in COMMA.split(words.options.get("columns", "")) if one.strip()]
    if format_ != "table":
        columns_ = {names.short(name): name for name in asked or _all_columns(chosen)}
        print_data(format_, [{head: value(one, name) for head, name in columns_.items()} for one in chosen])
        return 0
    _page(chosen, asked, names, store, found)
    return 0


def headlines(entries: Sequence[Entry]) -> list[str]:
    """The figures that count, each once."""
    return list(dict.fromkeys(entry.headline for entry in entries if entry.headline))


def print_data(format_: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as JSON, or as CSV with a column for each name that a row has."""
    if format_ == "json":
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    print(as_csv(rows), end="")


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows with a column for each name that one of them has. A list is written as JSON."""
    text = StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | bool | Mapping) else value


def state(entry: Entry) -> str:
    """The status with what belongs to it: how far a training is and where it runs, or why it failed."""
    if entry.status == "failed":
        kind = entry.error.get("kind") or entry.error.get("type")
        return f"failed: {kind}" if kind else "failed"
    if entry.status == "finished" or entry.steps is None or entry.step is None:
        return entry.status
    done = f"{entry.status} {entry.step}/{entry.steps}"
    if entry.status != "running":
        return done
    left = f", {duration(entry.left)} left" if entry.left else ""
    return f"{done}{left}" + (f", on {entry.host}" if entry.host else "")


def counts(entries: Sequence[Entry]) -> str:
    """How many runs have each status; and of those that failed, how many for each reason, with the first of them."""
    statuses = Counter(entry.status for entry in entries)
    told = [f"{statuses[status]:,} {status}" for status in reversed(STATUSES) if statuses[status]]
    kinds: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.status == "failed":
            kinds.setdefault(str(entry.error.get("kind") or entry.error.get("type") or "no reason"), []).append(entry)
    ranked = sorted(kinds.items(), key=lambda one: -len(one[1]))
    reasons = [f"  {kind}: {len(of_it):,}, such as {of_it[-1].id}: {_message(of_it[-1])}" for kind, of_it in ranked]
    return "\n".join([", ".join(told), *reasons])


def _message(entry: Entry) -> str:
    return str(entry.error.get("message") or "no message").splitlines()[0]


def _page(chosen: Sequence[Entry], asked: Sequence[str], names: Names, store: RunStore, found: Found) -> None:
    screen, all_of_them = Screen(), len(found.entries)
    if not chosen:
        none = f"none of the {all_of_them:,} runs in {store.directory} fits" if all_of_them else "no runs in"
        screen.line(none if all_of_them else f"{none} {store.directory}")
    else:
        told = asked or ["id", "status", *columns.telling(chosen), *headlines(chosen), "seconds", "when"]
        constant = columns.constant(chosen).items()
        same = ", ".join(f"{names.short(name)} {text}" for name, text in constant if name not in told)
        of = f" of {all_of_them:,}" if len(chosen) < all_of_them else ""
        screen.line(f"{len(chosen):,}{of} runs in {store.directory}" + (f": {same}" if same else ""))
        screen.line()
        left_out = screen.table([_column(names.short(n), n, chosen) for n in told], [entry.status for entry in chosen])
        if left_out:
            screen.line(f"no room for {', '.join(left_out)}; columns=NAME,... chooses others", "note")
        screen.line()
        screen.line(counts(chosen))
    for name, reason in list(found.damaged.items())[:SHOWN_DAMAGE]:
        screen.line(f"{name} is left out: {reason}", "damaged")
    if (more := len(found.damaged) - SHOWN_DAMAGE) > 0:
        screen.line(f"and {more:,} more, which cannot be read either", "damaged")
    screen.print()


def _column(header: str, name: str, entries: Sequence[Entry]) -> Column:
    texts = [state(entry) if name == "status" else shown(entry, name) for entry in entries]
    word = not any(isinstance(value(entry, name), int | float) for entry in entries)
    kept = name in ("id", "status") or any(name == entry.headline for entry in entries)
    return Column(header, texts, word, FIRST_TO_GO.get(name, int(not kept)), SHORTEST.get(name, 8))


def _all_columns(entries: Sequence[Entry]) -> list[str]:
    labels = [name for name in ("group", "name") if any(entry.setting(name) for entry in entries)]
    first = ("id", "status", "error", *labels, "step", "steps", *columns.FIRST)
    return list(dict.fromkeys([*first, *columns.telling(entries), *headlines(entries), "seconds", "when"]))


def _sorted(entries: list[Entry], words: Words, names: Names) -> list[Entry]:
    """By the figure or setting that is asked for, those without it last; else the most recent last."""
    given = words.options.get("sort")
    if not given:
        return entries
    name = names.found(given.lstrip("-"), OPTIONS)
    there = [entry for entry in entries if value(entry, name) is not None]
    numbers = all(isinstance(value(entry, name), int | float) for entry in there)
    there.sort(key=lambda entry: value(entry, name) if numbers else str(value(entry, name)), reverse=given[0] == "-")
    return there + [entry for entry in entries if value(entry, name) is None]


def _limited(entries: list[Entry], words: Words) -> list[Entry]:
    """The first ones where they are sorted, else the most recent ones."""
    given = words.options.get("limit")
    if given is None:
        return entries
    if not given.isdecimal() or not int(given):
        raise SettingError(f"limit={given} must be 1 or more")
    return entries[: int(given)] if words.options.get("sort") else entries[-int(given) :]
