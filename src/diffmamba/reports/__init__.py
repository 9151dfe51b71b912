"""Tables and figures of the paper as pure functions of run records, beside the numbers that the paper prints.

    design = designs.find("table", "table2")
    found = results(design, [(run.id, run.config), ...], records, scale="smoke")
    show(document(design, found), console)  # in the terminal
    write(design, found, directory)         # table.json, table.csv, table.md, index.html

The runs come from the sweep of the design, and `records` maps their ids to the content of their `result.json`. A new
table or figure is one file in `designs/`. What a page says is a `diffmamba.document.Document`; `render` draws it.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from diffmamba import atomic
from diffmamba.document import Document
from diffmamba.reports import charts, designs, pages, pictures, render
from diffmamba.reports.cells import Cell, Results
from diffmamba.reports.compose import document
from diffmamba.reports.design import Design, results
from diffmamba.reports.render import show

__all__ = [
    "Cell",
    "Design",
    "Results",
    "designs",
    "document",
    "pages",
    "results",
    "show",
    "write",
    "write_document",
]


def write(design: Design, results: Results, directory: Path) -> list[Path]:
    """Writes the files of a table or figure into `directory`, made if need be; returns their paths, the page last."""
    made = document(design, results)
    if design.kind == "table":
        rows = [row | {"seeds": " ".join(map(str, row["seeds"]))} for row in made.data["rows"]]
        table = pd.DataFrame(rows).astype({"params": "Int64"})
        return write_document(made, directory, "table", {"table.csv": table.to_csv(index=False)})
    chart = design.charts(results)[0]
    pictured = {f"{design.name}.{kind}": pictures.drawn(chart, kind) for kind in ("svg", "png", "pdf")}
    points = charts.points(results).to_csv(index=False)
    return write_document(made, directory, design.name, {**pictured, f"{design.name}.csv": points})


def write_document(
    document: Document, directory: Path, name: str, further: Mapping[str, str | bytes] | None = None
) -> list[Path]:
    """Writes any document as NAME.json, NAME.md and index.html, beside `further` files; the paths, the page last.

    Either all of them are written or none is; then an OSError says why.
    Raises ValueError if its data hold NaN or infinity, which JSON does not have.
    """
    contents = {
        f"{name}.json": json.dumps(document.data, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        **(further or {}),
        f"{name}.md": render.markdown(document),
        "index.html": render.html(document),
    }
    atomic.write_together(directory, contents)
    return [directory / file for file in contents]
