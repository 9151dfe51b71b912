"""Where the numbers of a table come from, and what a reader should know before comparing them.

Revision, corpus, versions and hardware are those of the runs that count in a mean; time is that of every run.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from statistics import median
from typing import Any

from diffmamba.reports.cells import Results, values


def corpora(results: Results) -> list[dict[str, Any]]:
    """The corpora of the runs that count, each once."""
    return _distinct(run.part("corpus") for run in results.counted)


def revisions(results: Results) -> dict[str, int]:
    """How many of the runs that count were made at each git revision."""
    return dict(Counter(str(run.part("git").get("revision") or "unknown") for run in results.counted))


def dirty(results: Results) -> int:
    """How many of the runs that count were made with uncommitted changes."""
    return sum(bool(run.part("git").get("dirty")) for run in results.counted)


def facts(results: Results) -> dict[str, str]:
    """Revision, corpus, versions, hardware and time behind the numbers, in words."""
    runs = results.counted
    hardware = Counter(_words(run.part("hardware")) for run in runs if run.part("hardware"))
    seconds = sum(run.number("wall_seconds") or 0.0 for run in results.runs)
    speeds = [speed for run in runs if (speed := run.number("tokens_per_second")) is not None]
    ends = [run.record["finished"] for run in runs if run.record.get("finished")]
    entries = {
        "git revision": "; ".join(f"{name} ({_share(n, results)})" for name, n in revisions(results).items()),
        "uncommitted changes": f"in {_share(dirty(results), results)}" if dirty(results) else "none",
        "corpus": "; ".join(map(_corpus, corpora(results))),
        "versions": _versions(results),
        "hardware": "; ".join(f"{name} ({_share(n, results)})" for name, n in hardware.items()),
        "time": f"{duration(seconds)} over all runs",
        "tokens/s": _speed(speeds),
        "last run finished": max(ends, default=""),
    }
    return {name: text or "–" for name, text in entries.items()}


def warnings(results: Results) -> list[str]:
    """What makes cells less comparable than they look."""
    found = _mixed_corpora(results)
    if len(revisions(results)) > 1:
        names = [f"{name[:12]} (in {_share(count, results)})" for name, count in revisions(results).items()]
        found.append(f"Rows mix git revisions: {', '.join(names)}.")
    if dirty(results):
        found.append(f"{_share(dirty(results), results)} were made with uncommitted changes.")
    return found + _unpaired(results)


def duration(seconds: float) -> str:
    """`40 s`, `13 min`, `2.5 h`: as exact as a reader cares."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _mixed_corpora(results: Results) -> list[str]:
    """Groups of cells that are compared although their corpora differ."""
    found = []
    for group, cells in results.groups.items():
        seen = _distinct(run.part("corpus") for cell in cells for run in cell.counted)
        if len(seen) > 1:
            names = ", ".join(f"{corpus.get('name')} ({str(corpus.get('fingerprint'))[:12]})" for corpus in seen)
            where, label = f"{group}: runs" if group else "Runs", results.metric.label
            found.append(f"{where} were made on different corpora, so their {label} cannot be compared: {names}.")
    return found


def _unpaired(results: Results) -> list[str]:
    """Cells whose mean is over other seeds than the baseline's: their Δ also contains the difference of seeds."""
    cells = [c.label for c in results.cells if c.delta is not None and values(c.seeds).keys() != c.baseline.keys()]
    return [f"Δ is taken over other seeds than the baseline has in: {'; '.join(cells)}."] if cells else []


def _versions(results: Results) -> str:
    seen = sorted({(name, str(version)) for run in results.counted for name, version in run.part("versions").items()})
    return ", ".join(f"{name} {' and '.join(v for _, v in same)}" for name, same in groupby(seen, itemgetter(0)))


def _distinct(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for item in items:
        if item and dict(item) not in found:
            found.append(dict(item))
    return found


def _corpus(corpus: Mapping[str, Any]) -> str:
    words = [f"{split} {size:,}" for split, size in (corpus.get("sizes") or {}).items()]
    words += [f"{corpus['vocabulary']} types"] if corpus.get("vocabulary") else []
    words += [f"fingerprint {corpus.get('fingerprint')}"]
    return f"{corpus.get('name')} ({', '.join(words)})"


def _share(count: int, results: Results) -> str:
    return f"{count} of {len(results.counted)} runs"


def _speed(speeds: list[float]) -> str:
    return f"{median(speeds):,.0f} (median; {min(speeds):,.0f} to {max(speeds):,.0f})" if speeds else ""


def _words(hardware: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in hardware.items() if value is not None)
