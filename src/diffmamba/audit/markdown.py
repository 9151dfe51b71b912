"""The audit as GitHub Markdown, to paste into an issue."""

from collections.abc import Iterable

from diffmamba.audit.document import Document, Finding, Grid, Section


def markdown(document: Document) -> str:
    """The document, without its picture."""
    parts = [f"# {document.title}", _points(document.verdict), *map(_section, document.sections)]
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> str:
    parts = [f"## {section.title}", *map(escape, section.sentences), *map(_grid, section.grids)]
    return "\n\n".join([*parts, *map(_finding, section.findings)])


def _finding(finding: Finding) -> str:
    title = finding.title.replace(". ", "\\. ", 1)
    parts = [f"### {title}", escape(finding.printed), escape(finding.computed), *map(_grid, finding.grids)]
    return "\n\n".join(parts)


def _points(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {escape(sentence)}" for sentence in sentences)


def _grid(grid: Grid) -> str:
    alignment = ["---" if index < grid.words else "---:" for index in range(len(grid.headers))]
    rows = "\n".join(map(_row, [grid.headers, alignment, *([escape(text) for text in row] for row in grid.rows)]))
    return "\n\n".join(filter(None, [escape(grid.title), rows, escape(grid.caption)]))


def _row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def escape(text: str) -> str:
    """Text that Markdown takes as it is."""
    for character in "\\`*_|<>[]":
        text = text.replace(character, f"\\{character}")
    return text
