"""What the site has a page for beside runs: each table, figure and sweep at each scale that the store holds some of."""

import json
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from diffmamba.configuration import CONF
from diffmamba.errors import SettingError
from diffmamba.override import word
from diffmamba.reports import Design, designs, pages, swept
from diffmamba.reports.site.plans import Asked, Plan
from diffmamba.runs.form import is_tried_again
from diffmamba.runs.index import Entry, Found

SMALLEST = "smoke"
MISSING = "missing"
DAMAGED = "damaged"
ORDER = ("finished", "stopped", "running", "interrupted", "failed", DAMAGED, MISSING)
"""How a run of a subject stands, in the order of a bar."""


@dataclass(frozen=True)
class Subject:
    """A table, figure or sweep at a scale, with further settings or none.

    `design` is None for a sweep, and where its file fails: then `error` says why. `asked_for` is what the command line
    said of the page that is there: the baseline and the title of a sweep. `scale` joins several by `+`; where they are
    those that the file of the sweep itself varies, they are `of_file`.
    """

    kind: str
    name: str
    sweep: str
    scale: str
    settings: tuple[str, ...] = ()
    design: Design | None = None
    error: str = ""
    asked_for: Mapping[str, str] = field(default_factory=dict)
    of_file: bool = False
    plan: Plan = field(default_factory=Plan)

    @property
    def words(self) -> tuple[str, ...]:
        """The words of a command line that make it."""
        scale = () if self.of_file else (f"scale={self.scale.replace('+', ',')}",)
        return (*scale, *self.settings)

    @property
    def asked(self) -> Asked:
        """What its plan is expanded from."""
        return self.sweep, self.words

    @property
    def title(self) -> str:
        """What it is, with its scale and settings."""
        said = self.asked_for.get("title") or self.plan.title or f"Sweep {self.name}"
        whole = self.design.title if self.design else said if self.kind == "sweep" else self.name
        return f"{whole}, scale {self.scale}" + f", with {' '.join(self.settings)}" * bool(self.settings)

    def folder(self, page: str) -> str:
        """The folder in the site of its page of this name."""
        return pages.directory("", f"{page}-{self.scale}", self.settings).name

    @property
    def ids(self) -> list[str]:
        """Its runs, each once."""
        return list(dict.fromkeys(run_id for run_id, _, _ in self.plan.cells))

    @property
    def label(self) -> str:
        """Its name with what tells it from others of this name."""
        return " ".join([self.name, self.scale, *self.settings])

    def counts(self, store: Found) -> dict[str, int]:
        """How many of its runs stand how, in the order of `ORDER`."""
        found = Counter(status(one, store) for one in self.ids)
        if self.plan.search:
            found[MISSING] = max(0, (self.plan.trials or 0) - len(self.ids))
        return {name: found[name] for name in ORDER if found[name]}

    def command(self, entries: Mapping[str, Entry], runs: str, reports: str) -> str:
        """The command that does the rest."""
        failed = [entries[one] for one in self.ids if one in entries and entries[one].status == "failed"]
        words = [*self.words]
        words += ["retry=failed"] * any(not is_tried_again(entry.error) for entry in failed)
        words += [word("runs", runs)] * (runs != "runs")
        if self.plan.search:
            return shlex.join(["python", "-m", "diffmamba.train", f"sweeps={self.sweep}", *words])
        words += [word("reports", reports)] * (reports != "reports")
        words = [f"{self.kind}={self.name}", *(f"{name}={said}" for name, said in self.asked_for.items()), *words]
        return shlex.join(["python", "-m", "diffmamba.reproduce", *words])


def status(run_id: str, found: Found) -> str:
    """How a run stands, as `ORDER` has it."""
    if entry := found.entries.get(run_id):
        return entry.status
    return DAMAGED if run_id in found.damaged else MISSING


def candidates(entries: Iterable[Entry], reports: Path) -> list[Subject]:
    """Each table, figure and sweep at each scale of some run, and the pages that were made with other settings.

    A sweep that a table or figure shows has no page of its own.
    """
    named = {str(entry.setting("scale.name")) for entry in entries}
    scales = [name for name in _files("scale") if name in named] or [SMALLEST]
    there, found, shown = list(_there(reports)), [], set()
    for kind, name, design, error in _designs():
        sweep = design.sweep if design else ""
        shown.add(sweep)
        own = _own_scales(sweep)
        found += [Subject(kind, name, sweep, scale, (), design, error, of_file=bool(own)) for scale in own or scales]
        found += [Subject(kind, name, sweep, *other, design) for other, _ in _others(there, kind, name) if design]
    for name in sorted({*_own_names()} - shown):
        own = _own_scales(name)
        told: dict[Other, dict[str, str]] = {(scale, ()): {} for scale in own or scales}
        told |= _others(there, "sweep", swept.page_name(name), True)
        for (scale, settings), said in told.items():
            found.append(Subject("sweep", name, name, scale, settings, asked_for=said, of_file=[scale] == own))
    return found


def _designs() -> Iterator[tuple[str, str, Design | None, str]]:
    """Those that are filled with runs. The pages that are made of files stay as they are."""
    for kind in designs.KINDS:
        for name in designs.names(kind):
            try:
                design = designs.find(kind, name)
                if isinstance(design, Design):
                    yield kind, name, design, ""
            except SettingError as error:  # a file of the user's own
                yield kind, name, None, str(error)
            except Exception as error:  # which may raise anything
                yield kind, name, None, f"its file fails: {type(error).__name__}: {error}"


def _own_names() -> list[str]:
    return _files("sweeps")


def _files(group: str) -> list[str]:
    """The choices of a group of configurations, ours and the user's."""
    return sorted({file.stem for place in _places() for file in (place / group).glob("*.yaml")})


def _own_scales(sweep: str) -> list[str]:
    """The scales that the file of a sweep varies, joined as in the name of its page; nothing where it varies none."""
    for place in reversed(_places()):
        with suppress(
            OSError, YAMLError, OmegaConfBaseException, TypeError, AttributeError
        ):  # its plan will complain of it
            file = OmegaConf.load(place / "sweeps" / f"{sweep}.yaml")
            plain: Any = OmegaConf.to_container(file)
            items = OmegaConf.select(file, f"grids.{plain.get('grid')}") or ()
            parts = (OmegaConf.select(file, "hydra.sweeper.params"), *items)
            scales = [
                one.strip() for part in parts if part and "scale" in part for one in str(part["scale"]).split(",")
            ]
            if scales:
                return ["+".join(dict.fromkeys(scales))]
    return []


def _places() -> tuple[Path, Path]:
    """Where configurations lie: ours, and the user's."""
    return Path(CONF), Path(os.environ.get("DIFFMAMBA_CONF", "conf")).absolute()


Other = tuple[str, tuple[str, ...]]
"""Scale and settings of a page."""


def _others(
    there: Iterable[Mapping[str, Any]], kind: str, page: str, plain: bool = False
) -> Iterator[tuple[Other, dict[str, str]]]:
    """Of the pages that are there of this kind and name: scale, settings, and what the command line said of each.

    `plain`: also of those without settings.
    """
    for data in there:
        settings, asked = tuple(data["settings"]), data.get("asked")
        if data.get(kind) == page and (settings or plain):
            said = {str(name): str(one) for name, one in asked.items()} if isinstance(asked, Mapping) else {}
            yield (data["scale"], settings), said


def _there(reports: Path) -> Iterator[dict[str, Any]]:
    """The data of each page in the site that is where a table, figure or sweep with these settings has its page."""
    for path in sorted(reports.glob("*/*.json")):
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            data |= {"sweep": swept.page_name(data["search"])} if "search" in data else {}
            page = next(data[kind] for kind in (*designs.KINDS, "sweep") if kind in data)
            scale, settings = data["scale"], data["settings"]
            place = pages.directory("", f"{page}-{scale}", settings).name
        except (OSError, ValueError, LookupError, TypeError, StopIteration):  # no page of ours
            continue
        if place == path.parent.name and all(isinstance(word, str) for word in (scale, *settings)):
            yield data
