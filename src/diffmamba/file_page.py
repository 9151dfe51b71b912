"""The page of a figure that is made of a file, for `reproduce` and `report`."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffmamba import reports
from diffmamba.document import Document
from diffmamba.errors import SettingError
from diffmamba.page_writing import saved
from diffmamba.reports import FileDesign
from diffmamba.terminal import say, terminal

ENDING = re.compile(r"(\.(csv|jsonl|parquet))?(\.(gz|bz2|zip|xz|zst))?$")
"""What a file's name loses in that of its page."""


def run(design: FileDesign, settings: dict[str, Any], words: Sequence[str]) -> int:
    """Shows and writes the page: 0 if it is written, else 1. Raises SettingError for a file that cannot be used."""
    for word in words:
        if word.lstrip("+").partition("=")[0] != "scale":  # which make always gives, and which changes nothing here
            raise SettingError(f"{word}: {design.name} is made of a file, not of runs, so leave it out")
    if not settings["predictions"]:
        raise SettingError(f"{design.kind}={design.name} is made of {design.needs}; say which: predictions=FILE")
    file = Path(settings["predictions"])
    reports.pages.check_place(settings["reports"])
    page = design.document(file)
    reports.show(page, terminal())
    directory = _directory(design.name, page, file, settings["reports"])
    return saved(lambda: reports.write_figure(page, design.name, directory), directory, terminal())


def _directory(name: str, page: Document, file: Path, place: str) -> Path:
    """That of the file's name, or with the digest of its content too where the page of another content lies there."""
    stem, digest = ENDING.sub("", file.name) or file.name, str(page.data["sha256"])
    plain = reports.pages.directory(place, name, [stem])
    try:
        taken = json.loads((plain / f"{name}.json").read_text(encoding="utf-8")).get("sha256") != digest
    except (OSError, ValueError, AttributeError):  # no page of a file
        taken = False
    if not taken:
        return plain
    say(terminal(), f"{plain} is the page of another file or content, so it stays, and the digest names this one")
    return reports.pages.directory(place, name, [stem, digest])
