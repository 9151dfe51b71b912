"""What `page.yaml` and `findings.yaml` describe, drawn from rows of values: sections with grids."""

from collections.abc import Mapping, Sequence
from string import Formatter
from typing import Any

from diffmamba.document import Entry, Grid, GridColumn, Paragraph, RowGroup, Section
from diffmamba.paper.remarks import sentence

Cells = Sequence[dict[str, Any]]
MARKS = {"✓": "agrees", "✗": "disagrees", "–": "undecided"}
UNITS = {"M": 1e6, "E": 1e18, "µ": 1e-6}


def of_layout(layout: dict[str, Any], rows: Mapping[str, Cells], data: dict[str, Any]) -> Section:
    """A section of `page.yaml`: some words, then grids of these rows."""
    grids = []
    for part in layout["grids"]:
        chosen: dict[Any, dict[str, Any]] = {}
        for index, row in enumerate(rows[part["rows"]]):
            if part.get("where", {}).items() <= row.items():
                chosen.setdefault(tuple(row[name] for name in part["once"]) if "once" in part else index, row)
        columns = part.get("columns") or part.get("start", {}) | layout["columns"]
        grids.append(grid(columns, list(chosen.values()), part.get("words", 1), part.get("title", "")))
    return Section(layout["title"], (Paragraph(sentence(layout["words"], **data), tone="note"), *grids))


def of_finding(finding: dict[str, Any], columns: dict[str, str] | None) -> Section:
    """A finding: what is printed, what is computed, and a grid of the values where it has columns."""
    sentences = (Paragraph(finding["printed"], tone="note"), Paragraph(finding["computed"]))
    rows = [{"key": key} | row for key, row in finding["values"].items() if isinstance(row, dict)]
    return Section(finding["title"], (*sentences, *([grid(columns, rows)] if columns else [])))


def grid(columns: dict[str, str], rows: Cells, words: int = 1, title: str = "") -> Grid:
    """A grid of rows: a format for each header. The first `words` columns are words, the others numbers."""
    written = [[_Texts().format(form, **row) for form in columns.values()] for row in rows]
    entries = tuple(tuple(Entry(text, MARKS.get(text, "")) for text in row) for row in written)
    return Grid(tuple(GridColumn(name, word=i < words) for i, name in enumerate(columns)), (RowGroup(entries),), title)


class _Texts(Formatter):
    """Formats None as –, true and false as ✓ and ✗, and divides by a unit at a format's end: `.1fM` is in millions."""

    def get_field(self, name: str, args: Any, kwargs: Any) -> Any:
        try:
            return super().get_field(name, args, kwargs)
        except IndexError:  # an epoch that a run does not reach
            return None, name

    def format_field(self, value: Any, spec: str) -> str:
        if value is None or isinstance(value, bool):
            return {None: "–", True: "✓", False: "✗"}[value]
        return format(value / UNITS[spec[-1]], spec[:-1]) if spec[-1:] in UNITS else format(value, spec)
