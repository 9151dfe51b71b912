"""Tables and figures of the paper as pure functions of run records, beside the numbers that the paper prints.

    design = designs.find("table", "table2")
    found = results(design, [(run.id, run.config), ...], records, scale="smoke")
    show(document(design, found), console)  # in the terminal
    write(design, found, directory)         # table.json, table.csv, table.md, index.html

The planned runs come from the sweep that the design names. `records` maps the id of a run to the content of its
`result.json`. Runs without a result are shown as missing.

A new table or figure is one file in `designs/`. What a page says is a `diffmamba.document.Document`; `render` draws it.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from diffmamba.document import Document
from diffmamba.reports import designs, pictures, render
from diffmamba.reports.cells import Cell, Results
from diffmamba.reports.compose import document
from diffmamba.reports.design import Design, results
from diffmamba.reports.render import show

__all__ = ["Cell", "Design", "Results", "designs", "document", "results", "show", "write", "write_document"]


def write(design: Design, results: Results, directory: Path) -> list[Path]:
    """Writes the files of a table or figure into `directory`, made if need be; returns their paths, the page last."""
    made = document(design, results)
    contents: dict[str, bytes | str]
    if design.kind == "figure":
        drawn = pictures.drawn(design.charts(results)[0], ("svg", "png", "pdf"))
        contents = {f"{design.name}.{suffix}": picture for suffix, picture in drawn.items()}
        contents[f"{design.name}.csv"] = design.points(results).to_csv(index=False)
    else:
        contents = {
            "table.json": render.json(made),
            "table.csv": _frame(made.data["rows"]).to_csv(index=False),
            "table.md": render.markdown(made),
        }
    return render.put(contents | {"index.html": render.html(made)}, directory)


def write_document(document: Document, directory: Path, name: str) -> list[Path]:
    """Writes any document as NAME.json, NAME.md and index.html; returns their paths, the page last."""
    contents: dict[str, bytes | str] = {
        f"{name}.json": render.json(document),
        f"{name}.md": render.markdown(document),
        "index.html": render.html(document),
    }
    return render.put(contents, directory)


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows as a data frame; `seeds` become one text, separated by blanks."""
    return pd.DataFrame(row | {"seeds": " ".join(map(str, row["seeds"]))} for row in rows).astype({"params": "Int64"})
