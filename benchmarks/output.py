"""Stands in for `diffmamba.reports` until that has `show` and `write_document`; then this file goes."""

from pathlib import Path

from rich.console import Console

from diffmamba import atomic
from diffmamba.document import Bullets, Document, Facts, Grid, Paragraph, Section


def show(document: Document, console: Console) -> None:
    """Prints the document as Markdown."""
    console.print(_markdown(document), markup=False, highlight=False, soft_wrap=True)


def write_document(document: Document, directory: Path, name: str) -> list[Path]:
    """Writes NAME.json and NAME.md; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{name}.json", directory / f"{name}.md"]
    atomic.write_json(paths[0], document.data)
    atomic.write(paths[1], _markdown(document))
    return paths


def _markdown(block: object) -> str:
    match block:
        case Document(title, blocks) | Section(title, blocks):
            return "\n\n".join([f"# {title}", *filter(None, map(_markdown, blocks))]) + "\n"
        case Paragraph(text):
            return text
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Facts(entries):
            return "\n".join(f"- {name}: {value}" for name, value in entries.items())
        case Grid(columns, groups):
            rows = [[entry.text for entry in row] for group in groups for row in group.rows]
            rows = [[column.header for column in columns], ["---" for _ in columns], *rows]
            return "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return ""
