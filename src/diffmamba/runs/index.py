"""What a list of all runs needs of their records, kept in one file: `RUNS/.index.json`.

To read 5,000 records takes seconds, so what a list shows of them is kept. It is a cache and no second truth: what is
kept of a record counts only while its `result.json` is the same file, of the same size and time of change. All else is
read anew, and the file is replaced. A file that is missing, damaged, or of another version is made again. A store that
cannot be written is read without it. Two processes that write it at once do no harm: each writes a whole one.

What changes without the record is never kept: whether a process works on a run, and how far it is.

This module imports no large library.
"""

import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from diffmamba import atomic
from diffmamba.errors import SettingError
from diffmamba.runs.form import SCHEMA, SCHEMA_1, Record
from diffmamba.runs.store import BEFORE, Run, RunStore

NAME = ".index.json"
Flat = dict[str, Any]
"""Settings by their dotted names."""
Key = list[int]
"""What tells whether a record is the one that was read: the time of its last change, its size, and its inode."""
NOT_KEPT = ("step", "epoch", "tokens", "lambda/")
"""What a list does not show of an evaluation."""
OF_AN_ERROR = ("type", "kind", "message", "where", "step", "again")


@dataclass(frozen=True)
class Entry:
    """What a list shows of a run.

    Args:
        status: as in the record; `interrupted` where the record says `running` and no process works on the run.
        error: of a failed run: type, kind, message, where, step, again.
        step, steps: of a training: how far it is.
        left: seconds to its end, for a training under way.
        host: the machine.
        weights: the id of the run whose weights it starts from or measures.
        measure: the name of the measure.
        headline: the name of the figure that counts, such as `test/ppl`.
        digits: decimals to print, by the name of a metric.
        values: the last evaluation, or what was measured.
        changed: when the record was last written, in seconds since 1970.
        parts: the settings by their dotted names, a part for each group. Runs share equal parts.
    """

    id: str
    kind: str
    status: str
    started: str
    finished: str | None = None
    error: Mapping[str, Any] = field(default_factory=dict)
    step: int | None = None
    steps: int | None = None
    left: float | None = None
    seconds: float | None = None
    speed: float | None = None
    parameters: int | None = None
    host: str | None = None
    weights: str | None = None
    measure: str | None = None
    headline: str | None = None
    digits: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    changed: float = 0.0
    parts: Mapping[str, Flat] = field(default_factory=dict)

    @property
    def settings(self) -> Flat:
        """All settings by their dotted names."""
        return {name: value for part in self.parts.values() for name, value in part.items()}

    def setting(self, name: str) -> Any:
        """A setting by its dotted name; None where the run has none of this name."""
        return self.parts.get(name.partition(".")[0], {}).get(name)

    @property
    def value(self) -> Any:
        """The headline's value; None where the run was not evaluated."""
        return self.values.get(self.headline or "")

    @property
    def when(self) -> str:
        """When it ended, or else began: a date and time in ISO 8601."""
        return self.finished or self.started


FORM = [2, SCHEMA, *(one.name for one in fields(Entry))]
"""Of the file. The first number is raised when a field holds something else."""


class Found(NamedTuple):
    """The runs of a store by their ids, and for each record that cannot be read the reason."""

    entries: dict[str, Entry]
    damaged: dict[str, str]


def entries(store: RunStore) -> dict[str, Entry]:
    """Every run of a store by its id, with the status that it has now. A damaged record is left out."""
    return look(store).entries


def look(store: RunStore) -> Found:
    """The runs of a store and the damage in it. Brings the index up to date where it can be written."""
    path = store.directory / NAME
    kept, rows, damaged = _read(path), {}, {}
    shared: dict[str, Flat] | None = None
    for name, key in _records(store.directory):
        row = kept.get(name)
        if row is None or row[0] != key:
            try:
                record = store.run(name).load()
            except (SettingError, OSError) as error:
                damaged[name] = str(error)
                continue
            if record is None:
                continue
            if shared is None:
                shared = {json.dumps(part): part for _, entry in kept.values() for part in entry.parts.values()}
            row = key, _sharing(entry_of(record, key[0] / 1e9), shared)
        rows[name] = row
    if shared is not None or rows.keys() != kept.keys():
        with suppress(OSError):  # the next one reads the records again
            _write(path, rows)
    return Found({name: live(entry, store.run(name)) for name, (_, entry) in rows.items()}, damaged)


def entry_of(record: Record, changed: float = 0.0) -> Entry:
    """What a list shows of a record. The record was checked by `form.record_of`; all that it may lack is left out."""
    hardware, progress, config = record.get("hardware") or {}, record.get("progress") or {}, record["config"]
    measured = record["kind"] == "measurement"
    told = record["measure"] if measured else record.get("task") or SCHEMA_1
    last = record["values"] if measured else (record["evaluations"] or [{}])[-1]
    weights = record.get("weights")
    return Entry(
        **{name: record[name] for name in ("id", "kind", "status", "started")},
        finished=record.get("finished"),
        error={key: value for key, value in (record.get("error") or {}).items() if key in OF_AN_ERROR},
        step=progress.get("step"),
        steps=progress.get("steps"),
        seconds=_finite(record.get("wall_seconds")),
        speed=_finite(record.get("tokens_per_second")),
        parameters=(record.get("parameters") or {}).get("total"),
        host=hardware.get("host"),
        weights=weights.get("run") if isinstance(weights, Mapping) else None,
        measure=told.get("name") if measured else None,
        headline=headline if isinstance(headline := told.get("headline"), str) else None,
        digits=_digits(told.get("metrics")),
        values={key: value for key, value in last.items() if not key.startswith(NOT_KEPT)},
        changed=changed,
        parts={str(name): dict(flat(name, value)) for name, value in config.items()},
    )


def flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A setting and what is below it, by dotted names. A list of plain values is one value."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(f"{name}.{key}", inner)
    elif isinstance(value, list) and any(isinstance(inner, Mapping | list) for inner in value):
        for index, inner in enumerate(value):
            yield from flat(f"{name}.{index}", inner)
    else:
        yield name, value


def live(entry: Entry, run: Run) -> Entry:
    """The entry as it is at this moment: whether a process works on it, and how far that is."""
    if entry.status != "running":
        return entry
    if not run.is_taken():
        return replace(entry, status="interrupted")
    path = run.directory / "progress.json"
    try:
        progress, written = json.loads(path.read_text()), path.stat().st_mtime
        step, steps = int(progress["step"]), int(progress["steps"])
    except (OSError, ValueError, LookupError, TypeError):  # not there yet
        return entry
    if step < (entry.step or 0):  # of an earlier session, which was further than its last checkpoint
        return entry
    spent = (entry.seconds or 0.0) + max(0.0, written - entry.changed)  # both times are of the store's disk
    return replace(entry, step=step, steps=steps, left=spent / step * (steps - step) if step else None)


def names_in(directory: Path) -> list[str]:
    """The names in a store that may be those of runs, in their order. No run has a name that is not UTF-8."""
    with os.scandir(directory) as found:
        names = sorted(one.name for one in found if not one.name.startswith(".") and BEFORE not in one.name)
    return [name for name in names if name.isascii() or name.encode(errors="ignore").decode() == name]


def _records(directory: Path) -> Iterator[tuple[str, Key]]:
    """The name and the key of every record, in the order of the names."""
    for name in names_in(directory):
        with suppress(OSError):  # no run, or one that was never started
            told = os.stat(directory / name / "result.json")
            yield name, [told.st_mtime_ns, told.st_size, told.st_ino]


def _digits(metrics: Any) -> dict[str, int]:
    known = metrics.items() if isinstance(metrics, Mapping) else ()
    return {
        name: told["digits"]
        for name, told in known
        if isinstance(told, Mapping) and isinstance(told.get("digits"), int)
    }


def _finite(number: Any) -> float | None:
    return number if isinstance(number, int | float) and math.isfinite(number) else None


Rows = dict[str, tuple[Key, Entry]]
"""What is kept of each record, by run id."""


def _read(path: Path) -> Rows:
    """The index as it is on the disk; an empty one where that cannot be used."""
    try:
        head, body = path.read_bytes().split(b"\n", 1)
        if json.loads(head) != {"form": FORM, "crc": zlib.crc32(body)}:
            return {}
        rows, parts = json.loads(body)
    except (OSError, ValueError):
        return {}
    for _, told in rows.values():
        told["parts"] = {name: parts[number] for name, number in told["parts"].items()}
    return {name: (key, Entry(**told)) for name, (key, told) in rows.items()}


def _write(path: Path, rows: Rows) -> None:
    """Equal parts are written once: a run has their numbers."""
    parts = {id(part): part for _, entry in rows.values() for part in entry.parts.values()}
    numbers = {number: index for index, number in enumerate(parts)}
    content = {name: (key, _fields(entry, numbers)) for name, (key, entry) in rows.items()}
    body = json.dumps([content, [*parts.values()]], ensure_ascii=False, separators=(",", ":")).encode()
    atomic.write(path, json.dumps({"form": FORM, "crc": zlib.crc32(body)}).encode() + b"\n" + body)


def _fields(entry: Entry, numbers: Mapping[int, int]) -> dict[str, Any]:
    """The fields of an entry that are not empty, with the numbers of its parts."""
    told = {name: value for name, value in vars(entry).items() if value not in (None, {})}
    return told | {"parts": {name: numbers[id(part)] for name, part in entry.parts.items()}}


def _sharing(entry: Entry, shared: dict[str, Flat]) -> Entry:
    """The entry with the parts that others have too, by their text."""
    return replace(entry, parts={name: shared.setdefault(json.dumps(p), p) for name, p in entry.parts.items()})
