"""The pictures of figure_attention: maps of one example, and curves by depth and by distance."""

import math
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from diffmamba.document import Chart, Panel, Series
from diffmamba.reports import charts, measured
from diffmamba.reports.cells import Cell, Results
from diffmamba.reports.measured import chosen
from diffmamba.reports.records import SeedResult

PARTS = ("branch1", "branch2", "difference", "output")
WORDS = {"branch1": "branch 1", "branch2": "branch 2", "difference": "M1 − λ M2", "output": "output"}
MAPS = (
    "Trained weights in the first test example, of the first seed and of the mixer with the most mass on the needle "
    "(on a text: the last). Each row of a map is a stretch of positions, and each column what it takes from a stretch "
    "of earlier ones; means over heads. The questions are the last rows. The darker, the more; the shade goes by the "
    "cube root of the share, so that small shares can be seen."
)
CURVES = (
    "Mean over seeds with its interval, each place by itself. Solid: trained; dashed: fresh weights. Grey dots: equal "
    "weights for all earlier positions."
)


def part_of(cell: Cell, kind: str) -> str:
    """The part of a cell's measurements that is its `matrix` or its `output`."""
    if kind == "output":
        return "output"
    differs = any(len(chosen(run.rows, "entropy", part="difference")) for run in cell.seeds)
    return "difference" if differs else "branch1"


def all_of(results: Results) -> list[Chart]:
    """Maps, depth and distance."""
    return [maps(results), depth(results), distance(results)]


def maps(results: Results) -> Chart:
    """A row for each model: the maps of its last mixer on the needles, or on a text where there are none."""
    trained = [cell for cell in results.planned if cell.key.fields["weights"] == "trained" and cell.values]
    cells = [cell for cell in trained if cell.key.fields["on"] == "needle"] or trained
    rows = []
    for cell in cells:
        run = next(run for run in cell.seeds if run.value is not None)
        found = chosen(run.rows, "map")
        if len(found):
            block = _block(run)
            rows.append(_maps_of(f"{cell.key.fields['model']}, block {block}", found[found["block"] == block]))
    alt = "Maps of what each position takes from earlier ones, for each model and part."
    return Chart("maps", "Maps", tuple(rows), alt, MAPS, size=(8.0, 0.6 + 2.0 * max(1, len(rows))))


def _block(run: SeedResult) -> int:
    """The number of the mixer that is shown."""
    found = chosen(run.rows, "needle", part="output", head=None)
    found = found[found["block"].notna()]
    blocks = found["block"][found["value"] == found["value"].max()] if len(found) else run.rows["block"].dropna()
    return int(blocks.max())


def _maps_of(title: str, found: pd.DataFrame) -> tuple[Panel, ...]:
    panels: list[Panel] = []
    for part in (part for part in PARTS if (found["part"] == part).any()):
        square = found[found["part"] == part].pivot_table(index="row", columns="column", values="value", fill_value=0.0)
        shades = tuple(tuple(map(float, row)) for row in square.to_numpy())
        panels.append(Panel(f"{'' if panels else title}\n{WORDS[part]}", (), shades=shades))
    return tuple(panels)


def depth(results: Results) -> Chart:
    """By block: mass on the needle, and the entropy on the text, of both kinds of weights."""
    asked = (("needle", "needle", "mass on the needle"), ("text", "entropy", "entropy, bits"))
    rows = [
        tuple(
            _panel(results, on, measure, "block", kind, f"{on}: {label}, {kind}", label)
            for kind in ("matrix", "output")
        )
        for on, measure, label in asked
        if _cells(results, on)
    ]
    alt = "Mass on the needle and entropy by block, for each model."
    return Chart("depth", "By depth", tuple(rows), alt, CURVES, size=(8.0, 0.6 + 2.4 * max(1, len(rows))))


def distance(results: Results) -> Chart:
    """By distance, the share of the weights: a bin reaches from its number to twice as far."""
    rows = [
        tuple(
            _panel(results, on, "mass", "distance", kind, f"{on}: {kind}", "share of the weights")
            for kind in ("matrix", "output")
        )
        for on in ("text", "needle")
        if _cells(results, on)
    ]
    alt = "The share of the weights by distance, for each model."
    caption = f"{CURVES} A point is the share of all distances from its own to the next point's."
    return Chart("distance", "By distance", tuple(rows), alt, caption, size=(8.0, 0.6 + 2.4 * max(1, len(rows))))


def _panel(results: Results, on: str, measure: str, at: str, kind: str, title: str, y_label: str) -> Panel:
    cells, hues, series = _cells(results, on), charts.hues(results), []
    for cell in cells:
        where = {"head": None} | ({"distance": None} if at == "block" else {"block": None})
        points = measured.curve(cell, measure, at, part=part_of(cell, kind), **where)
        fresh = cell.key.fields["weights"] == "fresh"
        label = "" if fresh else cell.key.fields["model"]
        series.append(_line(points, at, label, hues[cell.key.fields["model"]], "dashed" if fresh else "solid"))
    if cells:
        series += _equal(cells[0], measure, at)
    ticks = tuple(sorted({x for one in series for x in one.x}))
    scale = "linear" if at == "block" else "log"
    words, top = "block" if at == "block" else "positions back", 1.3 * max((max(one.y) for one in series), default=1.0)
    return Panel(title, tuple(series), words, y_label, y_range=(0.0, top), x_scale=scale, x_ticks=ticks)


def _line(points: pd.DataFrame, at: str, label: str, hue: str, line: str) -> Series:
    x, y, low, high = (tuple(points[column].astype(float)) for column in (at, "mean", "low", "high"))
    drawn = Series(label, x, y, hue, line=line, marker="o")
    banded = line == "solid" and low and not any(map(math.isnan, low))
    return replace(drawn, low=low, high=high) if banded else drawn


def _equal(cell: Cell, measure: str, at: str) -> Iterable[Series]:
    """What equal weights give."""
    run = next(run for run in cell.seeds if run.value is not None)
    found = chosen(run.rows, measure, part="uniform", head=None)
    if at == "distance":
        points = found[found["distance"].notna()].sort_values("distance")
        yield Series("equal weights", tuple(points["distance"]), tuple(points["value"]), charts.GREY, line="dotted")
        return
    if len(found) and len(blocks := chosen(run.rows, measure, part="output")["block"].dropna()):
        ends = float(blocks.min()), float(blocks.max())
        yield Series("equal weights", ends, (float(found["value"].iloc[0]),) * 2, charts.GREY, line="dotted")


def _cells(results: Results, on: str) -> list[Cell]:
    return [cell for cell in results.planned if cell.key.fields["on"] == on and cell.values]
