"""`diffmamba runs export`: all settings, figures and circumstances of runs, as a table for other programs."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from diffmamba import atomic
from diffmamba.browse.columns import TREES
from diffmamba.browse.fields import Names
from diffmamba.browse.words import Words, choose
from diffmamba.errors import SettingError
from diffmamba.runs.form import Record
from diffmamba.runs.index import Entry, Found, flat
from diffmamba.runs.store import RunStore

OPTIONS = ("runs", "format", "out", "curves")
FORMATS = ("csv", "json")
PARTS = ("error", "stopped", "git", "versions", "hardware", "operators", "precision", "corpus")
"""Parts of a record that become columns, beside its settings and figures."""
NOT_TOLD = ("error.traceback",)
OF_AN_EVALUATION = ("step", "epoch", "tokens")


def run(words: Words, store: RunStore, found: Found) -> int:
    """Writes the table. Returns the exit status."""
    format_, out = words.choice("format", FORMATS), words.options.get("out")
    chosen = choose(found.entries.values(), words.conditions(Names(found.entries.values())))
    long = words.flag("curves")
    rows = [row for entry in chosen for row in _rows(store, entry, long)]
    text = json.dumps(rows, indent=1, ensure_ascii=False) + "\n" if format_ == "json" else _csv(rows)
    if out is None:
        print(text, end="")
        return 0
    if not Path(out).expanduser().parent.is_dir():
        raise SettingError(f"out={out}: there is no directory {Path(out).expanduser().parent}")
    atomic.write(Path(out).expanduser(), text)
    print(f"{len(rows):,} rows of {len(chosen):,} runs in {out}")
    return 0


def _rows(store: RunStore, entry: Entry, long: bool) -> Iterator[dict[str, Any]]:
    """The row of a run; or with `long` one for each figure of each of its evaluations."""
    record = store.run(entry.id).read()
    if record is None:  # set aside since it was listed
        return
    if not long:
        yield _row(entry, record)
        return
    for evaluation in record.get("evaluations") or []:
        at = {name: evaluation.get(name) for name in OF_AN_EVALUATION}
        for metric, value in evaluation.items():
            if metric not in OF_AN_EVALUATION:
                yield {"id": entry.id, **at, "metric": metric, "value": value}


def _row(entry: Entry, record: Record) -> dict[str, Any]:
    own = ("id", "kind", "status", "started", "finished", "step", "steps", "seconds", "speed", "parameters", "measure")
    parts = {name: value for part in PARTS for name, value in flat(part, record.get(part)) if name not in NOT_TOLD}
    settings = {name: value for name, value in entry.settings.items() if not name.startswith(TREES)}
    told = {name: getattr(entry, name) for name in own} | {"weights": entry.weights, "headline": entry.headline}
    return told | dict(entry.values) | settings | {name: value for name, value in parts.items() if value is not None}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows with a column for each name that one of them has. A list is written as JSON."""
    text = StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | bool | Mapping) else value
