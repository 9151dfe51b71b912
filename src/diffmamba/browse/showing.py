"""`diffmamba runs show ID`: all that a person wants to know of one run, on one screen."""

from collections.abc import Mapping
from typing import Any

from diffmamba.browse import plain
from diffmamba.browse.columns import TREES, UNTOLD
from diffmamba.browse.fields import moment, text
from diffmamba.browse.files import files_below, size
from diffmamba.browse.listing import state
from diffmamba.browse.places import ORDERED, joined, places
from diffmamba.browse.screen import Column, Screen
from diffmamba.browse.words import Words, run_of
from diffmamba.errors import SettingError
from diffmamba.runs import sources
from diffmamba.runs.form import Record, is_tried_again
from diffmamba.runs.index import Entry, Found, entry_of, flat, live
from diffmamba.runs.store import BEFORE, Run, RunStore
from diffmamba.runs.summary import duration, title

OPTIONS = ("runs",)
TRACEBACK_LINES = 6
MOST_ROWS = 12  # of evaluations, or of a measurement
MOST_FILES = 12
MOST_PLACES = 8  # in a line of accuracy by place


def run(words: Words, store: RunStore, found: Found) -> int:
    """Prints the page. Returns the exit status."""
    if len(words.ids) != 1 or words.chosen:
        raise SettingError("runs show takes one id: diffmamba runs show ID")
    shown = run_of(store, words.ids[0], [*found.entries, *found.damaged])
    screen = Screen()
    if shown.id in found.damaged:
        _show_damage(screen, shown, found.damaged[shown.id])
    else:
        record = shown.load()
        if record is None:
            raise SettingError(f"{shown.result} is gone")
        _show(screen, shown, record, found)
    screen.print()
    return 0


def _show_damage(screen: Screen, shown: Run, reason: str) -> None:
    screen.line(f"{shown.id}: its record cannot be read", "damaged")
    goes_on = "goes on from its checkpoint" if shown.last_checkpoint.exists() else "begins anew"
    screen.pairs({"reason": reason, "go on": f"the command of the run sets the record aside, and {goes_on}"})
    _show_files(screen, shown)


def _show(screen: Screen, shown: Run, record: Record, found: Found) -> None:
    entry = live(entry_of(record, shown.result.stat().st_mtime), shown)
    screen.line(f"{shown.id}  {state(entry)}", entry.status)
    measured = f"{entry.measure}" if entry.measure else ""
    name = entry.setting("name") or title(record["config"], measured)
    screen.pairs({"name": str(name), "settings": _chosen(entry)})
    screen.pairs({**trouble(record, entry), **going_on(shown, entry)})
    _show_results(screen, record, entry)
    screen.pairs(_by_place(record))
    if record["kind"] == "measurement":
        _show_rows(screen, shown)
    screen.heading("made")
    screen.pairs(circumstances(record, entry))
    screen.pairs(_relations(record, entry, found, shown))
    screen.heading("all settings")
    screen.pairs(by_group(entry))
    _show_files(screen, shown)


def trouble(record: Record, entry: Entry) -> dict[str, str]:
    """The error, with the place where it happened and the end of its traceback."""
    error = record.get("error")
    if entry.status != "failed" or not error:
        return {}
    kind = " ".join(str(error[key]) for key in ("kind", "type") if error.get(key))
    places = [f"at step {error['step']}"] if error.get("step") else []
    places += [str(error["where"])] if error.get("where") else []
    told = f"{kind}: {error['message']}" if kind else str(error["message"])
    last = str(error.get("traceback") or "").strip().splitlines()[-TRACEBACK_LINES:]
    told += f" ({', '.join(places)})" if places else ""
    return {"error": told} | ({"traceback": "\n".join(last)} if last else {})


def going_on(shown: Run, entry: Entry) -> dict[str, str]:
    """How to go on with a run that has not ended well."""
    where = "from its last checkpoint" if shown.last_checkpoint.exists() else "from the beginning"
    if entry.status == "failed":
        again = "the same command" if is_tried_again(entry.error) else "the same command with retry=failed"
        return {"go on": f"{again} tries it again {where}"}
    return {"go on": f"the same command goes on {where}"} if entry.status == "interrupted" else {}


def _chosen(entry: Entry) -> str:
    """The words that make the run: the files of its groups, and what it has otherwise than these."""
    settings, seed = entry.settings, entry.setting("seed")
    differing = {name: value for name, value in (plain.differing(settings) or {}).items() if name != "seed"}
    words = [f"{name}={text(value, nothing='null')}" for name, value in differing.items()]
    return " ".join([*plain.choices(settings), *([f"seed={text(seed)}"] if seed is not None else []), *words])


def by_group(entry: Entry) -> dict[str, str]:
    """All settings in words, by group. What groups are made into is left out."""
    groups: dict[str, list[str]] = {}
    for name, value in entry.settings.items():
        if not name.startswith(TREES) and name.partition(".")[0] not in UNTOLD and not name.endswith("_partial_"):
            group, _, rest = name.partition(".")
            groups.setdefault(group if rest else "others", []).append(f"{rest or name}={text(value, nothing='null')}")
    return {group: " ".join(told) for group, told in sorted(groups.items())}


def _show_results(screen: Screen, record: Record, entry: Entry) -> None:
    evaluations = record.get("evaluations") or []
    screen.heading("results" + (f" at step {evaluations[0]['step']}" if len(evaluations) == 1 else ""))
    figures = {name: figure(entry, name, value) for name, value in entry.values.items()}
    if not figures:
        screen.line("not evaluated")
        return
    if len(evaluations) < 2:
        screen.pairs(figures)
        return
    some = evaluations[:: max(1, -(-len(evaluations) // MOST_ROWS))]
    some = some if some[-1] is evaluations[-1] else [*some, evaluations[-1]]
    names = [
        name
        for name in dict.fromkeys(name for one in some for name in one)
        if not name.startswith(("tokens", "lambda/"))
    ]
    screen.table([Column(name, [figure(entry, name, one.get(name)) for one in some], False) for name in names])
    if len(some) < len(evaluations):
        screen.line(f"{len(some)} of {len(evaluations)} evaluations; all: diffmamba runs curves {entry.id}", "note")


def _by_place(record: Record) -> dict[str, str]:
    """The share of right answers on test by place, where the record tells it."""
    found = {kind: joined(places(record, kind), MOST_PLACES) for kind in ORDERED}
    return {
        f"right by {kind}": ", ".join(
            f"{one.low:g}{f'–{one.high:g}' * (one.high > one.low)}: {one.right:.3f}" for one in told
        )
        for kind, told in found.items()
        if told
    }


def figure(entry: Entry, name: str, value: Any) -> str:
    """A figure with the digits of its metric; an epoch and λ with three."""
    return text(value, 3 if name.startswith(("epoch", "lambda/")) else entry.digits.get(name.rpartition("/")[2]))


def _show_rows(screen: Screen, shown: Run) -> None:
    """The first rows of a measurement."""
    import csv

    path = shown.directory / "rows.csv"
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, ValueError) as error:
        screen.line(f"{path} cannot be read: {error}", "damaged")
        return
    screen.line()
    names = list(dict.fromkeys(name for row in rows for name in row if name))
    screen.table([Column(name, [row.get(name) or "" for row in rows[:MOST_ROWS]]) for name in names])
    if len(rows) > MOST_ROWS:
        screen.line(f"{MOST_ROWS} of {len(rows):,} rows; all: {path}", "note")


def circumstances(record: Record, entry: Entry) -> dict[str, str]:
    """When, on which machine, by which code."""
    git, hardware = record.get("git") or {}, record.get("hardware") or {}
    ended = f" to {moment(entry.finished)}" if entry.finished else ""
    speed = f", {entry.speed:,.0f} symbols/s" if entry.speed else ""
    revision = str(git.get("revision") or "none")[:12] + " with changes" * bool(git.get("dirty"))
    told = {
        "time": f"{moment(entry.started)}{ended}, {duration(entry.seconds or 0.0)}{speed}",
        "parameters": f"{entry.parameters:,}" if entry.parameters is not None else "",
        "data": in_one_line(record.get("corpus")),
        "hardware": in_one_line(hardware),
        "operators": in_one_line(record.get("operators")),
        "precision": str(record.get("precision") or ""),
        "versions": in_one_line(record.get("versions")),
        "revision": revision,
        "sources": _sources(record),
    }
    return {name: said for name, said in told.items() if said}


def in_one_line(part: Any) -> str:
    """A part of a record in one line."""
    told = (inner for name, value in part.items() for inner in flat(name, value)) if isinstance(part, Mapping) else ()
    return ", ".join(f"{name} {text(value)}" for name, value in told)


def _sources(record: Record) -> str:
    if not sources.comparable(record):
        return "not comparable with those of now: recorded by another version of Python or of diffmamba"
    changed = sources.changed(record)
    again = "force=true does it anew beside this one"
    return f"changed since: {', '.join(changed)}; {again}" if changed else "as they are now"


def _relations(record: Record, entry: Entry, found: Found, shown: Run) -> dict[str, str]:
    """What it started from, what started from it, and what was set aside."""
    weights = record.get("weights")
    others = sorted(one.id for one in found.entries.values() if one.weights == entry.id)
    before = sorted(path.name for path in shown.directory.parent.glob(f"{shown.id}{BEFORE}*"))
    damaged = sorted(path.name for path in shown.directory.glob("*.damaged-*"))
    told = {
        "weights": in_one_line(weights) if weights else "",
        "needed by": ", ".join(f"{name} ({found.entries[name].kind})" for name in others),
        "before": ", ".join(before),
        "set aside": ", ".join(damaged),
        "group": str(entry.setting("group") or ""),
    }
    return {name: said for name, said in told.items() if said}


def _show_files(screen: Screen, shown: Run) -> None:
    files = list(files_below(shown.directory))
    screen.heading(f"files: {size(sum(count for _, count in files))} in {shown.directory}")
    largest = sorted(files, key=lambda one: -one[1])[:MOST_FILES]
    screen.pairs((size(count), str(path.relative_to(shown.directory))) for path, count in largest)
    if len(files) > MOST_FILES:
        screen.line(f"and {len(files) - MOST_FILES} smaller files", "note")
