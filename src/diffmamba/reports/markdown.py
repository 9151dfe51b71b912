"""A table as GitHub Markdown, to paste into a README or an issue."""

from collections.abc import Iterable

from diffmamba.reports import provenance
from diffmamba.reports.table import SIGN_RULE, Table, missing


def markdown(table: Table) -> str:
    """The table with how to read it, where it comes from and what is missing."""
    parts = [
        f"**{table.design.title}.** Scale {table.scale}, {table.metric}.",
        _grid(table),
        "\n".join([table.delta_rule, SIGN_RULE, *table.caveats]),
        _bullets(provenance.warnings(table)),
        _remarks(table),
        _source(table),
        _missing(table),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _grid(table: Table) -> str:
    columns = table.design.columns
    head = [_row(column.header for column in columns), _row("---" if column.word else "---:" for column in columns)]
    return "\n".join([*head, *(_row(_escape(column.text(line)) for column in columns) for line in table.lines)])


def _row(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _remarks(table: Table) -> str:
    sentences = list(table.design.remarks())
    return f"About the paper's numbers:\n\n{_bullets(sentences)}" if sentences else ""


def _source(table: Table) -> str:
    source = provenance.of(table)
    corpora = ", ".join(str(corpus.get("name")) for corpus in source.corpora) or "no corpus yet"
    revisions = ", ".join(revision[:12] for revision in source.revisions) or "none yet"
    return f"Made from {len(table.counted)} of {len(table.runs)} runs on {_escape(corpora)}; git revision {revisions}."


def _missing(table: Table) -> str:
    sentences = missing(table)
    return f"Missing:\n\n{_bullets(sentences)}" if sentences else ""


def _bullets(sentences: list[str]) -> str:
    return "\n".join(f"- {_escape(sentence)}" for sentence in sentences)


def _escape(text: str) -> str:
    """Text that Markdown takes as it is: what runs report may hold pipes, tags and emphasis."""
    for character in "\\`*_|<>[]":
        text = text.replace(character, f"\\{character}")
    return text
