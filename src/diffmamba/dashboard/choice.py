"""Which pages there are, and what each is called and shows where its file does not say so."""

import os
from collections.abc import Iterable
from pathlib import Path

from omegaconf import OmegaConf

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
    files, design, sweeps = description.files(), _design(name), _sweeps()
    known = name in files or design or name in groups or name in sweeps
    if name == ANY_SWEEP or not known:
        others = sorted({*names(groups), *sweeps})
        raise SettingError(
            f"what={name} is no page; use all, or one of {', '.join(others)}{did_you_mean(name, others)}"
        )
    told = description.read(files.get(name, files[ANY_SWEEP]))
    if name == WORKSPACE:
        return told.model_copy(update={"title": told.title or "diffmamba"})
    title, group = (design.title, design.sweep) if design else _said(sweeps.get(name))
    return told.model_copy(update={"title": told.title or title or name, "group": told.group or group or name})


def _design(name: str) -> Design | None:
    kind = next((kind for kind in designs.KINDS if name in designs.names(kind)), None)
    return designs.find(kind, name) if kind else None


def _sweeps() -> dict[str, Path]:
    """The file of each sweep, ours and the user's."""
    folders = [Path(CONF) / "sweeps", Path(os.environ.get("DIFFMAMBA_CONF", "conf")) / "sweeps"]
    return {file.stem: file for folder in folders for file in folder.glob("*.yaml")}


def _said(sweep: Path | None) -> tuple[str, str]:
    """The title of a sweep's page and the group of its runs, as its file says them; "" where it does not."""
    found = OmegaConf.load(sweep) if sweep else OmegaConf.create()
    return str(OmegaConf.select(found, "report.title") or ""), str(OmegaConf.select(found, "group") or "")
