"""The rows that a training logs, each once, in one CSV file: `csv/metrics.csv` in the run's directory.

A row stands for a step, counted from 0 as Lightning does. It is in the file before a logger gets it. So a training that
goes on from a checkpoint knows which rows were logged after it, and that the loggers have them already.
"""

import csv
from collections.abc import Iterable, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from diffmamba import atomic

Row = dict[str, Any]
Kind = tuple[int, frozenset[str]]
"""What tells the rows of one run apart: the step, and the names of the values."""


class Rows:
    """The file of a run's rows. Columns are in alphabetical order; a value that a row lacks is empty."""

    def __init__(self, path: Path):
        self.path = path
        self._columns: list[str] = []

    def go_on(self, step: int, evaluation_due: bool = False) -> set[Kind]:
        """Keeps the rows of the first `step` steps, and returns which others there were.

        `evaluation_due`: without that of the evaluation after these steps.
        """

        def is_kept(row: Row) -> bool:
            return row["step"] < step - (evaluation_due and is_of_evaluation(row))

        rows = self.read()
        kept = [row for row in rows if is_kept(row)]
        self._columns = sorted({name for row in kept for name in row})
        if len(kept) < len(rows):
            self._write(kept)
        return {kind(row) for row in rows if not is_kept(row)}

    def add(self, row: Row, lasting: bool) -> None:
        """Adds a row, which has a step. `lasting`: all rows so far are forced to the disk."""
        if new := row.keys() - set(self._columns):
            rows = self.read()
            self._columns = sorted({*self._columns, *new})
            self._write([*rows, row])
        else:
            atomic.append(self.path, self._text([row]), lasting)

    def keep(self) -> None:
        """Forces all rows so far to the disk."""
        if self.path.exists():
            atomic.append(self.path, "", lasting=True)

    def read(self) -> list[Row]:
        """The rows in the file, up to its last complete line."""
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8")
        lines = csv.DictReader(StringIO(text[: text.rfind("\n") + 1]))
        return [{name: _value(text) for name, text in line.items() if text} for line in lines]

    def _write(self, rows: Iterable[Row]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(self.path, ",".join(self._columns) + "\n" + self._text(rows))

    def _text(self, rows: Iterable[Row]) -> str:
        text = StringIO()
        csv.DictWriter(text, self._columns, lineterminator="\n").writerows(rows)
        return text.getvalue()


def is_of_evaluation(row: Mapping[str, Any]) -> bool:
    return any(name.startswith("val/") for name in row)


def kind(row: Mapping[str, Any]) -> Kind:
    """Which of the rows of a run this is."""
    return row["step"], frozenset(row)


def _value(text: str) -> float | str:
    try:
        return int(text) if text.isdigit() else float(text)
    except ValueError:
        return text
