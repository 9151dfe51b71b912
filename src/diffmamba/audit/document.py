"""What the audit says, before anything draws it: sections of sentences, grids, findings and a picture."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Grid:
    """A small table of texts; the first `words` columns are words, the rest numbers."""

    headers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    words: int = 1
    title: str = ""
    caption: str = ""


@dataclass(frozen=True)
class Finding:
    """A check of the paper against itself. `printed` and `computed` are sentences, `values` what they rest on."""

    key: str
    title: str
    printed: str
    computed: str
    values: dict[str, Any]
    grids: tuple[Grid, ...] = field(default=())


@dataclass(frozen=True)
class Picture:
    """An SVG, and what it shows in words."""

    svg: bytes
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading and what is under it."""

    title: str
    sentences: tuple[str, ...] = ()
    grids: tuple[Grid, ...] = ()
    picture: Picture | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Document:
    """The whole audit, its verdict first."""

    title: str
    verdict: tuple[str, ...]
    sections: tuple[Section, ...]
