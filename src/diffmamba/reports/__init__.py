"""Tables and figures of the paper as pure functions of run records, beside the numbers that the paper prints.

    design = designs.find("table", "table2")
    found = results(design, [(run.id, run.config), ...], records, scale="smoke")
    show(document(design, found), console)  # in the terminal
    write(design, found, directory)         # table.json, table.csv, table.md, index.html, and its pictures

The runs come from the sweep of the design, and `records` maps their ids to the content of their `result.json`. A new
table or figure is one file in `designs/`. What a page says is a `diffmamba.document.Document`; `render` draws it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from diffmamba import atomic
from diffmamba.document import Block, Chart, Document, Section
from diffmamba.reports import designs, pages, pictures, render, swept
from diffmamba.reports.cells import Cell, Results
from diffmamba.reports.compose import document
from diffmamba.reports.design import Design, FileDesign, results
from diffmamba.reports.render import show

__all__ = [
    "Cell",
    "Design",
    "FileDesign",
    "Results",
    "designs",
    "document",
    "pages",
    "results",
    "show",
    "swept",
    "write",
    "write_document",
    "write_figure",
    "write_page",
    "write_table",
]


def write(design: Design, results: Results, directory: Path) -> list[Path]:
    """Writes the files of a table or figure into `directory`, made if need be; returns their paths, the page last."""
    made = document(design, results)
    points = design.points(results) if design.points else None
    tables = {f"{name}.csv": _csv(table) for name, table in design.tables(results).items()}
    if design.kind == "figure":
        return write_figure(made, design.name, directory, points, tables)
    further = tables if points is None else {"curves.csv": _csv(points), **tables}
    return write_table(made, directory, {**pictured(_charts(made.blocks)), **further})


def write_figure(
    document: Document,
    name: str,
    directory: Path,
    points: pd.DataFrame | None = None,
    further: Mapping[str, str | bytes] | None = None,
) -> list[Path]:
    """Writes a document whose first chart is the figure of this name, and its numbers as a CSV file; returns the paths.

    `points` are these numbers; None for the rows of the document.
    """
    first, *others = _charts(document.blocks)
    drawn = pictured([replace(first, name=name)], "pdf") | pictured(others)
    content = _csv(_rows(document) if points is None else points)
    return write_document(document, directory, name, {**drawn, f"{name}.csv": content, **(further or {})})


def write_page(document: Document, directory: Path) -> list[Path]:
    """Writes a document whose data have `rows`, as `write_table` does, with its pictures beside it."""
    return write_table(document, directory, pictured(_charts(document.blocks)))


def write_table(document: Document, directory: Path, further: Mapping[str, str | bytes]) -> list[Path]:
    """Writes a document whose data have `rows` as table.json, table.csv, table.md and index.html; the paths."""
    return write_document(document, directory, "table", {"table.csv": _csv(_rows(document)), **further})


def _rows(document: Document) -> pd.DataFrame:
    """The rows of a document, with lists as words."""
    table = pd.DataFrame(document.data["rows"])
    for name in table.columns:
        if any(isinstance(found, list) for found in table[name]):
            table[name] = [" ".join(map(str, found)) if isinstance(found, list) else found for found in table[name]]
    return table.astype({"params": "Int64"} if "params" in table else {})


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False)


def pictured(found: Iterable[Chart], *further: str) -> dict[str, bytes]:
    """Charts as files: svg, png and further kinds."""
    kinds = ("svg", "png", *further)
    return {f"{chart.name}.{kind}": pictures.drawn(chart, kind) for chart in found for kind in kinds}


def _charts(blocks: Iterable[Block]) -> Iterator[Chart]:
    """The charts among these blocks and in their sections."""
    for block in blocks:
        if isinstance(block, Section):
            yield from _charts(block.blocks)
        elif isinstance(block, Chart):
            yield block


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
