"""The charts of a run's page: what a training logged and where it was evaluated, or what was measured."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.colors import to_hex

from diffmamba.browse.places import ORDERED, joined, places
from diffmamba.document import Chart, Panel, Series
from diffmamba.reports.charts import GREY, HUES, OTHER_HUES
from diffmamba.runs.form import Record

LOGGED = "csv/metrics.csv"
MEASURED = "rows.csv"
SIZE = (5.5, 2.9)  # inches
MOST_POINTS = 4000  # of a chart, and of a series
MOST_OF_A_SERIES = 200
MOST_SERIES = 12  # of a measurement
SPLITS = {"train": GREY, "val": HUES["diff_mamba"], "test": HUES["diff_s6"]}
LOGGED_ALONE = {
    "train/learning_rate": ("learning rate", "learning rate"),
    "train/tokens_per_second": ("speed", "symbols/s"),
    "memory_gb": ("memory", "GB at the peak"),
}
"""What has a chart of its own: its title, and the label of its axis."""
BLOCKS = {"lambda": ("λ by block", "λ"), "gradient": ("norm of the gradients", "norm")}
"""What is logged for each block, as `NAME/N`."""
BAND = "Where there are many rows, a point is the mean of some, and the band reaches from the lowest to the highest."
KINDS = {
    "gap": "positions back to the answer's source",
    "position": "position in the sequence",
    "class": "the answer, a symbol",
}
"""By which places a record may tell its accuracy, and the label of the axis."""
MOST_PLACES = 24
PLACES = "At the last evaluation, on test. A point is a place, or neighbours that have as many answers as other points."
FIXED = ("measure", "value")
Points = list[tuple[float, float]]
"""Pairs of x and y, in the order of x."""


def of_training(logged: Mapping[str, Points], record: Record) -> list[Chart]:
    """The charts of a training, from what it logged and from its evaluations, without those that are empty."""
    evaluated = _evaluated(record)
    charts = [_loss(logged, evaluated), _headline(record, evaluated)]
    charts += [_blocks(name, logged, evaluated) for name in BLOCKS]
    charts += [
        _chart(name.rpartition("/")[2], title, label, [_line("", logged[name], GREY, MOST_OF_A_SERIES)])
        for name, (title, label) in LOGGED_ALONE.items()
        if name in logged
    ]
    return [chart for chart in charts if chart is not None]


def by_place(record: Record) -> list[Chart]:
    """The charts of test accuracy by each kind of place that the record tells of."""
    charts = []
    for kind, label in KINDS.items():
        found = places(record, kind)
        shown = joined(found, MOST_PLACES) if kind in ORDERED else found
        if not 1 < len(shown) <= MOST_OF_A_SERIES:
            continue
        points = [(one.at, one.right) for one in shown]
        line = _line("", points, HUES["diff_s6"], MOST_OF_A_SERIES, marker="o")
        line = line if kind in ORDERED else replace(line, line="")
        panel = Panel(f"accuracy by {kind}", (line,), x_label=label, y_label="share right", y_range=(-0.02, 1.02))
        charts.append(Chart(f"by-{kind}", "", ((panel,),), f"The share of right answers by {kind}.", size=SIZE))
    return charts


def of_measurement(rows: Sequence[Mapping[str, str]]) -> list[Chart]:
    """A chart for each measure that has a number as its coordinate; other coordinates tell its series apart.

    Rows with other coordinates than the rest of their measure have a chart of their own, and rows without any none.
    """
    by_measure: dict[tuple[str, tuple[str, ...]], list[Mapping[str, str]]] = {}
    for row in rows:
        names = tuple(name for name in row if name not in FIXED and row[name])
        by_measure.setdefault((row.get("measure") or "", names), []).append(row)
    charts = (_measured(measure, names, found) for (measure, names), found in by_measure.items())
    return [chart for chart in charts if chart is not None]


def _measured(measure: str, names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> Chart | None:
    """The chart of rows with these coordinates, over the number that has the most values; None where there is none."""
    counts = {
        name: len({row[name] for row in rows}) for name in names if all(_number(row[name]) is not None for row in rows)
    }
    x = max(counts, key=lambda name: counts[name], default=None)
    if x is None or counts[x] < 2:
        return None
    series: dict[str, Points] = {}
    for row in rows:
        label = ", ".join(
            row[name] if _number(row[name]) is None else f"{name} {row[name]}" for name in names if name != x
        )
        at, value = _number(row[x]), _number(row.get("value"))
        if at is not None and value is not None:
            series.setdefault(label, []).append((at, value))
    step = math.ceil(len(series) / MOST_SERIES)
    shown = dict(list(series.items())[::step])
    lines = [
        _line(label, sorted(points), hue, MOST_POINTS // len(shown))
        for (label, points), hue in zip(shown.items(), _hues(len(shown)), strict=True)
    ]
    title = f"{measure} ({len(shown)} of {len(series)} series)" if step > 1 else measure
    return _chart("-by-".join((measure, *names)), title, measure, lines, x)


def read_logged(path: Path) -> dict[str, Points]:
    """The logged values by name, over steps counted from 1. Empty where there is no file.

    Raises OSError or ValueError where they cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    header, *rows = csv.reader(StringIO(text[: text.rfind("\n") + 1])) or [[]]
    if "step" not in header:
        raise ValueError("no column is named step")
    columns = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}
    steps = [int(step) + 1 for step in columns.get("step", ())]
    found = {}
    for name, texts in columns.items():
        points: Points = [
            (step, value)
            for step, text in zip(steps, texts, strict=True)
            if text and math.isfinite(value := float(text))
        ]
        if points and name != "step":
            found[name] = points
    return found


def read_measured(path: Path) -> list[dict[str, str]]:
    """The rows of a measurement. Raises OSError or ValueError where they cannot be read."""
    return [
        {name: value or "" for name, value in row.items() if name}
        for row in csv.DictReader(StringIO(path.read_text("utf-8")))
    ]


def _evaluated(record: Record) -> dict[str, Points]:
    """The figures of the evaluations by name, over steps; λ of block N is `lambda/N`."""
    found: dict[str, Points] = {}
    for at in record["evaluations"]:
        step = _number(at["step"])
        inner = at.get("lambda")
        blocks = {f"lambda/{name}": value for name, value in inner.items()} if isinstance(inner, Mapping) else {}
        for name, value in (at | blocks).items():
            if name != "step" and step is not None and isinstance(value, int | float) and math.isfinite(value):
                found.setdefault(str(name), []).append((step, value))
    return found


def _loss(logged: Mapping[str, Points], evaluated: Mapping[str, Points]) -> Chart | None:
    lines = [_line("train", logged["train/loss"], GREY, MOST_OF_A_SERIES)] if "train/loss" in logged else []
    return _chart("loss", "loss", "nats per symbol", lines + _splits("loss", evaluated))


def _headline(record: Record, evaluated: Mapping[str, Points]) -> Chart | None:
    """The figure that counts; None where it is the loss, which has its chart."""
    told = record.get("task") or {}
    name = str(told.get("headline") or "test/ppl").rpartition("/")[2]
    described = (told.get("metrics") or {}).get(name)
    label = str(described.get("label", name)) if isinstance(described, Mapping) else name
    return None if name == "loss" else _chart(name, label, label, _splits(name, evaluated))


def _splits(name: str, evaluated: Mapping[str, Points]) -> list[Series]:
    """A metric on each split, with a dot for each evaluation."""
    splits = [split for split in SPLITS if f"{split}/{name}" in evaluated]
    return [_line(one, evaluated[f"{one}/{name}"], SPLITS[one], MOST_OF_A_SERIES, marker="o") for one in splits]


def _blocks(kind: str, logged: Mapping[str, Points], evaluated: Mapping[str, Points]) -> Chart | None:
    """A line for each block, and one for `total`; from the evaluations where nothing was logged."""
    source = logged if any(name.startswith(f"{kind}/") for name in logged) else evaluated
    names = [name.partition("/")[2] for name in source if name.startswith(f"{kind}/")]
    numbers = sorted((name for name in names if name.isdecimal()), key=int)
    most = min(MOST_OF_A_SERIES, MOST_POINTS // max(1, len(names)))
    lines = [_line("total", source[f"{kind}/total"], GREY, most)] if "total" in names else []
    for number, hue in zip(numbers, _hues(len(numbers), ordered=True), strict=True):
        lines.append(_line(f"block {number}", source[f"{kind}/{number}"], hue, most))
    title, label = BLOCKS[kind]
    return _chart(kind, title, label, lines)


def _chart(name: str, title: str, label: str, lines: list[Series], x_label: str = "step") -> Chart | None:
    if not lines:
        return None
    panel = Panel(title, tuple(lines), x_label=x_label, y_label=label)
    return Chart(name, "", ((panel,),), f"{title[:1].upper()}{title[1:]} over {x_label}.", size=SIZE)


def _line(label: str, points: Points, hue: str, most: int, marker: str = "") -> Series:
    """The points as a line. Of more than `most`, as many in a row are joined as it takes, with a band around them."""
    size = math.ceil(len(points) / max(2, most))
    if size == 1:
        x, y = zip(*points, strict=True)
        return Series(label, x, y, hue, marker=marker or "o" * (len(points) == 1))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    ys = [[y for _, y in group] for group in groups]
    means = tuple(math.fsum(one) / len(one) for one in ys)
    at = tuple(group[-1][0] for group in groups)
    return Series(label, at, means, hue, marker=marker, low=tuple(map(min, ys)), high=tuple(map(max, ys)))


def _hues(count: int, ordered: bool = False) -> Iterable[str]:
    """Colours that differ; along a scale from dark to light for what has an order or is many."""
    alone = [*dict.fromkeys([HUES["diff_mamba"], *OTHER_HUES])]
    if count <= len(alone) and not ordered:
        return alone[:count]
    scale = mpl.colormaps["viridis"]
    return [to_hex(scale(0.9 * index / max(1, count - 1))) for index in range(count)]


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
