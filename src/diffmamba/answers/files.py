"""A file of answers: read, checked, and scored by every rule.

A row is one answer, with the columns of `COLUMNS`. `seed` is a whole number for models that were fine-tuned with this
seed. Any other word there names answers that stand apart, such as `pg19` for a model that was not fine-tuned.
A column `labels` is read if it is there: labels with commas between them, in place of those of the task.
"""

import hashlib
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from diffmamba.answers.rules import LABELS, RULES, parts, score
from diffmamba.errors import SettingError, one_line
from diffmamba.spelling import did_you_mean

COLUMNS = ("model", "seed", "task", "length", "row", "target", "output", "question")
CELL = ["task", "length", "model", "seed"]
LENGTH = re.compile(r"(\d+)([kKmM]?)")
UNIT = {"": 1, "k": 1_000, "m": 1_000_000}
FEW = 3  # names that a message tells


@dataclass(frozen=True)
class Answers:
    """Scored answers.

    Args:
        name: that of the file, without its folder.
        digest: the beginning of the SHA-256 of its content.
        table: a row for each answer, with the columns `COLUMNS` (`row` a number), those of `RULES` (whether it is
            right) and `named` (how many labels it names). Tasks and lengths are in order, models as in the file.
        remarks: what is to be known of the file: repeated rows, cells that are missing or incomplete.
    """

    name: str
    digest: str
    table: pd.DataFrame
    remarks: tuple[str, ...]

    def unique(self, column: str) -> list[str]:
        """The different values of a column, in their order."""
        return list(dict.fromkeys(self.table[column]))


def read(path: str | Path) -> Answers:
    """Reads and scores a file: CSV (also compressed), JSON lines (`.jsonl`) or Parquet.

    Raises SettingError, which names the setting `predictions`, for a file that cannot be read or scored.
    """
    file = Path(path)
    table = _loaded(file)
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        raise _wrong(file, f"has no column {', '.join(missing)}; it needs {', '.join(COLUMNS)}")
    if table.empty:
        raise _wrong(file, "holds no answer")
    table = table[[*COLUMNS, *(["labels"] if "labels" in table else [])]].reset_index(drop=True)
    table = _texts(file, table)
    _check(file, table)
    table["row"] = table["row"].astype(np.int64)
    again = table.duplicated([*CELL, "row"])
    table = _ordered(table[~again].copy())
    remarks = (*_repeated(int(again.sum())), *_different(table), *_incomplete(table))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return Answers(file.name, digest, _scored(table), remarks)


def order(length: str) -> int:
    """A length in tokens: 4000 for `4k`."""
    number, unit = LENGTH.fullmatch(length).groups()  # type: ignore[union-attr]  # it is checked
    return int(number) * UNIT[unit.lower()]


def _loaded(file: Path) -> pd.DataFrame:
    """The file as it is. An empty text of a CSV file stays one, and no word there is taken for a missing value."""
    if not file.is_file():
        raise _wrong(file, "is no file" if file.exists() else "does not exist")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # pandas warns of a part that it would read otherwise than it stands there
            if file.suffix == ".parquet":
                return pd.read_parquet(file).convert_dtypes()
            if file.suffix == ".jsonl":
                return pd.read_json(file, lines=True, dtype=False).convert_dtypes()
            return pd.read_csv(file, dtype=str, keep_default_na=False, index_col=False)
    except pd.errors.EmptyDataError as error:
        raise _wrong(file, "holds no answer") from error
    except Exception as error:  # whatever a reader of one of these formats raises at what is none of it
        raise _wrong(file, f"cannot be read: {one_line(error)}") from error


def _wrong(file: Path, what: str) -> SettingError:
    return SettingError(f"predictions={file}: {what}")


def _texts(file: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The table as texts. Raises SettingError where one is missing, as at the end of a line that was cut off.

    A seed or row of 42.0 is 42, because a column of whole numbers may be kept or written as one of fractions.
    """
    for column in COLUMNS:
        if table[column].isna().any():
            raise _wrong(file, f"answer {int(table[column].isna().to_numpy().argmax()) + 1} has no {column}")
    table = table.fillna("").astype(str)
    whole = {column: table[column].str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True) for column in ("seed", "row")}
    return table.assign(**whole)


def _check(file: Path, table: pd.DataFrame) -> None:
    """Raises SettingError for the first row that says something impossible."""
    tasks = [task for task in table["task"].unique() if task not in LABELS]
    if tasks:
        known = ", ".join(LABELS)
        raise _wrong(file, f"task {_told(tasks)} is not known; there are {known}{did_you_mean(tasks[0], LABELS)}")
    bad = {
        "model": (table["model"].str.strip() == "", "a model needs a name"),
        "seed": (table["seed"].str.strip() == "", "a seed is a whole number, or a word for answers that stand apart"),
        "length": (~table["length"].str.fullmatch(LENGTH.pattern), "a length is a number of tokens such as 4k"),
        "row": (~table["row"].str.fullmatch(r"\d{1,18}"), "a row is a whole number from 0"),
        "target": (~_has_target(table), "a target is one of the task's labels"),
        "question": (table["question"].str.strip() == "", "a question is not empty"),
    }
    for column, (wrong, rule) in bad.items():
        if wrong.any():
            at = int(wrong.to_numpy().argmax())
            raise _wrong(file, f"answer {at + 1} has {column} {table[column][at]!r}; {rule}")


def _has_target(table: pd.DataFrame) -> pd.Series:
    """Whether the target of each answer is made of its labels."""
    right = pd.Series(False, index=table.index)
    for labels, rows in _by_labels(table):
        known = {label.lower() for label in labels}
        found = [target for target in rows["target"].unique() if {*parts(target)} <= known]
        right[rows.index] = rows["target"].isin(found)
    return right


def _by_labels(table: pd.DataFrame) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    """The answers that share their labels, with these."""
    for task, rows in table.groupby("task", sort=False):
        if "labels" not in table:
            yield LABELS[str(task)], rows
            continue
        for own, some in rows.groupby("labels", sort=False):
            given = tuple(label.strip() for label in str(own).split(",") if label.strip())
            yield given or LABELS[str(task)], some


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    """By task, length, then model and seed as they come in the file, then row."""
    table["place"] = table["length"].map({length: order(length) for length in table["length"].unique()})
    for column in ("model", "seed"):
        table[column] = pd.Categorical(table[column], categories=table[column].unique())
    table = table.sort_values(["task", "place", "model", "seed", "row"], kind="stable").reset_index(drop=True)
    return table.astype({"model": str, "seed": str}).drop(columns="place")


def _scored(table: pd.DataFrame) -> pd.DataFrame:
    found = []
    for labels, rows in _by_labels(table):
        scores = score(rows["output"].tolist(), rows["question"].tolist(), rows["target"].tolist(), labels)
        columns = {name: getattr(scores, name) for name in (*RULES, "named")}
        found.append(pd.DataFrame(columns, index=rows.index))
    return table.join(pd.concat(found))


def _repeated(count: int) -> list[str]:
    if not count:
        return []
    return [f"{count:,} answers have the same model, seed, task, length and row as one before them; the first counts."]


def _different(table: pd.DataFrame) -> list[str]:
    """Rows that are not the same for all, so that models cannot be compared row by row."""
    items = table.drop_duplicates(["task", "length", "row", "target", "question"])
    twice = items[items.duplicated(["task", "length", "row"])]
    if twice.empty:
        return []
    some = _told(f"{one.task} at {one.length}, row {one.row}" for one in twice.itertuples())
    return [f"The question or the target of a row is not the same for all models and seeds: {some}."]


def _incomplete(table: pd.DataFrame) -> list[str]:
    """Cells without answers to all questions that some model and seed has answered."""
    asked = table.groupby(["task", "length"], sort=False)["row"].nunique()
    there = table.groupby(["model", "seed", "task", "length"], sort=False).size().to_dict()
    cells: list[tuple[str, str]] = list(asked.index)
    told = []
    for who in table[["model", "seed"]].drop_duplicates().itertuples(index=False, name=None):
        for cell in cells:
            count, rows = there.get((*who, *cell), 0), asked[cell]
            where = f"{who[0]}, seed {who[1]}, {cell[0]} at {cell[1]}"
            if count < rows:
                told.append(f"{where}: {count} of {rows} answers." if count else f"{where}: no answer.")
    return told


def _told(names: Iterable[str]) -> str:
    """The first few of some names."""
    found = list(names)
    return "; ".join(found[:FEW]) + f" and {len(found) - FEW:,} more" * (len(found) > FEW)
