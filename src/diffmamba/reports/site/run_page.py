"""The page of a run as a document: how it ended, its curves, its settings, and where it comes from."""

import json
import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from diffmamba.browse import plain
from diffmamba.browse.columns import UNTOLD
from diffmamba.browse.fields import text
from diffmamba.browse.listing import state
from diffmamba.browse.showing import by_group, circumstances, figure, going_on, in_one_line, trouble
from diffmamba.document import Block, Bullets, Charts, Code, Document, Entry, Folded, Grid, Paragraph, Section
from diffmamba.override import word
from diffmamba.reports.site import curves
from diffmamba.runs import index
from diffmamba.runs.form import Record
from diffmamba.runs.store import Run
from diffmamba.runs.summary import title

MOST_ROWS = 200  # of a measurement
MOST_EVALUATIONS = 60
LAST_LINES = 40  # of a log
LAST_BYTES = 20_000
MARK = b'<meta name="generator" content="diffmamba">'
"""In the head of the pages of runs."""
OF_WANDB = "wandb/latest-run/files/output.log"
TROUBLE = ("failed", "interrupted")
Link = tuple[str, str]
"""The text of a link and the page that it leads to, from the page of a run."""


@dataclass(frozen=True)
class Related:
    """What a run has to do with others.

    Args:
        pages: the tables, figures and sweeps that it belongs to.
        needed_by: the ids of the runs that start from its weights or measure them.
        weights: the page of the run whose weights it takes, where there is one.
        before: the names of the runs that had its id before.
    """

    pages: tuple[Link, ...] = ()
    needed_by: tuple[str, ...] = ()
    weights: Link | None = None
    before: tuple[str, ...] = ()


def document(run: Run, record: Record, entry: index.Entry, related: Related) -> Document:
    """What the page of a run says."""
    name = str(entry.setting("name") or title(record["config"], entry.measure or ""))
    blocks = (
        Paragraph(f"Run {run.id}: {state(entry)}.", "warning" if entry.status in TROUBLE else ""),
        *_trouble(run, record, entry),
        *(_measured(run, entry) if entry.kind == "measurement" else _trained(run, record, entry)),
        Section("Settings", tuple(_settings(entry))),
        Section("Where it comes from", (_facts(record, entry, related),)),
        *_log(run),
    )
    return Document(name, blocks, {})


def inputs(directory: Path) -> list[Path]:
    """The files beside its record that the page of a run is drawn from; some may not be there."""
    return [
        *(directory / name for name in (curves.LOGGED, curves.MEASURED)),
        Run(directory).last_checkpoint,
        *_logs(directory),
    ]


def is_ours(page: Path) -> bool:
    """Whether a page was written by this module's `document`: it has the mark of the template."""
    try:
        with page.open("rb") as file:
            return MARK in file.read(2000)
    except OSError:
        return False


def damaged(run: Run, reason: str) -> Document:
    """The page of a run whose record cannot be read."""
    goes_on = "goes on from its checkpoint" if run.last_checkpoint.exists() else "begins anew"
    told = (reason, f"The command of the run sets the record aside, and {goes_on}.")
    blocks = (Paragraph("Its record cannot be read.", "warning"), Bullets(told, "warning"), *_log(run))
    return Document(f"Run {run.id}", blocks, {})


def _trouble(run: Run, record: Record, entry: index.Entry) -> list[Block]:
    """The error, with what to do and the traceback."""
    advice = (record.get("error") or {}).get("advice")
    told = trouble(record, entry)
    items = [told["error"]] if "error" in told else []
    items += [str(advice)] if advice and entry.status == "failed" else []
    items += [f"To go on: {way}." for way in going_on(run, entry).values()]
    found: list[Block] = [Bullets(tuple(items), "warning")] if items else []
    traceback = str((record.get("error") or {}).get("traceback") or "")
    if entry.status == "failed" and traceback:
        found.append(Folded("Traceback", (Code(traceback, "Traceback"),)))
    return found


def _trained(run: Run, record: Record, entry: index.Entry) -> list[Block]:
    evaluations = record["evaluations"]
    drawn: list[Block] = []
    try:
        logged = curves.read_logged(run.directory / curves.LOGGED)
    except (OSError, ValueError) as error:
        logged = {}
        told = f"{curves.LOGGED} cannot be read, so the curves lack what it logged: {error}"
        drawn.append(Paragraph(told, "warning"))
    charts = curves.of_training(logged, record)
    drawn += [Section("Curves", (Charts(tuple(charts)), Paragraph(curves.BAND, "note")))] if charts else []
    if by_place := curves.by_place(record):
        drawn.append(Section("Accuracy by place", (Charts(tuple(by_place)), Paragraph(curves.PLACES, "note"))))
    if not evaluations:
        return [*drawn, Section("Evaluations", (Paragraph("It was not evaluated yet."),))]
    step = max(1, -(-len(evaluations) // MOST_EVALUATIONS))
    some = [*evaluations[:-1:step], evaluations[-1]]
    names = list(dict.fromkeys(name for at in some for name, value in at.items() if not isinstance(value, Mapping)))
    rows = [[figure(entry, name, at.get(name)) for name in names] for at in some]
    left_out = f"{len(some)} of {len(evaluations)} evaluations; all are in result.json." * (
        len(some) < len(evaluations)
    )
    return [*drawn, Section("Evaluations", (Grid.of(names, rows, words=0, caption=left_out),))]


def _measured(run: Run, entry: index.Entry) -> list[Block]:
    figures = [(name, figure(entry, name, value)) for name, value in entry.values.items()]
    blocks: list[Block] = (
        [Grid.of(["figure", "value"], figures)] if figures else [Paragraph("Nothing was measured yet.")]
    )
    path = run.directory / curves.MEASURED
    try:
        rows = curves.read_measured(path) if path.exists() else []
        charts = curves.of_measurement(rows)
    except (OSError, ValueError) as error:
        return [Section("Results", (*blocks, Paragraph(f"{curves.MEASURED} cannot be read: {error}", "warning")))]
    if charts:
        blocks.append(Charts(tuple(charts)))
    if rows:
        names = list(rows[0])
        more = f"The first {MOST_ROWS} of {len(rows):,} rows; all are in {curves.MEASURED}." * (len(rows) > MOST_ROWS)
        table = Grid.of(names, [[row.get(name, "") for name in names] for row in rows[:MOST_ROWS]], caption=more)
        blocks.append(Folded("What was measured", (table,)))
    return [Section("Results", tuple(blocks))]


def _settings(entry: index.Entry) -> list[Block]:
    """What makes the run, what differs from the default, and all settings."""
    every = Grid.of(["group", "settings"], list(by_group(entry).items()), words=2)
    folded = Folded("All settings", (every,))
    seed = entry.setting("seed")
    differing = _beside(_identity(entry))
    if differing is None:
        why = (
            "What its model, data or scale are by themselves is not known: their files are of another version or gone."
        )
        return [Paragraph(why, "note"), folded]
    words = [*plain.choices(entry.settings), *([f"seed={text(seed)}"] if seed is not None else [])]
    words += [_word(name, value) for name, (value, _) in differing.items()]
    rows = [(n, text(here, nothing="null"), text(default, nothing="null")) for n, (here, default) in differing.items()]
    told = (
        Grid.of(["setting", "here", "by default"], rows, words=3) if rows else Paragraph("All others are the default.")
    )
    return [Code(shlex.join(words), "The words that make the run"), told, folded]


def _word(name: str, value: Any) -> str:
    """A setting as a command line has it; numbers are as short as elsewhere."""
    return word(name, value) if isinstance(value, str) else f"{name}={text(value, nothing='null')}"


def _identity(entry: index.Entry) -> str:
    """All settings but those that tell runs of one configuration apart. `published` tells the experiment."""
    away = {*UNTOLD, "seed"} - {"published"}
    kept = {name: value for name, value in entry.settings.items() if name.partition(".")[0] not in away}
    return json.dumps(kept)


@cache
def _beside(settings: str) -> dict[str, tuple[Any, Any]] | None:
    """What differs from the default. Most runs share it with others, and to find it takes as long as all else."""
    found = plain.beside(json.loads(settings))
    return None if found is None else {name: pair for name, pair in found.items() if name != "seed"}


def _facts(record: Record, entry: index.Entry, related: Related) -> Grid:
    facts: list[tuple[str, str | Entry]] = [("belongs to", Entry(said, link=page)) for said, page in related.pages]
    weights = record.get("weights")
    if weights:
        facts.append(("weights", Entry(in_one_line(weights), link=related.weights[1] if related.weights else "")))
    facts += [("needed by", Entry(name, link=f"{quote(name)}.html")) for name in related.needed_by]
    facts += [("set aside before", name) for name in related.before]
    facts += [("group", str(entry.setting("group")))] if entry.setting("group") else []
    facts += list(circumstances(record, entry).items())
    return Grid.of(["what", "of this run"], facts, words=2)


def _log(run: Run) -> list[Block]:
    """The last lines of its latest log, if it has one."""
    found: list[tuple[float, Path]] = []
    for path in _logs(run.directory):
        with suppress(OSError):
            found.append((path.stat().st_mtime, path))
    for _, path in sorted(found, reverse=True)[:1]:
        with suppress(OSError), path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - LAST_BYTES))
            last = "\n".join(log.read(LAST_BYTES).decode("utf-8", errors="replace").splitlines()[-LAST_LINES:])
            name = str(path.relative_to(run.directory))
            return [Section("Log", (Paragraph(f"The last lines of {name}.", "note"), Code(last, name)))] if last else []
    return []


def _logs(directory: Path) -> list[Path]:
    """The logs of a run. One look at its folder: a store may hold thousands."""
    with suppress(OSError):
        names = os.listdir(directory)
        logs = sorted(directory / name for name in names if name.endswith(".log"))
        return [*logs, *[directory / OF_WANDB] * ("wandb" in names)]
    return []
