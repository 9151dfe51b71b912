"""The first page of the site: how far each table, figure and sweep is, what else the store holds, and all runs."""

import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from diffmamba.browse import columns, listing
from diffmamba.browse.fields import Names, moment, shown, value
from diffmamba.document import Block, Bullets, Grid, Paragraph, Section
from diffmamba.document import Entry as Cell
from diffmamba.reports import render
from diffmamba.reports.site.subject_pages import Part
from diffmamba.reports.site.subjects import DAMAGED, MISSING, ORDER, Subject, status
from diffmamba.runs.index import Entry, Found, names_in
from diffmamba.runs.store import BEFORE

HEADINGS = {"table": "Tables", "figure": "Figures", "sweep": "Sweeps"}
STANDARD = ("data.name", "model.name", "scale.name", "seed")
MOST_SETTINGS = 6  # columns of the list for what tells runs apart, beside the standard ones
MOST_TOLD = 50  # items of a list of troubles


@dataclass(frozen=True)
class Card:
    """What the overview says of a subject: see `overview.html`."""

    title: str
    told: str
    pages: tuple[tuple[str, str], ...] = ()
    bar: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Overview:
    """What the first page is drawn from.

    Args:
        runs, reports: the run store and the site, as a command would name them.
        found: its runs.
        subjects: what has a page or could have one.
        drawn: the pages that there are of them.
        wrong: why a subject has no page.
        others: folders in the site with a page that this store has no run of.
        strangers: names in the store that are no runs.
        belongs: the labels of the subjects that each run belongs to.
    """

    runs: str
    reports: str
    found: Found
    subjects: Sequence[Subject]
    drawn: Sequence[Part]
    wrong: Sequence[tuple[Subject, str]] = ()
    others: Sequence[str] = ()
    strangers: Sequence[str] = ()
    belongs: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def page(self) -> str:
        """The content of `index.html`."""
        cards = {kind: [self._card(one) for one in self._shown(kind)] for kind in HEADINGS}
        sections = [(heading, cards[kind]) for kind, heading in HEADINGS.items() if cards[kind]]
        context = {"head": self._head(), "sections": sections, "blocks": self._blocks()}
        return render.TEMPLATES.get_template("overview.html").render(title=f"Runs in {self.runs}", **context)

    def data(self) -> str:
        """The content of `runs.js`: the rows of the list of all runs, the most recent first."""
        entries = dict(sorted(self.found.entries.items(), key=lambda one: (one[1].when, one[0]), reverse=True))
        heads, rows = self._rows(entries)
        rows += [[name, "damaged", *[""] * (len(heads) - 2)] for name in self.found.damaged]
        content = json.dumps({"columns": heads, "rows": rows}, ensure_ascii=False, separators=(",", ":"))
        return f"showRuns({content});\n".replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")

    def _shown(self, kind: str) -> Iterator[Subject]:
        """The subjects of a kind that the store holds some of; then of the others one for each name."""
        of_kind = [one for one in self.subjects if one.kind == kind]
        held = {one.name for one in of_kind if self.is_held(one)}
        yield from filter(self.is_held, of_kind)
        for subject in of_kind:
            if subject.name not in held and not subject.settings:
                held.add(subject.name)
                yield subject

    def is_held(self, subject: Subject) -> bool:
        """Whether the store holds a run of it."""
        return any(status(one, self.found) != MISSING for one in subject.ids)

    def _card(self, subject: Subject) -> Card:
        if error := subject.error or subject.plan.error:
            return Card(subject.title, "", notes=(error,))
        counts = subject.counts(self.found)
        total, held = sum(counts.values()), self.is_held(subject)
        told = [f"{count} {status}" for status, count in counts.items()] if held else ["no run yet"]
        left = total - counts.get("finished", 0) - counts.get("stopped", 0) or not held
        what = "The rest is done by" if held else "It is done by"
        commands = ((what, subject.command(self.found.entries, self.runs, self.reports)),) * bool(left)
        pages = [(page.kind, f"{quote(page.folder)}/index.html") for page in self.drawn if page.subject is subject]
        count = f"{_counted(total, 'run')}: {', '.join(told)}." if total else "It has no run yet."
        notes = [note for page, note in self.wrong if page is subject]
        return Card(subject.title, count, tuple(pages), tuple(counts.items()), tuple(notes), commands)

    def _head(self) -> list[Block]:
        entries = list(self.found.entries.values())
        if not entries:
            return [Paragraph("The store holds no run yet.")]
        latest = max(entry.when for entry in entries)
        told = f"{listing.counts(entries)}. The latest is of {moment(latest)}."
        return [Paragraph(told), *self._trouble()]

    def _trouble(self) -> list[Block]:
        blocks: list[Block] = []
        damaged = [f"{name}: {reason}" for name, reason in self.found.damaged.items()]
        halves = [f"{n}: {listing.state(e)}" for n, e in self.found.entries.items() if e.status == "interrupted"]
        for items, what in (
            (damaged, "Records that cannot be read, so that their runs count nowhere"),
            (halves, "Interrupted runs, whose command goes on with them"),
            (list(self.strangers), "What lies in the store and is no run, or began and has no record yet"),
        ):
            if items:
                more = [f"and {len(items) - MOST_TOLD:,} more"] * (len(items) > MOST_TOLD)
                blocks += [
                    Paragraph(f"{what} ({len(items):,}):", "warning"),
                    Bullets((*items[:MOST_TOLD], *more), "warning"),
                ]
        return blocks

    def _blocks(self) -> list[Block]:
        """The runs that belong to nothing, by group, and the pages of others."""
        free: dict[str, Counter[str]] = {}
        for name, entry in self.found.entries.items():
            if name not in self.belongs:
                free.setdefault(str(entry.setting("group") or ""), Counter())[entry.status] += 1
        blocks: list[Block] = []
        if free:
            statuses = [status for status in ORDER if status not in (MISSING, DAMAGED)]
            rows: list[list[str | Cell]] = [
                [Cell(group or "without a group", link=_find(group)), *(str(counts[one] or "–") for one in statuses)]
                for group, counts in sorted(free.items())
            ]
            grid = Grid.of(["group", *statuses], rows)
            blocks.append(Section("Runs that belong to no table, figure or sweep", (grid,)))
        if self.others:
            linked = [[Cell(name, link=f"{quote(name)}/index.html")] for name in self.others]
            note = Paragraph(
                "They lie in the same folder. This store has no run of them, so they stay as they are.", "note"
            )
            blocks.append(Section("Other pages", (note, Grid.of(["page"], linked))))
        return blocks

    def _rows(self, entries: Mapping[str, Entry]) -> tuple[list[dict[str, Any]], list[list[Any]]]:
        every = list(entries.values())
        names = Names(every)
        headlines = listing.headlines(every)
        labels = [name for name in ("group",) if any(entry.setting(name) for entry in every)]
        told = [name for name in columns.telling(every) if name not in (*columns.FIRST, "weights")][:MOST_SETTINGS]
        asked = [*headlines, *STANDARD, *told, *labels, "seconds", "when"]
        numbers = {name: any(_is_number(value(entry, name)) for entry in every) for name in asked}
        heads: list[dict[str, Any]] = [{"header": "run", "word": True}, {"header": "status", "word": True}]
        heads += [{"header": names.short(name), "word": not numbers[name]} for name in headlines]
        heads += [{"header": "what", "word": True}]
        rest = asked[len(headlines) :]
        heads += [{"header": names.short(name), "word": not numbers[name]} for name in rest]
        heads += [{"header": "belongs to", "word": True}]
        rows = [
            [
                *(name, listing.state(entry)),
                *(_cell(entry, one) for one in headlines),
                str(entry.setting("name") or entry.measure or entry.kind),
                *(_cell(entry, one) for one in rest),
                ", ".join(self.belongs.get(name, ())),
            ]
            for name, entry in entries.items()
        ]
        return heads, rows


def strangers(store: Path) -> list[str]:
    """The names in a store that are no runs: files, and folders without a record."""
    known, found = set(names_in(store)), []
    for path in sorted(store.iterdir()):
        no_text = path.name not in known
        if path.name.startswith(".") or BEFORE in path.name or ((path / "result.json").exists() and not no_text):
            continue
        name = os.fsencode(path).rpartition(b"/")[2].decode(errors="backslashreplace")
        what = "a folder without a record" if path.is_dir() else "a file"
        found.append(f"{name}: {'its name is not UTF-8' if no_text else what}")
    return found


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"


def _find(group: str) -> str:
    """The list of all runs with a word searched for."""
    return f"#find={quote(group)}" if group else ""


def _cell(entry: Entry, name: str) -> Any:
    """The text of a cell, with the number to sort by where it is one."""
    found = value(entry, name)
    return [shown(entry, name), found] if _is_number(found) else shown(entry, name)


def _is_number(found: Any) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)
