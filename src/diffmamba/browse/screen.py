"""How lists and pairs are laid out as text: as wide as the terminal, and in full where the output is none.

`rich` colours and prints. The layout is ours, since `rich` takes seconds for a table of 5,000 rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from diffmamba.terminal import terminal

STYLES = {
    **{"failed": "red", "damaged": "red", "interrupted": "yellow", "stopped": "yellow"},
    **{"running": "cyan", "finished": "green", "heading": "bold cyan", "header": "bold", "note": "dim"},
}
GAP = "  "
INDENT = 18  # columns of the names in a list of pairs


class Column(NamedTuple):
    """A column of a table: words stand left, numbers right.

    Where there is no room, words are cut down to `shortest` signs, and then the columns of the highest `rank` left out.
    """

    header: str
    texts: Sequence[str]
    word: bool = True
    rank: int = 0
    shortest: int = 8


class Screen:
    """Lines for standard output. They are printed at once, at the end."""

    def __init__(self) -> None:
        self.console: Console = terminal()
        self.width = self.console.width
        self._text = Text()

    def line(self, text: str = "", style: str = "") -> None:
        """A line, or several, that is never cut."""
        self._text.append(f"{text}\n", STYLES.get(style, style) or None)

    def heading(self, text: str) -> None:
        self.line()
        self.line(text, "heading")

    def pairs(self, pairs: Mapping[str, str] | Iterable[tuple[str, str]]) -> None:
        """Names and what is said of them. A long text goes on below itself."""
        for name, said in pairs.items() if isinstance(pairs, Mapping) else pairs:
            lines = [part for line in said.splitlines() or [""] for part in _wrapped(line, self.width - INDENT)]
            self._text.append(_padded(name, INDENT - 1, True) + " ", STYLES["note"])
            self.line(f"\n{' ' * INDENT}".join(lines))

    def table(self, columns: Sequence[Column], styles: Sequence[str] = ()) -> list[str]:
        """A table with a style for each row, which its second column has. Returns the headers left out for width."""
        fitting, widths = _fitting(columns, self.width)
        header = GAP.join(_padded(c.header, width, c.word) for c, width in zip(fitting, widths, strict=True))
        if any(column.header for column in fitting):
            self.line(header.rstrip(), "header")
        laid = [[_padded(text, w, c.word) for text in c.texts] for c, w in zip(fitting, widths, strict=True)]
        for index, cells in enumerate(zip(*laid, strict=True)):
            style = STYLES.get(styles[index] if styles else "")
            if style:
                self._text.append(cells[0] + GAP)
                self._text.append(cells[1], style)
                self._text.append((GAP + GAP.join(cells[2:])).rstrip() + "\n")
            else:
                self._text.append(GAP.join(cells).rstrip() + "\n")
        return [column.header for column in columns if column not in fitting]

    def print(self) -> None:
        """Prints all lines."""
        if self.console.is_terminal:
            self.console.print(self._text, soft_wrap=True, end="")
        else:
            self.console.file.write(self._text.plain)


def _fitting(columns: Sequence[Column], width: int) -> tuple[list[Column], list[int]]:
    """The columns for which there is room, and their widths. The widest words are cut before a column is left out."""
    left = list(columns)
    while True:
        widths = [max(map(cells, (column.header, *column.texts))) for column in left]
        over = sum(widths) + len(GAP) * (len(left) - 1) - width
        while over > 0:
            free = [
                w - c.shortest if c.word and index else 0 for index, (w, c) in enumerate(zip(widths, left, strict=True))
            ]
            at = max(range(len(left)), key=lambda index: (free[index] > 0, widths[index]))
            if free[at] <= 0:
                break
            widths[at], over = widths[at] - 1, over - 1
        if over <= 0 or len(left) <= 2:
            return left, widths
        left.remove(max(reversed(left), key=lambda column: column.rank))


def cells(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return len(text) if text.isascii() else cell_len(text)


def _padded(text: str, width: int, left: bool) -> str:
    """A text of exactly this width; one that is too long loses its end."""
    free = width - cells(text)
    if free < 0:
        return set_cell_size(text, width - 1) + "…"
    return text + " " * free if left else " " * free + text


def _wrapped(line: str, width: int) -> Iterable[str]:
    return [part.plain.rstrip() for part in Text(line).wrap(Console(width=max(width, 20)), max(width, 20))] or [""]
