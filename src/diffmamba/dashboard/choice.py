"""Which pages there are, and what each is called and shows where its file does not say so."""

from collections.abc import Iterable
from pathlib import Path

from diffmamba.configuration import CONF
from diffmamba.dashboard import description
from diffmamba.dashboard.description import ANY_SWEEP, WORKSPACE, Description
from diffmamba.errors import SettingError
from diffmamba.reports import designs
from diffmamba.reports.design import Design
from diffmamba.spelling import did_you_mean


def names(groups: Iterable[str]) -> list[str]:
    """The pages of `what=all`: the workspace, then all that have a file, are a design, or are a group in the store."""
    of_designs = [name for kind in designs.KINDS for name in designs.names(kind)]
    reports = sorted({*description.files(), *of_designs, *groups} - {WORKSPACE, ANY_SWEEP})
    return [WORKSPACE, *reports]


def find(name: str, groups: Iterable[str]) -> Description:
    """The description of a page, with its title and the group of its runs. Raises SettingError where there is none."""
    files, design = description.files(), _design(name)
    known = name in files or design or name in groups or name in _sweeps()
    if name == ANY_SWEEP or not known:
        others = sorted({*names(groups), *_sweeps()})
        raise SettingError(
            f"what={name} is no page; use all, or one of {', '.join(others)}{did_you_mean(name, others)}"
        )
    told = description.read(files.get(name, files[ANY_SWEEP]))
    if name == WORKSPACE:
        return told.model_copy(update={"title": told.title or "diffmamba"})
    group = told.group or (design.sweep if design else name)
    return told.model_copy(update={"title": told.title or (design.title if design else name), "group": group})


def _design(name: str) -> Design | None:
    kind = next((kind for kind in designs.KINDS if name in designs.names(kind)), None)
    return designs.find(kind, name) if kind else None


def _sweeps() -> set[str]:
    """The sweeps there are files of, ours and the user's."""
    folders = [Path(CONF) / "sweeps", *(place.parent / "sweeps" for place in description.places())]
    return {file.stem for folder in folders for file in folder.glob("*.yaml")}
