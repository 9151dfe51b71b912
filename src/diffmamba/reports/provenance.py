"""Where the numbers of a table come from, and what a reader should know before comparing them.

Revision, corpus, versions and hardware are those of the runs that count in a mean; time is that of every run.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pandas as pd

from diffmamba.reports.cells import Results
from diffmamba.reports.records import SeedResult

MOST = 12  # corpora that are told one by one


def corpora(runs: Iterable[SeedResult]) -> list[dict[str, Any]]:
    """The corpora of these runs, each once."""
    found = (dict(run.part("corpus")) for run in runs if run.part("corpus"))
    return list({json.dumps(corpus, sort_keys=True): corpus for corpus in found}.values())


def revisions(results: Results) -> dict[str, int]:
    """How many of the runs that count were made at each git revision."""
    return dict(Counter(str(run.part("git").get("revision") or "unknown") for run in results.counted))


def dirty(results: Results) -> int:
    """How many of the runs that count were made with uncommitted changes."""
    return sum(bool(run.part("git").get("dirty")) for run in results.counted)


def facts(results: Results) -> dict[str, str]:
    """Revision, corpus, versions, hardware and time behind the numbers, in words."""
    runs = results.counted
    machines = [", ".join(f"{k} {v}" for k, v in run.part("hardware").items() if v is not None) for run in runs]
    hardware = Counter(filter(None, machines))
    frame = pd.DataFrame([run.part("versions") for run in runs]).astype("string").sort_index(axis="columns")
    versions = [f"{name} {' and '.join(sorted(found.dropna().unique()))}" for name, found in frame.items()]
    speed = pd.Series([run.record.get("tokens_per_second") for run in runs], dtype=float).describe()
    speeds = f"{speed['50%']:,.0f} (median; {speed['min']:,.0f} to {speed['max']:,.0f})" if speed["count"] else ""
    seconds = sum(run.record.get("wall_seconds") or 0.0 for run in results.runs)
    entries = {
        "git revision": "; ".join(f"{name} ({_share(n, results)})" for name, n in revisions(results).items()),
        "uncommitted changes": f"in {_share(dirty(results), results)}" if dirty(results) else "none",
        "corpus": _told_corpora(corpora(runs)),
        "versions": ", ".join(versions),
        "hardware": "; ".join(f"{name} ({_share(n, results)})" for name, n in hardware.items()),
        "time": f"{timedelta(seconds=round(seconds))} over all runs",
        "tokens/s": speeds,
        "last run finished": max((run.record.get("finished") or "" for run in runs), default=""),
    }
    return {name: text or "–" for name, text in entries.items()}


def warnings(results: Results) -> list[str]:
    """What makes cells less comparable than they look."""
    found, label = [], results.metric.label
    for group, cells in results.groups.items():
        seen = corpora(run for cell in cells for run in cell.seeds if run.value is not None)
        if len(seen) > 1:
            names = ", ".join(f"{corpus.get('name')} ({str(corpus.get('fingerprint'))[:12]})" for corpus in seen)
            where = f"{group}: runs" if group else "Runs"
            found.append(f"{where} were made on different corpora, so their {label} cannot be compared: {names}.")
    if len(revisions(results)) > 1:
        names = ", ".join(f"{name[:12]} (in {_share(count, results)})" for name, count in revisions(results).items())
        found.append(f"Rows mix git revisions: {names}.")
    if dirty(results):
        found.append(f"{_share(dirty(results), results)} were made with uncommitted changes.")
    found += results.sources
    paired = [cell for cell in results.cells if cell.baseline and cell.pairs]
    for told, cells in (
        (
            "Δ leaves out the seeds that only one of both has",
            [cell for cell in paired if cell.values.keys() != cell.baseline.values.keys()],  # type: ignore[union-attr]
        ),
        ("No Δ, because no seed is shared with the baseline,", [cell for cell in results.cells if cell.unpaired]),
    ):
        found += [f"{told} in: {'; '.join(cell.key.label for cell in cells)}."] * bool(cells)
    return found


def _told_corpora(found: Sequence[Mapping[str, Any]]) -> str:
    """These corpora in words; of many their names, each with how many of them have it."""
    if len(found) <= MOST:
        return "; ".join(map(_corpus, found))
    counts = Counter(str(corpus.get("name")) for corpus in found)
    return f"{len(found)}: " + ", ".join(f"{count} of {name}" for name, count in counts.items())


def _corpus(corpus: Mapping[str, Any]) -> str:
    sizes = corpus.get("sizes")
    words = [f"{split} {_number(size)}" for split, size in (sizes if isinstance(sizes, Mapping) else {}).items()]
    words += [f"{corpus['vocabulary']} types"] if corpus.get("vocabulary") else []
    words += [f"fingerprint {corpus.get('fingerprint')}"]
    return f"{corpus.get('name')} ({', '.join(words)})"


def _number(size: Any) -> str:
    return f"{size:,}" if isinstance(size, int | float) else str(size)


def _share(count: int, results: Results) -> str:
    return f"{count} of {len(results.counted)} runs"
