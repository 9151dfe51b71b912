"""Curves of measurements: what was measured at each place, such as a position or a block, over the seeds of a cell."""

from typing import Any

import numpy as np
import pandas as pd

from diffmamba.reports import statistics
from diffmamba.reports.cells import Cell

COLUMNS = ("mean", "low", "high")


def curve(cell: Cell, measure: str, at: str, **where: Any) -> pd.DataFrame:
    """Columns `at` and mean, low, high over seeds, at the places that all seeds which count have, in their order.

    `low` and `high` are the interval of the mean, for each place by itself; NaN where there is none.

    Args:
        cell: of measurements.
        measure: which rows.
        at: the coordinate along the curve. Rows without it are left out.
        where: further coordinates of the rows; None: those without that coordinate.

    Raises ValueError where a seed has two rows of one place.
    """
    return with_interval(_by_seed(cell, measure, at, where), at)


def difference(cell: Cell, measure: str, at: str, **where: Any) -> pd.DataFrame:
    """The same of the difference to the cell's baseline, paired by seed; no rows where there is none."""
    if cell.baseline is None or not cell.pairs:
        return with_interval(pd.DataFrame(), at)
    ours, theirs = (_by_seed(one, measure, at, where) for one in (cell, cell.baseline))
    return with_interval((ours - theirs)[list(cell.pairs)].dropna(), at)


def chosen(rows: pd.DataFrame, measure: str, **where: Any) -> pd.DataFrame:
    """The rows of a measure that have these coordinates; None: those without that coordinate."""
    kept = rows["measure"] == measure
    for name, wanted in where.items():
        column = rows.get(name, pd.Series(np.nan, rows.index))
        kept &= column.isna() if wanted is None else column == wanted
    return rows[kept]


def _by_seed(cell: Cell, measure: str, at: str, where: dict[str, Any]) -> pd.DataFrame:
    """A column for each seed that counts, a row for each place."""
    found = {}
    for run in cell.seeds:
        if run.value is not None:
            rows = chosen(run.rows, measure, **where)
            rows = rows[rows[at].notna()] if at in rows else rows.iloc[:0].assign(**{at: []})
            if rows[at].duplicated().any():
                raise ValueError(f"{measure} has several rows of one {at} in run {run.id}: name more coordinates")
            found[run.seed] = rows.set_index(at)["value"]
    return pd.DataFrame(found).dropna()


def with_interval(by_seed: pd.DataFrame, at: str) -> pd.DataFrame:
    """Columns `at` and mean, low, high of a table with a column for each seed and a row for each place."""
    mean = by_seed.mean(axis=1).to_numpy(float)
    several = by_seed.shape[1] > 1 and len(by_seed)
    half = statistics.half_width(by_seed.to_numpy(float)) if several else np.full(len(mean), np.nan)
    return pd.DataFrame({at: by_seed.index, **dict(zip(COLUMNS, (mean, mean - half, mean + half), strict=True))})
