"""`diffmamba runs curves ID ...`: evaluations and logged values over steps, drawn in the terminal."""

import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from diffmamba.browse.fields import Names, text
from diffmamba.browse.listing import print_data
from diffmamba.browse.screen import Column, Screen
from diffmamba.browse.words import COMMA, Words, choose, run_of
from diffmamba.errors import SettingError
from diffmamba.runs.form import Record
from diffmamba.runs.index import Found
from diffmamba.runs.rows import Rows
from diffmamba.runs.store import Run, RunStore
from diffmamba.runs.summary import titles

OPTIONS = ("runs", "metric", "format")
FORMATS = ("plot", "csv", "json")
LOGGED = "csv/metrics.csv"
NOT_CURVES = ("step", "epoch", "tokens")
LOGGED_ALONE = ("train/", "lambda/", "gradient/", "memory_gb", "seconds")
MARKERS = "abcdefghijklmnopqrstuvwxyz"
"""One for each run, so that they can be told apart without colours."""
FINE = "braille"  # the marker of a curve that is alone
WIDE, HIGH = 100, 22  # columns and lines of a picture, at most


class Curve(NamedTuple):
    """A metric of one run over its steps."""

    id: str
    metric: str
    steps: list[int]
    values: list[float]
    digits: int | None


def run(words: Words, store: RunStore, found: Found) -> int:
    """Draws the curves. Returns the exit status."""
    format_ = words.choice("format", FORMATS)
    runs = [run_of(store, given, found.entries) for given in words.ids]
    if words.chosen:
        chosen = choose(found.entries.values(), words.conditions(Names(found.entries.values())))
        runs += [store.run(entry.id) for entry in chosen if entry.kind == "training"]
    if not runs:
        raise SettingError("no run to draw: give ids, or words that choose trainings")
    records = {run.id: (run, run.load()) for run in runs}
    curves = [curve for run, record in records.values() if record for curve in _curves(run, record, words)]
    if format_ != "plot":
        rows = [
            {"id": curve.id, "metric": curve.metric, "step": step, "value": value}
            for curve in curves
            for step, value in zip(curve.steps, curve.values, strict=True)
        ]
        print_data(format_, rows)
        return 0
    _draw(curves, {name: record for name, (_, record) in records.items() if record})
    return 0


def _curves(run: Run, record: Record, words: Words) -> list[Curve]:
    """What is asked for of one run. Raises SettingError where it has no such metric."""
    if record["kind"] != "training":
        raise SettingError(f"{run.id} is a measurement, which has no steps; see diffmamba runs show {run.id}")
    told = record.get("task") or {}
    asked = COMMA.split(words.options.get("metric") or str(told.get("headline") or "test/ppl"))
    points = [*record["evaluations"], *_logged(run)]
    there = [name for name in dict.fromkeys(name for point in points for name in point) if name not in NOT_CURVES]
    found = []
    for name in asked:
        if there and name not in there:
            raise SettingError(f"{run.id} has no {name}; use one of {', '.join(there)}")
        steps = {int(point["step"]): float(point[name]) for point in points if _is_number(point.get(name))}
        digits = (told.get("metrics") or {}).get(name.rpartition("/")[2], {}).get("digits")
        found.append(Curve(run.id, name, sorted(steps), [steps[step] for step in sorted(steps)], digits))
    return found


def _logged(run: Run) -> list[dict[str, Any]]:
    """The rows that it logged while it trained; their steps count from 0. Evaluations are in the record already."""
    try:
        rows = Rows(run.directory / LOGGED).read()
        return [
            {name: value for name, value in row.items() if name.startswith(LOGGED_ALONE)} | {"step": row["step"] + 1}
            for row in rows
        ]
    except (OSError, ValueError, LookupError, TypeError):  # beside the run, which is right without them
        return []


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _draw(curves: Sequence[Curve], records: dict[str, Record]) -> None:
    screen = Screen()
    names = titles((one, record["config"], "", one) for one, record in records.items())
    for metric in dict.fromkeys(curve.metric for curve in curves):
        drawn = [curve for curve in curves if curve.metric == metric]
        screen.heading(f"{metric} over steps")
        if any(curve.steps for curve in drawn):
            screen.line(_plot(drawn, min(screen.width, WIDE)))
        _legend(screen, drawn, records, names)
    screen.print()


def _legend(screen: Screen, drawn: Sequence[Curve], records: dict[str, Record], names: dict[str, str]) -> None:
    """Which marker is which run, and its values."""
    told = [str(records[curve.id]["config"].get("name") or names[curve.id]) for curve in drawn]
    columns = [
        Column("", [MARKERS[index % len(MARKERS)] for index in range(len(drawn))]),
        Column("id", [curve.id for curve in drawn]),
        Column("run", told, rank=1),
    ]
    picks: dict[str, Callable[[Sequence[float]], float]] = {
        "first": lambda values: values[0],
        "lowest": min,
        "highest": max,
        "last": lambda values: values[-1],
    }
    for head, pick in picks.items():
        texts = [text(pick(curve.values) if curve.values else None, curve.digits) for curve in drawn]
        columns.append(Column(head, texts, False))
    screen.table(columns)


def _plot(drawn: Sequence[Curve], width: int) -> str:
    """The picture: one run as a fine line, several as lines of their markers."""
    import plotext  # here: a tenth of a second

    figure = plotext.figure
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(width, HIGH)
    for index, curve in enumerate(drawn):
        if curve.steps:
            fine = len(drawn) == 1 and len(curve.steps) > 1 and _has_all_signs()
            marker = FINE if fine else MARKERS[index % len(MARKERS)]
            signal = figure.signal(curve.steps, curve.values, marker=marker)
            signal.lines(len(curve.steps) > 1)
            figure.draw(signal)
    picture: str = plotext.uncolorize(str(figure.build()))
    return "\n".join(line.rstrip() for line in picture.splitlines())


def _has_all_signs() -> bool:
    """Whether the output has the signs of a fine line."""
    return (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
