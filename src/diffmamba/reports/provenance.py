"""Where the numbers of a table come from, and what a reader should know before comparing them.

Revision, corpus, versions and hardware are those of the runs that count in a mean; time is that of every run.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from diffmamba.reports.record import Run
from diffmamba.reports.table import Table


@dataclass(frozen=True)
class Provenance:
    """The origin of a table's numbers. Counts are numbers of runs; `versions` maps a package to the versions seen."""

    revisions: dict[str, int]
    dirty: int
    corpora: list[dict[str, Any]]
    versions: dict[str, list[str]]
    hardware: dict[str, int]
    wall_seconds: float
    tokens_per_second: tuple[float, float, float] | None
    last_finished: str | None


def of(table: Table) -> Provenance:
    """The provenance of `table`; `tokens_per_second` is lowest, median and highest over its runs."""
    runs = table.counted
    speeds = [run.tokens_per_second for run in runs if run.tokens_per_second is not None]
    return Provenance(
        revisions=dict(Counter(str(run.git.get("revision") or "unknown") for run in runs)),
        dirty=sum(bool(run.git.get("dirty")) for run in runs),
        corpora=_distinct(dict(run.corpus) for run in runs if run.corpus),
        versions=_versions(runs),
        hardware=dict(Counter(_words(run.hardware) for run in runs if run.hardware)),
        wall_seconds=sum(run.wall_seconds or 0.0 for run in table.runs),
        tokens_per_second=(min(speeds), median(speeds), max(speeds)) if speeds else None,
        last_finished=max((run.finished_at for run in runs if run.finished_at), default=None),
    )


def warnings(table: Table) -> list[str]:
    """What makes rows of this table less comparable than they look."""
    source = of(table)
    found = _mixed_corpora(table)
    if len(source.revisions) > 1:
        revisions = [
            f"{revision[:12]} (in {count} of {len(table.counted)} runs)" for revision, count in source.revisions.items()
        ]
        found.append(f"Rows mix git revisions: {', '.join(revisions)}.")
    if source.dirty:
        found.append(f"{source.dirty} of {len(table.counted)} runs were made with uncommitted changes.")
    return found + _unpaired(table)


def _mixed_corpora(table: Table) -> list[str]:
    """Groups of cells that are compared although they were trained on different corpora."""
    found = []
    for group, lines in table.groups.items():
        corpora = _distinct(dict(run.corpus) for line in lines for run in line.counted if run.corpus)
        if len(corpora) > 1:
            where = f"{group}: runs" if group else "Runs"
            found.append(f"{where} were trained on different corpora, so their PPL do not compare: {_names(corpora)}.")
    return found


def _unpaired(table: Table) -> list[str]:
    """Cells whose mean is over other seeds than the baseline's: their Δ also contains the difference of seeds."""
    other = []
    for lines in table.groups.values():
        baseline = next((line.row.seeds for line in lines if line.cell.key.is_baseline), [])
        other += [line.cell.label for line in lines if line.row.delta is not None and line.row.seeds != baseline]
    return [f"Δ is taken over other seeds than mamba's in: {'; '.join(other)}."] if other else []


def _versions(runs: Iterable[Run]) -> dict[str, list[str]]:
    seen: dict[str, set[str]] = {}
    for run in runs:
        for package, version in run.versions.items():
            seen.setdefault(package, set()).add(str(version))
    return {package: sorted(seen[package]) for package in sorted(seen)}


def _distinct(items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found


def _names(corpora: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"{corpus.get('name')} ({str(corpus.get('fingerprint'))[:12]})" for corpus in corpora)


def _words(hardware: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in hardware.items() if value is not None)
