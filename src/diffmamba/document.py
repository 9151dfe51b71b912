"""What a page says, as plain data, before anything draws it.

Designs (tables and figures) and the audit yield a `Document`. `diffmamba.reports.render` draws any document to the
terminal, Markdown, JSON and HTML. So whoever says something does not know how it is drawn, and the renderer does not
know what is said.

A document is a title and a sequence of blocks: `Section`, `Paragraph`, `Bullets`, `Grid`, `Chart`, `Charts`, `Code`,
`Folded`.

The `tone` of a text is "" (plain), "note" (small print), "warning" (be careful) or "strong" (to be seen first). The
`mark` of a text in a grid says what it means beside itself: "gap", "agrees", "disagrees", "undecided" or "".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Paragraph:
    """Some sentences."""

    text: str
    tone: str = ""


@dataclass(frozen=True)
class Bullets:
    """A list, one sentence or more to an item."""

    items: tuple[str, ...]
    tone: str = ""


@dataclass(frozen=True)
class GridColumn:
    """A column of a grid: words stand left, numbers right. `short` is the header where there is little room.

    A narrow terminal leaves out `spare` columns, the last ones first.
    """

    header: str
    word: bool = False
    short: str = ""
    spare: bool = False


@dataclass(frozen=True)
class Entry:
    """One text of a grid and its mark. `link` is the page that it leads to, from the page that it is on."""

    text: str
    mark: str = ""
    link: str = ""


@dataclass(frozen=True)
class RowGroup:
    """Rows of a grid that belong together. `title` names them; it may be empty."""

    rows: tuple[tuple[Entry, ...], ...]
    title: str = ""


@dataclass(frozen=True)
class Grid:
    """A table of texts, its rows in groups. `title` stands above it and `caption` below."""

    columns: tuple[GridColumn, ...]
    groups: tuple[RowGroup, ...]
    title: str = ""
    caption: str = ""

    @classmethod
    def of(
        cls,
        headers: Sequence[str],
        rows: Sequence[Sequence[str | Entry]],
        words: int = 1,
        title: str = "",
        caption: str = "",
    ) -> "Grid":
        """A grid of texts in one group. The first `words` columns are words, the others numbers."""
        columns = tuple(GridColumn(header, word=index < words) for index, header in enumerate(headers))
        entries = tuple(tuple(text if isinstance(text, Entry) else Entry(text) for text in row) for row in rows)
        return cls(columns, (RowGroup(entries),), title, caption)


@dataclass(frozen=True)
class Series:
    """What is drawn in one colour: points joined by a line, or single points where `line` is empty.

    `x` and `y` have the same length. `low` and `high` are a band around y, `error` an interval to either side of x.
    `line` is "solid", "dashed", "dotted" or "", `marker` a marker of matplotlib or "". A hollow marker has a white
    face. Where `bar` is not 0, each point is a bar of this width from 0 to y, and `low` and `high` are its interval.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    colour: str
    line: str = "solid"
    width: float = 1.4
    marker: str = ""
    hollow: bool = False
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    error: tuple[float, ...] = ()
    bar: float = 0.0


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    `x_range` and `y_range` are (lowest, highest) or None for what fits. `y_names` puts these words at heights 0, 1, 2,
    and so on, from top to bottom, in place of numbers; `x_names` puts words at 0, 1, 2, and so on, of the x axis.
    `x_at` draws a thin line up at this value of x, `x_ticks` are where the x axis has numbers. A scale is "linear" or
    "log". `shades` are the rows of a map, from top to bottom, which is drawn in the place of series: the larger a
    number between 0 and 1, the darker.
    """

    title: str
    series: tuple[Series, ...]
    x_label: str = ""
    y_label: str = ""
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    y_names: tuple[str, ...] = ()
    x_names: tuple[str, ...] = ()
    x_engineering: bool = False  # 200k instead of 200000
    x_scale: str = "linear"
    y_scale: str = "linear"
    x_at: float | None = None
    x_ticks: tuple[float, ...] = ()
    shades: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Chart:
    """A picture: rows of panels, what it shows in words (`alt`), and how to read it (`caption`).

    Its legend holds every label once. `name` is the stem of the files that the picture is written to. `size` is its
    width and height in inches.
    """

    name: str
    title: str
    panels: tuple[tuple[Panel, ...], ...]
    alt: str
    caption: str = ""
    size: tuple[float, float] = (8.0, 4.0)

    @property
    def shaded(self) -> bool:
        """Whether it has maps. Such a chart is a picture on every page."""
        return any(panel.shades for row in self.panels for panel in row)


@dataclass(frozen=True)
class Charts:
    """Small pictures that stand beside each other where there is room. The terminal and Markdown leave them out."""

    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class Code:
    """Lines as a machine writes or reads them. `title` says what they are. The terminal leaves them out."""

    text: str
    title: str


@dataclass(frozen=True)
class Folded:
    """Blocks that a reader opens if wanted, such as the list of all runs. The terminal leaves them out."""

    title: str
    blocks: tuple["Block", ...]


@dataclass(frozen=True)
class Section:
    """A heading and what is under it. Sections nest. The terminal leaves out a section whose `terminal` is False."""

    title: str
    blocks: tuple["Block", ...]
    terminal: bool = True


Block = Paragraph | Bullets | Grid | Chart | Charts | Code | Folded | Section


@dataclass(frozen=True)
class Document:
    """A page. `data` is what a program wants of it: the content of its JSON file, plain values only."""

    title: str
    blocks: tuple[Block, ...]
    data: dict[str, Any]
