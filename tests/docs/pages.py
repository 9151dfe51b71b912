"""The README and the pages of docs/ as their tests see them: code blocks, and the commands in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from diffmamba.configuration import CHECKOUT

assert CHECKOUT is not None  # the tests are not part of a wheel
ROOT = CHECKOUT
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"(?:^<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>.*?)\n(?P<text>.*?)^```$", re.M | re.S)
FILE = re.compile(r"# (\S+\.(?:py|yaml))$")


@dataclass(frozen=True)
class Block:
    """A fenced block of code. `not_run` is the reason in the comment above it, empty where it is run."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str

    @property
    def file(self) -> str:
        """The path in the first line, or in the one after Hydra's `@package`; empty if there is none."""
        lines = self.text.removeprefix("# @package _global_\n").splitlines()
        found = FILE.match(lines[0]) if lines else None
        return found[1] if found else ""

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a block of sh, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in their order."""
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start("text")), found["language"], found["text"], found["reason"] or "")
        for found in FENCE.finditer(text)
    ]


def all_blocks(language: str) -> list[Block]:
    """The blocks of all pages in this language."""
    return [block for page in PAGES for block in blocks(page) if block.language == language]
