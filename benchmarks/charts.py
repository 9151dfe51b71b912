"""The ratios of the report as one picture. The colour tells the model; light or dashed is a forward pass alone."""

from collections import defaultdict
from collections.abc import Sequence

from benchmarks.passes import JUDGED
from benchmarks.record import FASTER, Record, Section
from diffmamba.document import Chart, Panel, Series

COLOURS = {
    "mamba": "#4d4d4d",
    "mamba_grouped": "#8c8c8c",
    "diff_mamba": "#0072b2",
    "diff_mamba_hybrid": "#56b4e9",
    "transformer": "#d55e00",
    "forward": "#9ecae1",
    JUDGED: "#0072b2",
    "target": "#d55e00",
}
SIDES = {"base": "other", "length": "ours"}  # where the sides of a ratio of lengths lie
SHIFTS = {"forward": -0.2, JUDGED: 0.2}  # of a mode's ratio from the middle of its row
COLUMNS, PANEL_SIZE = 3, (4.2, 3.0)  # inches
CAPTION = "Ratios with half the distance of their quartiles. A dashed line is a forward pass alone."

Points = list[tuple[str, str, float, float]]
"""Points of lines: the model, the mode, x and y."""


def chart(sections: Sequence[Section], device: str, name: str) -> Chart | None:
    """A panel for each comparison that was measured; None where there is none."""
    records: dict[str, list[Record]] = defaultdict(list)
    records |= {section.name: section.records for section in sections}
    faster = [one for one in records["mixers"] if one["ratio_is"] == FASTER]
    training = [one for one in records["training"] if one["at"].get("base") == "mamba"]
    times = [one for one in records["length"] if one["at"].get("batch") == 1 and not one["at"]["aside"]]
    memory = [one for one in records["length"] if one["unit"] == "kB"]
    whole = [one for one in records["decoding"] if one["at"].get("what") == "prompt included"]
    steps = [one for one in records["decoding"] if "position" in one["at"]]
    speeds = [("diff_mamba", "", one["at"]["batch"], one["ours"]) for one in whole]
    speeds += [(one["at"]["variant"], "", one["at"]["batch"], one["other"]) for one in whole]
    panels = [
        _bars("one mixer: times faster than", faster, "peer", "log"),
        _bars("one mixer: ratio of times", records["differential"], "peer"),
        _bars("a training step over mamba's", training, "variant"),
        _lines("one mixer: microseconds per position", "length", _by_length(times)),
        _lines("one mixer: peak kilobytes per position", "length", _by_length(memory)),
        _lines("generation: symbols per second", "batch", speeds, "log"),
        _lines("a decoding step: time, first position = 1", "position", _ratios(steps, "position"), "log"),
    ]
    drawn = [panel for panel in panels if panel.series]
    if not drawn:
        return None
    rows = [tuple(drawn[start : start + COLUMNS]) for start in range(0, len(drawn), COLUMNS)]
    size = (PANEL_SIZE[0] * len(rows[0]), PANEL_SIZE[1] * len(rows) + 0.4)
    return Chart(name, device, tuple(rows), "The ratios of this report as pictures.", CAPTION, size)


def _bars(title: str, records: Sequence[Record], row: str, x_scale: str = "linear") -> Panel:
    """A row for each value of the coordinate `row`: the ratios by mode, and the targets."""
    names = tuple(dict.fromkeys(record["at"][row] for record in records))
    points: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for record in records:
        mode, (low, high) = record["at"].get("mode", JUDGED), record["spread"]
        height = names.index(record["at"][row]) + (SHIFTS[mode] if "mode" in record["at"] else 0.0)
        points[mode].append((record["ratio"], height, (high - low) / 2))
        for bound in filter(None, (record["target"] or {}).values()):
            points["target"].append((bound, height, 0.0))
    series = []
    for label, of in points.items():
        xs, ys, errors = zip(*of, strict=True)
        series.append(Series(label, xs, ys, COLOURS[label], "", marker="|" if label == "target" else "o", error=errors))
    return Panel(title, tuple(series), x_scale=x_scale, y_names=names, x_at=1.0)


def _lines(title: str, x_label: str, points: Points, y_scale: str = "linear") -> Panel:
    """A line for each model and mode, through all its points."""
    lines: dict[tuple[str, str], dict[float, float]] = defaultdict(dict)
    for model, mode, x, y in points:
        lines[model, mode][x] = y
    series = []
    for (model, mode), line in lines.items():
        xs, ys = zip(*sorted(line.items()), strict=True)
        series.append(Series(model, xs, ys, COLOURS[model], "dashed" if mode == "forward" else "solid", marker="o"))
    return Panel(title, tuple(series), x_label, x_scale="log", y_scale=y_scale)


def _by_length(records: Sequence[Record]) -> Points:
    """Both sides of each ratio; the other side is at the base."""
    sides = [(one["at"], one["at"][where], one[side]) for one in records for where, side in SIDES.items()]
    return [(at["variant"], at["mode"], length, value) for at, length, value in sides]


def _ratios(records: Sequence[Record], axis: str) -> Points:
    return [(one["at"]["variant"], "", one["at"][axis], one["ratio"]) for one in records]
