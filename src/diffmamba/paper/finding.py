"""One check of the paper against itself, and how rows of values become a grid of texts."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from diffmamba.document import Column, Entry, Grid, Paragraph, Rows, Section
from diffmamba.paper.cases import Case

MARKS = {"✓": "agrees", "✗": "disagrees", "–": "undecided"}
UNITS = {"M": 1e6, "E": 1e18}
Found = tuple[str, str, dict[str, Any]]
"""A sentence on what the paper prints, a sentence on what we compute, and the numbers behind both."""
Check = Callable[[Sequence[Case]], Found]
"""A check of the cases at scale paper. Its name is the finding's key, its docstring the finding's title."""


@dataclass(frozen=True)
class Finding:
    """What a check found. `docs/paper.md` explains each finding."""

    key: str
    title: str
    printed: str
    computed: str
    values: dict[str, Any]

    @classmethod
    def of(cls, check: Check, cases: Sequence[Case], number: str = "") -> "Finding":
        """The finding of a check, its title numbered where a number is given."""
        return cls(check.__name__, number + str(check.__doc__).strip().rstrip("."), *check(cases))

    def section(self) -> Section:
        """The finding as a part of a page; values that are rows of the same names become a grid."""
        sentences = (Paragraph(self.printed, tone="note"), Paragraph(self.computed))
        rows = {key: _flat(value) for key, value in self.values.items() if isinstance(value, dict)}
        if len(rows) < 2 or len({tuple(row) for row in rows.values()}) > 1:
            return Section(self.title, sentences)
        headers = ["", *(name.replace("_", " ") for name in next(iter(rows.values())))]
        texts = [[key, *map(_text, row.values())] for key, row in rows.items()]
        return Section(self.title, (*sentences, Grid.of(headers, texts)))


def _flat(row: dict[str, Any], start: str = "") -> dict[str, Any]:
    """A row without dictionaries in it: `ppl: {mamba: 2}` becomes `ppl mamba: 2`."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        flat |= _flat(value, f"{start}{name} ") if isinstance(value, dict) else {start + name: value}
    return flat


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(map(_text, value))
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


class _Texts(Formatter):
    """Formats None as –, true and false as ✓ and ✗, and divides by a unit at a format's end: `.1fM` is in millions."""

    def format_field(self, value: Any, spec: str) -> str:
        if value is None or isinstance(value, bool):
            return {None: "–", True: "✓", False: "✗"}[value]
        return format(value / UNITS[spec[-1]], spec[:-1]) if spec[-1:] in UNITS else format(value, spec)


def grid(columns: str, rows: Iterable[dict[str, Any]], words: int = 1, title: str = "") -> Grid:
    """A grid from rows of values. `columns` holds headers and formats: `cell: {name} | steps: {budget[steps]:,}`.

    The first `words` columns are words, the others numbers.
    """
    pairs = [column.strip().partition(": ") for column in columns.split("|")]
    written = [[_Texts().format(form, **row) for _, _, form in pairs] for row in rows]
    entries = tuple(tuple(Entry(text, MARKS.get(text, "")) for text in row) for row in written)
    return Grid(tuple(Column(pair[0], word=i < words) for i, pair in enumerate(pairs)), (Rows(entries),), title)
