"""What a table says of the sources of its runs: cells made by other sources than others, or than there are now."""

from collections.abc import Mapping, Sequence
from typing import Any

from diffmamba.reports import Results
from diffmamba.runs import sources

MOST = 12  # cells that a warning names


def source_warnings(results: Results) -> tuple[str, ...]:
    """A sentence for each set of modules that differs between the runs that count, or has changed since."""
    counted = [(cell.key.label, run.record) for cell in results.planned for run in cell.seeds if run.value is not None]
    counted = [(label, record) for label, record in counted if _has_sources(record)]
    latest = max((record for _, record in counted), key=lambda record: record.get("finished") or "", default={})
    differing = [(label, sources.differing(record["sources"], latest["sources"])) for label, record in counted]
    changed = [(label, sources.changed(record)) for label, record in counted]
    every = len(results.planned)
    return (
        *_told("Made by other sources than the latest run", differing, every, ""),
        *_told("Sources have changed since these runs", changed, every, " With force=true they are trained anew."),
    )


def _told(what: str, found: Sequence[tuple[str, Sequence[str]]], every: int, advice: str) -> list[str]:
    """`what` with the modules and the cells of each set of modules."""
    cells: dict[str, dict[str, None]] = {}
    for label, modules in found:
        if modules:
            cells.setdefault(sources.some(modules), {})[label] = None
    return [
        f"{what} ({modules}): {_some(list(labels)) if len(labels) < every else 'every cell'}.{advice}"
        for modules, labels in cells.items()
    ]


def _some(labels: Sequence[str]) -> str:
    """The first of these labels, and how many others there are."""
    return "; ".join(labels[:MOST]) + f"; and {len(labels) - MOST} others" * (len(labels) > MOST)


def _has_sources(record: Mapping[str, Any]) -> bool:
    kept = record.get("sources", {})
    return all(isinstance(kept.get(part), Mapping) for part in ("digests", "files"))
