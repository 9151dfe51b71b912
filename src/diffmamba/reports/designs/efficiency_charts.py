"""Pictures of speed and memory: values on one machine by load, and ratios to Mamba beside the published ones."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from diffmamba.document import Chart, Panel, Series
from diffmamba.reports import charts
from diffmamba.reports.cells import Cell, Results
from diffmamba.reports.designs.efficiency import BASELINE, WORDS, Reading, own

WIDTH, HEIGHT = 4.5, 4.0  # inches of a panel
Lines = Callable[[Sequence[Cell], str], Iterable[Series]]
"""The lines of one model in one panel, from its cells and its colour."""


def values(name: str, title: str, reading: Reading, results: Results) -> Chart:
    """Values by load, a panel for each mode and machine."""

    def lines(cells: Sequence[Cell], colour: str) -> Iterable[Series]:
        known = [(cell, value) for cell in cells if (value := own(cell)) is not None]
        if known:
            x, y = _places(reading, [cell for cell, _ in known]), tuple(reading.times * value for _, value in known)
            yield Series(cells[0].key.fields["model"], x, y, colour, marker="o")

    caption = "As counted." if reading.exact else "Medians over the runs of the medians of their repeats."
    return _chart(name, title, reading, results, lines, f"{reading.label}, {reading.unit}", "log", caption)


def ratios(reading: Reading, results: Results) -> Chart:
    """Ratios to Mamba by load, with the intervals of the table, and the published ones."""

    def lines(cells: Sequence[Cell], colour: str) -> Iterable[Series]:
        model = cells[0].key.fields["model"]
        known = [(cell, cell.mean) for cell in cells if cell.mean is not None]
        if known:
            held = [cell.interval for cell, _ in known if cell.interval]
            whole = held if len(held) == len(known) else []
            band = {"low": tuple(1 + one.low for one in whole), "high": tuple(1 + one.high for one in whole)}
            x, y = _places(reading, [cell for cell, _ in known]), tuple(mean for _, mean in known)
            yield Series(model, x, y, colour, marker="o", low=band["low"], high=band["high"])
        paper = [(cell, value) for cell in cells if (value := cell.key.published.value) is not None]
        if paper:
            x, y = _places(reading, [cell for cell, _ in paper]), tuple(value for _, value in paper)
            yield Series(f"published, {model}", x, y, colour, line="dotted", marker="o", hollow=True)

    others = replace(results, cells=tuple(cell for cell in results.cells if cell.key.fields["model"] != BASELINE))
    caption = "Means over seeds" + " with the intervals of the table" * (not reading.exact) + "."
    if any(cell.key.published.value is not None for cell in others.cells):
        caption += f" Hollow points are the published ratios{reading.published_at}."
    return _chart("ratios", "Over Mamba", reading, others, lines, reading.ratio.label, "linear", caption)


def _chart(
    name: str, title: str, reading: Reading, results: Results, lines: Lines, label: str, scale: str, caption: str
) -> Chart:
    parts: dict[tuple[str, str], dict[str, list[Cell]]] = {}
    for cell in results.cells:
        model, mode, place = (cell.key.fields[name] for name in ("model", "mode", "machine"))
        parts.setdefault((mode, place), {}).setdefault(model, []).append(cell)
    several, hues, panels = len({place for _, place in parts}) > 1, charts.hues(results), []
    for (mode, place), models in parts.items():
        series = [line for model, cells in models.items() for line in lines(cells, hues[model])]
        panel = WORDS.get(mode, mode) + f"\n{place}" * several
        ticks = tuple(sorted({*_places(reading, [cell for cells in models.values() for cell in cells])}))
        panels.append(Panel(panel, tuple(series), reading.along, label, x_scale="log", y_scale=scale, x_ticks=ticks))
    alt = f"{label} by {reading.along}. The table has all."
    return Chart(name, title, (tuple(panels),), alt, caption, size=(WIDTH * max(1, len(panels)), HEIGHT))


def _places(reading: Reading, cells: Sequence[Cell]) -> tuple[float, ...]:
    return tuple(cell.key.fields[reading.along] for cell in cells)
