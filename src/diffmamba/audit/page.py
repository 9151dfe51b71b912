"""The audit as one page that needs nothing but itself, in the style of the tables' pages."""

import base64
from collections.abc import Iterable
from html import escape
from importlib import resources

from diffmamba import reports
from diffmamba.audit.document import Document, Finding, Grid, Picture, Section

CLASSES = {"✓": "agrees", "✗": "disagrees", "–": "undecided"}
CSS = """
h3 { font-size: 1rem; margin: 1.75rem 0 .35rem; }
.verdict { margin: 1rem 0; padding: .6rem 1rem; background: var(--raised); border-left: 3px solid var(--soft); }
.verdict ul { margin: .25rem 0; padding-left: 1.2rem; max-width: 56rem; }
.verdict li { margin: .3rem 0; } .verdict li:first-child { font-weight: 600; }
caption { caption-side: bottom; text-align: left; padding: .4rem .6rem; }
.wide { margin: .75rem 0; }
table.texts td { white-space: normal; vertical-align: top; } table.texts td:nth-child(2) { white-space: nowrap; }
table.short { width: auto; }
td { border-top: 1px solid var(--rule); }
"""
SHORT = 7  # columns up to which a table is as wide as its numbers, not as the page


def page(document: Document) -> str:
    """The whole page."""
    css = resources.files(reports).joinpath("page.css").read_text(encoding="utf-8") + CSS
    body = [
        f"<h1>{escape(document.title)}</h1>",
        f'<div class="verdict">{_list(document.verdict)}</div>',
        *map(_section, document.sections),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(document.title)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    parts = [
        f"<h2>{escape(section.title)}</h2>",
        *(f'<p class="soft">{escape(sentence)}</p>' for sentence in section.sentences),
        *map(_grid, section.grids),
        _picture(section.picture) if section.picture else "",
        *map(_finding, section.findings),
    ]
    return "\n".join(filter(None, parts))


def _finding(finding: Finding) -> str:
    return (
        f'<h3>{escape(finding.title)}</h3>\n<p class="soft">{escape(finding.printed)}</p>\n'
        f"<p>{escape(finding.computed)}</p>\n" + "\n".join(map(_grid, finding.grids))
    )


def _list(sentences: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


def _grid(grid: Grid) -> str:
    head = "".join(
        f'<th scope="col"{_word(grid, index)}>{escape(text)}</th>' for index, text in enumerate(grid.headers)
    )
    rows = "".join(f"<tr>{_cells(grid, row)}</tr>\n" for row in grid.rows)
    caption = f"<caption>{escape(grid.caption)}</caption>" if grid.caption else ""
    kind = "texts" if grid.words == len(grid.headers) else "short" if len(grid.headers) <= SHORT else ""
    title = f"<p><b>{escape(grid.title)}</b></p>\n" if grid.title else ""
    return (
        f'{title}<div class="wide"><table class="{kind}">{caption}\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody></table></div>"
    )


def _cells(grid: Grid, row: tuple[str, ...]) -> str:
    return "".join(
        f"<td{_word(grid, index, CLASSES.get(text, ''))}>{escape(text)}</td>" for index, text in enumerate(row)
    )


def _word(grid: Grid, index: int, name: str = "") -> str:
    names = " ".join(filter(None, ["word" * (index < grid.words), name]))
    return f' class="{names}"' if names else ""


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.svg).decode("ascii")
    return (
        f'<figure class="broad"><div class="wide"><img src="data:image/svg+xml;base64,{data}" '
        f'alt="{escape(picture.caption)}"></div><figcaption>{escape(picture.caption)}</figcaption></figure>'
    )
