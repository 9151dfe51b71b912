"""A table as files: `table.json` for programs, `table.csv` for spreadsheets, `table.md` and `index.html` for people.

Each file is replaced in one step, so that whoever reads it meanwhile sees the old one or the new one, never a half.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from diffmamba.reports import provenance
from diffmamba.reports.markdown import markdown
from diffmamba.reports.page import page
from diffmamba.reports.table import Table, missing


def write(table: Table, directory: Path) -> list[Path]:
    """Write the four files into `directory`, made if need be; returns their paths, `index.html` last."""
    contents = {
        "table.json": json.dumps(as_dict(table), indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "table.csv": as_frame(table).to_csv(index=False),
        "table.md": markdown(table),
        "index.html": page(table, table.design.title, below=table.design.pictures(table) if table.counted else ()),
    }
    return put({name: text.encode() for name, text in contents.items()}, directory)


def put(contents: Mapping[str, bytes], directory: Path) -> list[Path]:
    """Write these files into `directory`, made if need be; returns their paths in order."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        _replace(directory / name, content)
    return [directory / name for name in contents]


def as_dict(table: Table) -> dict[str, Any]:
    """The content of `table.json`: the rows, and what is needed to judge them."""
    source = provenance.of(table)
    return {
        "table": table.design.name,
        "scale": table.scale,
        "metric": table.metric,
        "data": source.corpora,
        "git": {"revisions": source.revisions, "dirty": source.dirty},
        "notes": [*table.caveats, *provenance.warnings(table), *table.design.remarks()],
        "missing": missing(table),
        "rows": table.content(),
    }


def as_frame(table: Table) -> pd.DataFrame:
    """The rows as a data frame; `seeds` become one text, separated by blanks."""
    rows = [row | {"seeds": " ".join(map(str, row["seeds"]))} for row in table.content()]
    return pd.DataFrame(rows).astype({"params": "Int64"})


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
