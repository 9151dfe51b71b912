"""The plans of sweeps: which runs belong to a table, figure or sweep. They are kept between two builds.

To expand a plan takes PyTorch and seconds, so it is done in a child process, and again only when a configuration, our
code or the data that the store knows have changed; that of a search also when its group has another run.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra

from diffmamba import atomic
from diffmamba.errors import SettingError
from diffmamba.reports.site.children import children
from diffmamba.reports.site.manifest import FOLDER, digest
from diffmamba.runs.form import Record
from diffmamba.runs.index import Entry
from diffmamba.runs.store import RunStore

NAME = "plans.json"
COUNTED = "  "
"""Begins a line that tells how far something is, which a terminal alone shows."""
MOST_TRIED = 20  # runs with the same data that are asked for it
Asked = tuple[str, tuple[str, ...]]
"""A sweep and further words."""
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """The works that a sweep asks for, in its order. `error` says why there are none.

    Args:
        cells: the id of each work, its configuration, and those of further cells that are this same work. Of a search,
            the id of each trial, and the settings that it was given.
        group: that its runs have.
        varied: the settings that vary.
        title, baseline: of its page, as its file gives them.
        search: whether it is a search; then `trials` are to be done in all, if it says so, and `members` names the runs
            that were looked at.
    """

    cells: Sequence[tuple[str, Config, Sequence[Config]]] = ()
    error: str = ""
    group: str | None = None
    varied: Sequence[str] = ()
    title: str = ""
    baseline: str = ""
    search: bool = False
    trials: int | None = None
    members: str = ""

    @property
    def works(self) -> list[tuple[str, Config]]:
        """Each work with its configuration: the cells of a table."""
        return [(run_id, config) for run_id, config, _ in self.cells]

    @property
    def rows(self) -> list[tuple[str, Config]]:
        """Each cell of its grid with its configuration; a work that several are stands there for each."""
        return [(run_id, one) for run_id, config, alike in self.cells for one in (config, *alike)]


class Plans:
    """What is kept of plans in a site. `known` are records that tell the data of the store: see `data_known`."""

    def __init__(self, reports: Path, stamp: str, store: RunStore, entries: Mapping[str, Entry]) -> None:
        self._path, self._store = reports / FOLDER / NAME, store
        self._known = _data_known(store, entries.values())
        self._groups: dict[str, list[str]] = {}
        for name, entry in entries.items():
            self._groups.setdefault(str(entry.setting("group")), []).append(name)
        self._current = digest(stamp, {name: record["corpus"] for name, record in self._known.items()})

    def of(self, asked: Iterable[Asked], told: Callable[[str], object] = lambda line: None) -> dict[Asked, Plan]:
        """The plan of each. How far it is, it is told."""
        wanted, kept = list(dict.fromkeys(asked)), self._read()
        if lacking := [one for one in wanted if one not in kept]:
            told(f"expanding {len(lacking)} plan{'s' * (len(lacking) > 1)}")
            with children(1, _begin, self._store.directory, self._known) as child:
                found = [child.submit(_expanded, one) for one in lacking]
                for at, (one, made) in enumerate(zip(lacking, found, strict=True), 1):
                    plan = made.result()
                    kept[one] = Plan(**plan | {"members": self._members(plan["group"])})
                    told(f"{COUNTED}{at} of {len(lacking)} plans: {' '.join((one[0], *one[1]))}")
            plans = [[sweep, list(words), asdict(kept[sweep, words])] for sweep, words in kept]
            content = {"digest": self._current, "of": digest(plans), "plans": plans}
            atomic.write(self._path, json.dumps(content, ensure_ascii=False))
        return {one: kept[one] for one in wanted}

    def _read(self) -> dict[Asked, Plan]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            if content["digest"] != self._current or content["of"] != digest(content["plans"]):
                return {}
            kept = {(sweep, tuple(words)): Plan(**plan) for sweep, words, plan in content["plans"]}
        except (OSError, ValueError, LookupError, TypeError):
            return {}
        return {one: plan for one, plan in kept.items() if not plan.search or plan.members == self._members(plan.group)}

    def _members(self, group: str | None) -> str:
        return digest(sorted(self._groups.get(str(group), [])))


def _data_known(store: RunStore, entries: Iterable[Entry]) -> dict[str, Record]:
    """For each data of the store, the record of the latest run that has read them."""
    alike: dict[tuple[int, int], list[Entry]] = {}
    for entry in entries:  # runs share equal parts, so these need not be compared
        alike.setdefault((id(entry.parts.get("data")), id(entry.parts.get("measured"))), []).append(entry)
    found = {}
    for group in alike.values():
        for entry in sorted(group, key=lambda one: one.started, reverse=True)[:MOST_TRIED]:
            record = store.run(entry.id).read()
            if record is not None and "corpus" in record:
                found[entry.id] = record
                break
    return found


_store: tuple[Path, Mapping[str, Record]] = Path(), {}
"""In the process that expands: the store, and the records that tell its data."""


def _begin(store: Path, known: Mapping[str, Record]) -> None:
    global _store
    _store = store, known
    GlobalHydra.instance().clear()  # it may be at work in the process that this one comes from


def _expanded(asked: Asked) -> dict[str, Any]:
    """A plan as it is read from the file."""
    return dict(json.loads(json.dumps(asdict(_plan(*asked, *_store)))))


def _plan(sweep: str, words: Sequence[str], store: Path, known: Mapping[str, Record]) -> Plan:
    from diffmamba.runs.described import describe
    from diffmamba.runs.plan import expand
    from diffmamba.runs.trials import trials_of

    try:
        told = describe(sweep, words)
        said: dict[str, Any] = {"group": told.group, "varied": told.varied, "title": told.title}
        said |= {"baseline": told.baseline, "search": told.search, "trials": told.trials}
        if told.search:
            trials = trials_of(told, RunStore(store), known)
            return Plan([(record["id"], values, ()) for values, record in trials], **said)
        planned = expand(sweep, words, prepare=False, records=known)
    except SettingError as error:
        return Plan(error=str(error))
    except Exception as error:  # of a user's own code
        return Plan(error=f"its plan cannot be expanded: {type(error).__name__}: {error}")
    return Plan([(item.id, item.config, item.alike) for item in planned if item.asked], **said)
