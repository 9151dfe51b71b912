"""A table as files: `table.json` for programs, `table.csv` for spreadsheets, `table.md` and `index.html` for people.

Each file is replaced in one step, so that whoever reads it meanwhile sees the old one or the new one, never a half.
"""

import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from diffmamba.reports import provenance
from diffmamba.reports.markdown import markdown
from diffmamba.reports.page import page
from diffmamba.reports.table import Row, Table, missing


def write(table: Table, directory: Path) -> list[Path]:
    """Write the four files into `directory`, made if need be; returns their paths, `index.html` last."""
    contents = {
        "table.json": json.dumps(as_dict(table), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "table.csv": as_frame(table).to_csv(index=False),
        "table.md": markdown(table),
        "index.html": page(table),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in contents.items():
        _replace(directory / name, text)
    return [directory / name for name in contents]


def as_dict(table: Table) -> dict[str, Any]:
    """The content of `table.json`: the rows, and what is needed to judge them."""
    source = provenance.of(table)
    return {
        "table": table.name,
        "scale": table.scale,
        "metric": table.metric,
        "data": source.corpora,
        "git": {"revisions": source.revisions, "dirty": source.dirty},
        "notes": [*table.caveats, *provenance.warnings(table)],
        "missing": missing(table),
        "rows": [asdict(row) for row in table.rows],
    }


def as_frame(table: Table) -> pd.DataFrame:
    """The rows as a data frame; `seeds` become one text, separated by blanks."""
    rows = [asdict(row) | {"seeds": " ".join(map(str, row.seeds))} for row in table.rows]
    return pd.DataFrame(rows, columns=[field.name for field in fields(Row)]).astype({"params": "Int64"})


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
