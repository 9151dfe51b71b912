"""What was set aside in a store or left behind in it: earlier runs, damaged records, logs of sweeps, cut-off writes."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from diffmamba.runs.index import Found
from diffmamba.runs.store import BEFORE, RunStore

PRUNED = ".pruned"
"""Where what is being removed lies meanwhile."""
DAMAGED = ".damaged-"
SWEEPS = ".sweep"
QUIET_SECONDS = 3600  # after which nobody writes to a file any more


def leftovers(store: RunStore, found: Found) -> Iterator[Path]:
    """Every file or directory of a store that belongs to no run as it is now and that nobody uses."""
    taken = {name for name, entry in found.entries.items() if entry.status == "running"}
    taken |= {name for name in found.damaged if store.run(name).is_taken()}
    yield from sorted((store.directory / PRUNED).glob("*"))
    for path in sorted(store.directory.iterdir()):
        if BEFORE in path.name and path.is_dir() and not _is_weights(path.name, found):
            yield path
        elif path.is_dir() and path.name not in taken and not path.name.startswith("."):
            yield from sorted(path.glob(f"*{DAMAGED}*"))
            yield from sorted(path.rglob(".*.new"))
    yield from (path for path in sorted(store.directory.glob(".*.new")) if _is_quiet(path))
    yield from (path for path in sorted((store.directory / SWEEPS).glob("*")) if _is_over(path, taken))


def _is_weights(name: str, found: Found) -> bool:
    """Whether a work takes its weights from a run that was set aside."""
    return any(name in (entry.weights, entry.setting("weights.run")) for entry in found.entries.values())


def _is_over(path: Path, taken: set[str]) -> bool:
    """Whether nobody works on a sweep any more: none of its works is under way, and nothing was written lately."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        if taken & {json.loads(line)["id"] for line in (path / "plan.jsonl").read_text().splitlines()}:
            return False
    return all(map(_is_quiet, [path, *path.rglob("*")]))


def _is_quiet(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > QUIET_SECONDS
    except OSError:
        return True
