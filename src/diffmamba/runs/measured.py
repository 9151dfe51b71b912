"""The rows of a measurement as a table, and the file that they lie in: `rows.csv` in the run's directory."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diffmamba.errors import SettingError
from diffmamba.runs.store import Run, RunStore

if TYPE_CHECKING:
    import pandas as pd

ROWS = "rows.csv"


def table(rows: list[dict[str, Any]]) -> "pd.DataFrame":
    """Rows as a table: measure, value, and one column for each coordinate. Whole numbers stay whole beside none."""
    import pandas as pd  # here: a training needs none of it

    found = pd.DataFrame(rows)
    for name in found.columns.difference(["measure", "value"]):
        if all(type(row[name]) is int for row in rows if name in row):
            found[name] = found[name].astype("Int64")
    return found


def rows_in(store: RunStore) -> Callable[[str], "pd.DataFrame"]:
    """A function from the id of a finished measurement in a store to its rows, as `read_rows` has them."""
    return lambda run_id: read_rows(store.run(run_id))


def read_rows(run: Run) -> "pd.DataFrame":
    """The rows of a finished measurement. Raises SettingError where they are missing or damaged."""
    import pandas as pd  # here: a training needs none of it

    try:
        rows = pd.read_csv(run.directory / ROWS)
    except (OSError, ValueError):
        rows = pd.DataFrame()
    if not {"measure", "value"} <= set(rows.columns):
        raise SettingError(f"{run.directory / ROWS} is missing or damaged; move {run.directory} away and measure again")
    return rows
