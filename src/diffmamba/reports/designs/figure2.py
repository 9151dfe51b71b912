"""Figure 2 of the paper: the test curves of table 1's runs, as a picture, as points, and in numbers where they end."""

from collections.abc import Sequence
from dataclasses import replace

from diffmamba.document import Grid
from diffmamba.reports.cells import Cell, Results
from diffmamba.reports.designs import table1

SPREAD_RULE = (
    "s: standard deviation of the difference, taken seed by seed. A difference not larger than s is no evidence."
)


def overview(results: Results) -> Grid:
    """Where the curves of each panel end, and which is best there."""
    models = list(dict.fromkeys(cell.key.model for cell in results.cells))
    rows = []
    for group, cells in results.groups.items():
        ends = {cell.key.model: cell.metric.text(cell.mean) for cell in cells}
        rows.append((group.replace(" (", "\n("), *(ends.get(model, "–") for model in models), *_best(cells)))
    return Grid.of(("panel", *models, results.metric.best, "s"), rows, caption=SPREAD_RULE)


def _best(cells: Sequence[Cell]) -> tuple[str, str]:
    """The best model, by how much it differs from the baseline (or the baseline from the next best), and s."""
    ends = [cell for cell in cells if cell.mean is not None]
    if not ends:
        return "no run yet", "–"
    first, *others = sorted(ends, key=lambda cell: cell.mean or 0.0, reverse=ends[0].metric.better == "higher")
    measured = others[0] if first.key.is_baseline and others else first
    if not others or measured.delta is None:
        return "–", "–"
    return f"{first.key.model} by {first.metric.text(abs(measured.delta))}", first.metric.text(measured.spread)


DESIGN = replace(
    table1.DESIGN,
    name="figure2",
    title="Figure 2: test PPL of Mamba and Diff-Mamba while training",
    charts=lambda results: [table1.panels(results)],
    overview=overview,
)
