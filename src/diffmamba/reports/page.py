"""`index.html`: a table, its pictures and its provenance as one page that needs nothing but itself.

Style and pictures are inlined, so the file can be mailed, attached to an issue or opened from a disk without a network.
Whatever comes from run records is escaped: an error message may hold anything.
"""

import base64
from collections.abc import Iterable
from html import escape
from importlib import resources

from diffmamba.paper import published
from diffmamba.reports import provenance
from diffmamba.reports.listing import duration, origin, runs
from diffmamba.reports.table import SIGN_RULE, Column, Line, Picture, Table, missing


def page(table: Table, title: str, above: Iterable[Picture] = (), below: Iterable[Picture] = ()) -> str:
    """The whole document, with pictures above and below the table."""
    css = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{_summary(table)}</p>",
        _notice("Before you compare", provenance.warnings(table)),
        *map(_picture, above),
        _grid(table),
        *(f'<p class="soft">{escape(sentence)}</p>' for sentence in (table.delta_rule, SIGN_RULE, *table.caveats)),
        _notice(f"{len(table.runs) - len(table.counted)} of {len(table.runs)} runs missing", missing(table)),
        *map(_picture, below),
        _remarks(table),
        f"<h2>Where the numbers come from</h2>\n{origin(table)}",
        runs(table),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} ({escape(table.scale)})</title>\n<style>\n{css}</style>\n</head>\n<body>\n"
        + "\n".join(filter(None, body))
        + "\n</body>\n</html>\n"
    )


def _summary(table: Table) -> str:
    """What you see, in one paragraph."""
    source = provenance.of(table)
    corpora = " and ".join(dict.fromkeys(map(_corpus, source.corpora))) or "a corpus not known yet"
    seeds = ", ".join(str(seed) for seed in sorted({run.seed for run in table.counted})) or "none yet"
    return (
        f"Test perplexity of {len(table.lines)} variants trained at scale <b>{escape(table.scale)}</b> on {corpora}. "
        f"{len(table.counted)} of {len(table.runs)} runs count (seeds: {seeds}); together all runs took "
        f"{duration(source.wall_seconds)}. The paper's numbers are from "
        f"{escape(published.numbers()['source'])}."
    )


def _corpus(corpus: dict) -> str:
    sizes = ", ".join(f"{escape(str(split))} {size:,}" for split, size in (corpus.get("sizes") or {}).items())
    return f"<b>{escape(str(corpus.get('name')))}</b> ({sizes} symbols; {escape(str(corpus.get('vocabulary')))} types)"


def _grid(table: Table) -> str:
    """The table; the name of a section stands in front of its lines, or above them where it is titled."""
    others = list(table.design.columns[1:])
    shown = others if table.design.titled else table.design.columns
    head = "".join(f'<th scope="col"{_word(column)}>{escape(column.header)}</th>' for column in shown)
    section = _titled_section if table.design.titled else _section
    bodies = "".join(f"<tbody>\n{section(text, lines, others)}</tbody>\n" for text, lines in table.sections)
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n{bodies}</table></div>'


def _section(name: str, lines: list[Line], columns: list[Column]) -> str:
    title = f'<th scope="rowgroup" rowspan="{len(lines)}">{escape(name)}</th>'
    return "".join(
        f"<tr>{'' if position else title}{_cells(line, columns)}</tr>\n" for position, line in enumerate(lines)
    )


def _titled_section(name: str, lines: list[Line], columns: list[Column]) -> str:
    title = f'<tr><th scope="rowgroup" colspan="{len(columns)}">{escape(name)}</th></tr>\n'
    return title + "".join(f"<tr>{_cells(line, columns)}</tr>\n" for line in lines)


def _cells(line: Line, columns: list[Column]) -> str:
    return "".join(
        f"<td{_class(column.mark(line)) or _word(column)}>{escape(column.text(line))}</td>" for column in columns
    )


def _word(column: Column) -> str:
    return _class("word" * column.word)


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _notice(title: str, sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<div class="notice"><b>{escape(title)}</b><ul>{items}</ul></div>' if items else ""


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.svg).decode("ascii")
    return (
        f"<h2>{escape(picture.heading)}</h2>\n"
        f'<figure class="{"broad" if picture.broad else "narrow"}"><div class="wide">'
        f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(picture.alt)}"></div>'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _remarks(table: Table) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in table.design.remarks())
    return f"<h2>About the paper's numbers</h2>\n<ul>{items}</ul>" if items else ""
