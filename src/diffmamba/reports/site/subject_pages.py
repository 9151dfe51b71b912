"""The pages of a table, figure or sweep, written as `reproduce` and `report` write them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diffmamba import reports
from diffmamba.other_sources import source_warnings
from diffmamba.reports import Design, searched, swept
from diffmamba.reports.records import damaged_record
from diffmamba.reports.site.subjects import Subject
from diffmamba.runs.form import Record
from diffmamba.runs.index import Found
from diffmamba.runs.measured import rows_in
from diffmamba.runs.store import RunStore


@dataclass(frozen=True)
class Part:
    """What one page of a subject shows: some of its works. `kind` tells them from the others of a sweep."""

    subject: Subject
    folder: str
    cells: Sequence[tuple[str, Mapping[str, Any]]]
    kind: str = ""

    @property
    def ids(self) -> list[str]:
        """Its runs, each once."""
        return list(dict.fromkeys(run_id for run_id, _ in self.cells))

    def write(self, store: RunStore, found: Found, reports_: Path) -> None:
        """Draws the page. Raises SettingError for works that one table cannot hold."""
        records = _records(self.ids, store, found)
        subject, directory = self.subject, reports_ / self.folder
        if subject.plan.search:
            reports.write_page(self._search(records), directory)
            return
        design = subject.design or self._design()
        results = reports.results(design, self.cells, records, subject.scale, subject.settings, rows_in(store))
        results = replace(results, sources=source_warnings(results))
        if subject.settings and not all(any(c.key.is_baseline for c in cells) for cells in results.groups.values()):
            from diffmamba.other_settings import without_baseline  # here: it imports PyTorch

            results = replace(results, without_baseline=without_baseline(design, results, subject.asked[1]))
        reports.write(design, results, directory)

    def _design(self) -> Design:
        subject = self.subject
        said = {"baseline": subject.plan.baseline, "title": subject.plan.title, **subject.asked_for}
        varied = subject.plan.varied
        made = swept.design_of(subject.name, self.cells, said["baseline"], said["title"], varied, self.kind)
        return replace(made, asked=subject.asked_for)

    def _search(self, records: Mapping[str, Record]) -> Any:
        subject, plan = self.subject, self.subject.plan
        trials = [(values, records[run_id]) for run_id, values in self.cells if run_id in records]
        title, settings = subject.asked_for.get("title") or plan.title, subject.settings
        search = searched.search_of(subject.name, title, trials, subject.scale, settings, plan.trials)
        return searched.document(search)


def parts(subject: Subject) -> Iterator[Part]:
    """The pages of a subject: of a sweep, one for its trainings and one for each of its measures."""
    if subject.design:
        yield Part(subject, subject.folder(subject.name), subject.plan.works)
    elif subject.plan.search:
        yield Part(subject, subject.folder(swept.page_name(subject.name)), subject.plan.works)
    elif subject.kind == "sweep" and subject.plan.cells:
        for kind, cells in swept.kinds(subject.plan.rows).items():
            yield Part(subject, subject.folder(swept.page_name(subject.name, kind)), cells, kind)


def _records(ids: Sequence[str], store: RunStore, found: Found) -> dict[str, Record]:
    """The records that there are of these runs, with the status that each has now; of a damaged one its reason."""
    entries = found.entries
    there = {one: store.run(one).read() for one in ids if one in entries}
    damaged = {one: damaged_record(found.damaged[one]) for one in ids if one in found.damaged}
    return {o: {**record, "status": entries[o].status} for o, record in there.items() if record is not None} | damaged
