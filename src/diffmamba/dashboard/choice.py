"""Which pages there are, and what each is called and shows where its file does not say so."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from diffmamba.configuration import CONF
from diffmamba.dashboard import description
from diffmamba.dashboard.description import ANY_SWEEP, WORKSPACE, Description
from diffmamba.errors import SettingError
from diffmamba.reports import designs
from diffmamba.reports.design import Design
from diffmamba.spelling import did_you_mean


def names(groups: Iterable[str], shared: Iterable[str] = ()) -> list[str]:
    """The pages of `what=all`: the workspace, then all that have a file, are a design, or are a group in the store, and
    the sweeps that share runs of other groups.
    """
    of_runs = ({*designs.names(kind)} - {*designs.of_files(kind)} for kind in designs.KINDS)
    of_designs = [name for found in of_runs for name in found]
    reports = sorted({*description.files(), *of_designs, *groups, *shared} - {WORKSPACE, ANY_SWEEP})
    return [WORKSPACE, *reports]


def find(name: str, groups: Iterable[str]) -> Description:
    """The description of a page, with its title and the group of its runs. Raises SettingError where there is none."""
    files, design, sweeps = description.files(), _design(name), _sweeps()
    known = name in files or design or name in groups or name in sweeps
    if name == ANY_SWEEP or not known:
        others = sorted({*names(groups), *sweeps})
        if "," in name:
            raise SettingError(f"what={name}: one page at a time, such as what={name.partition(',')[0]}; or all")
        raise SettingError(
            f"what={name} is no page; use all, or one of {', '.join(others)}{did_you_mean(name, others)}"
        )
    told = description.read(files.get(name, files[ANY_SWEEP]))
    if name == WORKSPACE:
        return told.model_copy(update={"title": told.title or "diffmamba"})
    title, group = (design.title, design.sweep) if design else _said(sweeps.get(name))
    return told.model_copy(update={"title": told.title or title or name, "group": told.group or group or name})


def sweeps_of(pages: Mapping[str, Description]) -> dict[str, str]:
    """The sweep of each page that shows one: not a group of a user's own choice, or one that no file has made."""
    files, found = _sweeps(), {}
    for name, told in pages.items():
        design = _design(name)
        sweep = design.sweep if design else name
        if sweep in files and told.group == (_said(files[sweep])[1] or sweep):
            found[name] = sweep
    return found


def sweeps() -> dict[str, str]:
    """All sweeps, each with the group of its runs."""
    return {name: _said(file)[1] or name for name, file in _sweeps().items()}


def _design(name: str) -> Design | None:
    kind = next((kind for kind in designs.KINDS if name in designs.names(kind)), None)
    design = designs.find(kind, name) if kind else None
    return design if isinstance(design, Design) else None


def _sweeps() -> dict[str, Path]:
    """The file of each sweep, ours and the user's."""
    folders = [Path(CONF) / "sweeps", Path(os.environ.get("DIFFMAMBA_CONF", "conf")) / "sweeps"]
    return {file.stem: file for folder in folders for file in folder.glob("*.yaml")}


def _said(sweep: Path | None) -> tuple[str, str]:
    """The title of a sweep's page and the group of its runs, as its file says them; "" where it does not."""
    try:
        found = OmegaConf.load(sweep) if sweep else OmegaConf.create()
        return str(OmegaConf.select(found, "report.title") or ""), str(OmegaConf.select(found, "group") or "")
    except (OSError, ValueError, YAMLError, OmegaConfBaseException):  # a file of the user's own, which `sweep` refuses
        return "", ""
