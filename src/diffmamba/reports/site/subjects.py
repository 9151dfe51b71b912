"""What the site has a page for beside runs: each table, figure and sweep at each scale that the store holds some of."""

import json
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffmamba.configuration import CONF
from diffmamba.errors import SettingError
from diffmamba.reports import Design, designs, pages
from diffmamba.reports.site.plans import Asked, Plan
from diffmamba.runs.form import is_tried_again
from diffmamba.runs.index import Entry

SMALLEST = "smoke"
MISSING = "missing"
ORDER = ("finished", "stopped", "running", "interrupted", "failed", MISSING)
"""How a run of a subject stands, in the order of a bar."""


@dataclass(frozen=True)
class Subject:
    """A table, figure or sweep at a scale, with further settings or none.

    `design` is None for a sweep, and where its file fails: then `error` says why.
    """

    kind: str
    name: str
    title: str
    sweep: str
    scale: str
    settings: tuple[str, ...] = ()
    design: Design | None = None
    error: str = ""
    plan: Plan = field(default_factory=Plan)

    @property
    def asked(self) -> Asked:
        """What its plan is expanded from."""
        return self.sweep, (f"scale={self.scale}", *self.settings)

    @property
    def folder(self) -> str:
        """The folder of its page in the site."""
        return pages.directory("", f"{self.name}-{self.scale}", self.settings).name

    @property
    def ids(self) -> list[str]:
        """Its runs, each once."""
        return list(dict.fromkeys(run_id for run_id, _ in self.plan.cells))

    @property
    def label(self) -> str:
        """Its name with what tells it from others of this name."""
        return " ".join([self.name, self.scale, *self.settings])

    def counts(self, entries: Mapping[str, Entry]) -> dict[str, int]:
        """How many of its runs stand how, in the order of `ORDER`."""
        found = Counter(entries[one].status if one in entries else MISSING for one in self.ids)
        return {status: found[status] for status in ORDER if found[status]}

    def command(self, entries: Mapping[str, Entry], runs: str) -> str:
        """The command that does the rest."""
        failed = [entries[one] for one in self.ids if one in entries and entries[one].status == "failed"]
        words = [f"{self.kind}={self.name}", f"scale={self.scale}", *self.settings]
        words += ["retry=failed"] * any(not is_tried_again(entry.error) for entry in failed)
        words += [f"runs={runs}"] * (runs != "runs")
        return shlex.join(["python", "-m", f"diffmamba.{'sweep' if self.kind == 'sweep' else 'reproduce'}", *words])


def candidates(entries: Iterable[Entry], reports: Path) -> list[Subject]:
    """Each table, figure and sweep at each scale of some run, and the pages that were made with other settings."""
    told = {str(entry.setting("scale.name")) for entry in entries}
    scales = [name for name in _files("scale") if name in told] or [SMALLEST]
    found = []
    for kind, name, design, error in _designs():
        title, sweep = (design.title, design.sweep) if design else (name, "")
        for scale in scales:
            found.append(Subject(kind, name, title, sweep, scale, design=design, error=error))
        found += [
            Subject(kind, name, f"{title}, with {' '.join(settings)}", sweep, scale, settings, design)
            for scale, settings in _others(reports, kind, name)
            if design
        ]
    found += [Subject("sweep", name, f"Sweep {name}", name, scale) for name in _files("sweeps") for scale in scales]
    return found


def _designs() -> Iterator[tuple[str, str, Design | None, str]]:
    for kind in designs.KINDS:
        for name in designs.names(kind):
            try:
                yield kind, name, designs.find(kind, name), ""
            except SettingError as error:  # a file of the user's own
                yield kind, name, None, str(error)


def _files(group: str) -> list[str]:
    """The choices of a group of configurations, ours and the user's."""
    places = (Path(CONF), Path(os.environ.get("DIFFMAMBA_CONF", "conf")).absolute())
    return sorted({file.stem for place in places for file in (place / group).glob("*.yaml")})


def _others(reports: Path, kind: str, name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Scale and settings of the pages in the site that were made with settings."""
    for folder in sorted(reports.glob(f"{name}-*")):
        data = _data(folder / ("table.json" if kind == "table" else f"{name}.json"))
        scale, settings = data.get("scale"), data.get("settings")
        if data.get(kind) != name or not isinstance(scale, str) or not _are_words(settings) or not settings:
            continue
        if pages.directory("", f"{name}-{scale}", settings).name == folder.name:
            yield scale, tuple(settings)


def _are_words(settings: Any) -> bool:
    return isinstance(settings, list) and all(isinstance(word, str) for word in settings)


def _data(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no page of ours
        return {}
    return content if isinstance(content, dict) else {}
