"""Builds the site: finds what has changed since the last build, and draws the pages of that."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from diffmamba import atomic
from diffmamba.document import Bullets, Document, Paragraph
from diffmamba.errors import SettingError
from diffmamba.reports import render
from diffmamba.reports.site import manifest, run_page
from diffmamba.reports.site.children import children
from diffmamba.reports.site.overview import Overview, strangers
from diffmamba.reports.site.plans import Plans
from diffmamba.reports.site.run_page import Related
from diffmamba.reports.site.subject_pages import Part, parts
from diffmamba.reports.site.subjects import MISSING, Subject, candidates, status
from diffmamba.runs.index import Found, look, names_in
from diffmamba.runs.store import RunStore

FEW = 60  # pages of runs that this process draws alone
AT_ONCE = 40  # pages that a process is given
TEMPLATES = Path(render.__file__).parent / "templates"
SCRIPTS = ("charts.js", "links.js", "list.js")
STYLES = ("page.css", "site.css")
LIBRARY = ("bokeh.min.js", "bokeh-api.min.js")
ASSETS, RUNS, INDEX, LIST = "assets", "runs", "index.html", "runs.js"


@dataclass(frozen=True)
class Built:
    """What a build did: how many pages there are, how many of them it has drawn or removed, and why not all."""

    pages: int
    drawn: int
    removed: int
    wrong: Mapping[str, str] = field(default_factory=dict)


def build(runs: str, directory: Path, told: Callable[[str], object] = lambda line: None) -> Built:
    """Brings the site in `directory` up to date with the run store `runs`. It is told what takes time.

    Raises SettingError where there is no store, and OSError where the site cannot be written.
    """
    store = RunStore(runs)
    store.require_directory()
    if (directory / RUNS).resolve() == store.directory.resolve():
        raise SettingError(
            f"reports={directory} would put pages into the run store {store.directory}; name another place"
        )
    with manifest.alone(directory, told):
        return _Build(store, runs, directory, told).run()


@dataclass
class _Build:
    """One build. `keys` tell of each run whether its files are those that its page was drawn from.

    `failed` says of pages why they could not be drawn, which nobody expects of any.
    """

    store: RunStore
    runs: str
    directory: Path
    told: Callable[[str], object]
    found: Found = field(init=False)
    pages: dict[str, manifest.Drawn] = field(default_factory=dict)
    wrong: list[tuple[Subject, str]] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    drawn: int = 0

    def run(self) -> Built:
        self.before, self.stamp = manifest.read(self.directory), manifest.stamp()
        keys = _keys(self.store.directory)  # first: a record that changes from now on is drawn again by the next build
        if not self.before:
            self.told(f"reading {len(keys):,} run{'s' * (len(keys) != 1)}")
        self.found = look(self.store)
        subjects = self._planned()
        self._write_assets()
        drawn = self._draw_subjects(subjects, keys)
        self._draw_runs(keys, _related(self.found, drawn, keys))
        self._draw_overview(subjects, drawn)
        removed = self._remove()
        kept = {page: drawn for page, drawn in self.pages.items() if page not in self.failed}
        states = {page: drawn if len(drawn) > 1 else [*drawn, self._state(page)] for page, drawn in kept.items()}
        manifest.write(self.directory, states)
        return Built(len(self.pages), self.drawn, removed, self.failed)

    def _planned(self) -> list[Subject]:
        """All subjects with their plans."""
        wanted = candidates(self.found.entries.values(), self.directory)
        if not self.found.entries:  # then no plan tells anything
            return wanted
        plans = Plans(self.directory, self.stamp, self.store, self.found.entries)
        made = plans.of((one.asked for one in wanted if one.sweep), self.told)
        return [replace(one, plan=made[one.asked]) if one.sweep else one for one in wanted]

    def _is_current(self, page: str, *inputs: Any) -> bool:
        """Whether a page is there as it was drawn from these inputs. Keeps them for the next build."""
        self.pages[page] = [manifest.digest(self.stamp, str(self.store.directory.resolve()), *inputs)]
        state = self._state(page)
        current = bool(state) and self.before.get(page) == [*self.pages[page], state]
        self.drawn += not current
        return current

    def _state(self, page: str) -> list[int]:
        return manifest.state(self.directory / page)

    def _draw_subjects(self, subjects: Sequence[Subject], keys: Mapping[str, Any]) -> list[Part]:
        """Draws the pages of tables, figures and sweeps that have changed. Returns all that there are."""
        drawn = []
        for part in (part for subject in subjects for part in parts(subject)):
            if all(status(one, self.found) == MISSING for one in part.ids):
                continue
            states = [[one, keys.get(one), status(one, self.found)] for one in part.ids]
            page = f"{part.folder}/{INDEX}"
            try:
                if not self._is_current(page, part.subject.label, dict(part.subject.asked_for), states):
                    part.write(self.store, self.found, self.directory)
                self.pages[page].append(self._state(page))  # now: another command may write it from here on
                drawn.append(part)
            except SettingError as error:
                del self.pages[page]
                self.wrong.append((part.subject, str(error)))
            except Exception as error:  # of one page: the others are drawn
                _raise_of_a_disk(error)
                del self.pages[page]
                self.failed[page] = why(error)
                self.wrong.append((part.subject, f"its page could not be drawn: {why(error)}"))
        return drawn

    def _draw_runs(self, keys: Mapping[str, Any], related: Mapping[str, Related]) -> None:
        """Draws the pages of runs that have changed."""
        entries, damaged = self.found
        changed = []
        for name in sorted({*entries, *damaged}):
            entry = entries.get(name)
            now = [entry.status, entry.step if entry.status == "running" else None] if entry else damaged[name]
            about = related.get(name, Related())
            if not self._is_current(f"{RUNS}/{name}.html", keys.get(name), now, _plain(about)):
                changed.append(name)
        (self.directory / RUNS).mkdir(exist_ok=True)
        task = _Task(self.store.directory, self.directory / RUNS, self.found, related)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if len(changed) <= FEW or cores == 1:
            self.failed |= task.draw(changed)
            return
        self.told(f"drawing {len(changed):,} pages of runs")
        with children(cores, _begin, task) as processes:
            starts = range(0, len(changed), AT_ONCE)
            for made in [processes.submit(_draw, changed[start : start + AT_ONCE]) for start in starts]:
                self.failed |= made.result()

    def _draw_overview(self, subjects: Sequence[Subject], drawn: Sequence[Part]) -> None:
        belongs: dict[str, list[str]] = {}
        for subject in subjects:
            for one in subject.ids:
                belongs.setdefault(one, []).append(subject.label)
        folders = {path.parent.name for path in self.directory.glob(f"*/{INDEX}")}
        others = sorted(folders - {*(part.folder for part in drawn), ASSETS, RUNS})
        strange = strangers(self.store.directory)
        page = Overview(
            self.runs, str(self.directory), self.found, subjects, drawn, self.wrong, others, strange, belongs
        )
        for name, draw in ((LIST, page.data), (INDEX, page.page)):
            try:
                content = draw()
            except Exception as error:  # a record may say anything
                self.failed[name] = why(error)
                continue
            if not self._is_current(name, content):
                atomic.write(self.directory / name, content)

    def _write_assets(self) -> None:
        """The scripts and the style. They are part of the version that every page depends on."""
        folder = self.directory / ASSETS
        folder.mkdir(exist_ok=True)
        bokeh = find_spec("bokeh")
        assert bokeh is not None
        assert bokeh.origin is not None
        library = Path(bokeh.origin).parent / "server" / "static" / "js"
        files = {name: [TEMPLATES / name] for name in SCRIPTS} | {name: [library / name] for name in LIBRARY}
        for name, sources in (files | {"style.css": [TEMPLATES / style for style in STYLES]}).items():
            if not self._is_current(f"{ASSETS}/{name}"):
                atomic.write(folder / name, b"".join(source.read_bytes() for source in sources))

    def _remove(self) -> int:
        """Removes the pages of runs that are gone, and what a killed build has left."""
        gone = [path for path in (self.directory / RUNS).glob("*.html") if f"{RUNS}/{path.name}" not in self.pages]
        gone = [path for path in gone if f"{RUNS}/{path.name}" in self.before or run_page.is_ours(path)]
        for path in gone:
            path.unlink(missing_ok=True)
        for folder in (RUNS, ASSETS, manifest.FOLDER):
            atomic.remove_leftovers(self.directory / folder)
        return len(gone)


@dataclass(frozen=True)
class _Task:
    """What the processes that draw the pages of runs have in common."""

    store: Path
    folder: Path
    found: Found
    related: Mapping[str, Related]

    def draw(self, names: Iterable[str]) -> dict[str, str]:
        """Draws the pages of these runs. Returns why a page could not be drawn, which then says so itself."""
        failed = {}
        for name in names:
            try:
                page = _run_page(self._document(name))
            except Exception as error:  # a record may say anything
                _raise_of_a_disk(error)
                failed[f"{RUNS}/{name}.html"] = why(error)
                told = (Paragraph("This page could not be drawn.", "warning"), Bullets((why(error),), "warning"))
                page = _run_page(Document(f"Run {name}", told, {}))
            atomic.write(self.folder / f"{name}.html", page)
        return failed

    def _document(self, name: str) -> Document:
        run, entry = RunStore(self.store).run(name), self.found.entries.get(name)
        try:
            record = run.load() if entry else None
        except SettingError as error:  # damaged since it was listed
            return run_page.damaged(run, str(error))
        if record is None or entry is None:
            return run_page.damaged(run, self.found.damaged.get(name, f"{run.result} is gone"))
        return run_page.document(run, record, entry, self.related.get(name, Related()))


def _run_page(document: Document) -> str:
    return render.TEMPLATES.get_template("run.html").render(document=document, drawn=True)


def why(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _raise_of_a_disk(error: Exception) -> None:
    """Raises an error of a disk, which is not of one page."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error


_task: _Task | None = None
"""In a process that draws: what it is to draw from."""


def _begin(task: _Task) -> None:
    global _task
    _task = task


def _draw(names: Sequence[str]) -> dict[str, str]:
    assert _task is not None
    return _task.draw(names)


def _keys(store: Path) -> dict[str, Any]:
    """Of each run, what tells whether its files have changed: its record, its rows, its checkpoint and its logs."""
    found = {}
    for name in names_in(store):
        record = manifest.state(store / name / "result.json")
        if record:
            found[name] = [record, *map(manifest.state, run_page.inputs(store / name))]
    return found


def _related(found: Found, drawn: Sequence[Part], keys: Mapping[str, Any]) -> dict[str, Related]:
    """What each run has to do with others."""
    pages: dict[str, list[tuple[str, str]]] = {}
    for part in drawn:
        for one in part.ids:
            said = f"{part.subject.label}: {part.kind}" if part.kind else part.subject.label
            pages.setdefault(one, []).append((said, f"../{quote(part.folder)}/{INDEX}"))
    needed_by: dict[str, list[str]] = {}
    for name, entry in found.entries.items():
        if entry.weights:
            needed_by.setdefault(entry.weights, []).append(name)
    related = {}
    for name, entry in found.entries.items():
        source = entry.weights
        weights = (source, f"{quote(source)}.html") if source is not None and source in keys else None
        related[name] = Related(tuple(pages.get(name, ())), tuple(sorted(needed_by.get(name, ()))), weights)
    return related


def _plain(about: Related) -> list[Any]:
    return [about.pages, about.needed_by, about.weights, about.before]
