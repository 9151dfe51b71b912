"""`index.html`: a table, its pictures and its provenance as one page that needs nothing but itself.

Style and pictures are inlined, so the file can be mailed, attached to an issue or opened from a disk without a network.
Whatever comes from run records is escaped: an error message may hold anything.
"""

import base64
from collections.abc import Iterable
from html import escape
from importlib import resources
from itertools import groupby

from diffmamba.reports import figure, provenance, published
from diffmamba.reports.columns import HEADERS, WORDS, texts
from diffmamba.reports.listing import duration, origin, runs
from diffmamba.reports.table import DELTA_RULE, SIGN_RULE, Line, Table, missing

SIGN_CLASSES = {"✓": "agrees", "✗": "disagrees", "~": "undecided", "–": "undecided"}
CURVES_CAPTION = (
    "Test PPL while training, mean over the seeds that count, the band from the lowest to the highest seed. "
    "Solid lines have the outer norm, dashed ones do not; the marker tells the form of λ. The right panel enlarges "
    "the second half, where the lines lie close together."
)
DELTAS_CAPTION = (
    "Δ to plain mamba: filled dots are the runs of this table, with s to either side where at least two seeds are "
    "shared with mamba; hollow dots are the paper's."
)


def page(table: Table) -> str:
    """The whole document."""
    css = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    body = [
        f"<h1>{escape(table.title)}</h1>",
        f"<p>{_summary(table)}</p>",
        _notice("Before you compare", provenance.warnings(table)),
        _grid(table),
        *(f'<p class="soft">{escape(sentence)}</p>' for sentence in (DELTA_RULE, SIGN_RULE, *table.caveats)),
        _notice(f"{len(table.runs) - len(table.counted)} of {len(table.runs)} runs missing", missing(table)),
        *(_pictures(table) if table.counted else []),
        f"<h2>Where the numbers come from</h2>\n{origin(table)}",
        runs(table),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(table.title)} ({escape(table.scale)})</title>\n<style>\n{css}</style>\n</head>\n<body>\n"
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
    head = "".join(f'<th scope="col"{_word(index)}>{escape(header)}</th>' for index, header in enumerate(HEADERS))
    bodies = (_group(list(group)) for _, group in groupby(table.lines, key=lambda line: line.cell.model))
    return f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n{"".join(bodies)}</table></div>'


def _group(lines: list[Line]) -> str:
    """The rows of one model, its name once in front of them."""
    name = f'<th scope="rowgroup" rowspan="{len(lines)}">{escape(lines[0].cell.model)}</th>'
    rows = (f"<tr>{name if line is lines[0] else ''}{_columns(line)}</tr>\n" for line in lines)
    return f"<tbody>\n{''.join(rows)}</tbody>\n"


def _columns(line: Line) -> str:
    cells = [f"<td{_word(index)}>{escape(text)}</td>" for index, text in enumerate(texts(line))]
    if line.row.ppl_mean is None:
        cells[HEADERS.index("PPL ± std")] = f'<td class="gap">{escape(line.row.status)}</td>'
    cells[-1] = f'<td class="{SIGN_CLASSES[line.sign]}">{line.sign}</td>'
    return "".join(cells[1:])


def _word(index: int) -> str:
    return ' class="word"' if index < WORDS else ""


def _notice(title: str, sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<div class="notice"><b>{escape(title)}</b><ul>{items}</ul></div>' if items else ""


def _pictures(table: Table) -> list[str]:
    return [
        "<h2>While training</h2>",
        _picture(figure.curves(table), f"Test PPL against training. {_best(table)}", CURVES_CAPTION, "broad"),
        "<h2>Against the paper</h2>",
        _picture(figure.deltas(table), f"Δ to plain mamba per variant. {_signs(table)}", DELTAS_CAPTION, "narrow"),
    ]


def _picture(svg: bytes, alt: str, caption: str, width: str) -> str:
    data = base64.b64encode(svg).decode("ascii")
    return (
        f'<figure class="{width}"><div class="wide">'
        f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(alt)}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _best(table: Table) -> str:
    mean, label = min((line.row.ppl_mean, line.cell.label) for line in table.lines if line.row.ppl_mean is not None)
    return f"Lowest at the end: {label} with {mean:.{published.DECIMALS}f}."


def _signs(table: Table) -> str:
    signs = [line.sign for line in table.lines]
    agree, differ, undecided = (signs.count(sign) for sign in "✓✗~")
    return f"The sign agrees with the paper in {agree}, differs in {differ} and is undecided in {undecided}."
