"""The page of a figure that is made of a file, for `reproduce` and `report`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffmamba import reports
from diffmamba.errors import SettingError
from diffmamba.reports import FileDesign
from diffmamba.terminal import terminal


def run(design: FileDesign, settings: dict[str, Any], words: Sequence[str]) -> int:
    """Shows and writes the page: 0 if it is written, else 1. Raises SettingError for a file that cannot be used."""
    from diffmamba.reproduce import saved

    for word in words:
        if word.lstrip("+").partition("=")[0] != "scale":  # which make always gives, and which changes nothing here
            raise SettingError(f"{word}: {design.name} is made of a file, not of runs, so leave it out")
    if not settings["predictions"]:
        raise SettingError(f"{design.kind}={design.name} is made of {design.needs}; say which: predictions=FILE")
    file = Path(settings["predictions"])
    reports.pages.check_place(settings["reports"])
    page = design.document(file)
    reports.show(page, terminal())
    directory = reports.pages.directory(settings["reports"], design.name, [file.name.partition(".")[0]])
    return saved(lambda: reports.write_figure(page, design.name, directory), directory, terminal())
