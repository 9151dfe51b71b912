"""`python -m diffmamba.evaluate run=runs/3f2a9c01b7de stride=64`: PPL of a trained run, and its loss by position.

It is the measurement `perplexity` of the run's weights, with settings of its own and a table for people.
"""

import sys
from pathlib import Path
from typing import Any

from diffmamba import atomic, command_line, device
from diffmamba.errors import SettingError
from diffmamba.exit_status import tell
from diffmamba.terminal import terminal

MOST_STRETCHES = 12  # of a table that is read at a glance


def main() -> None:
    """The entry point."""
    sys.exit(command_line.application("evaluate", run))


def run(settings: dict[str, Any]) -> int:
    """Measures unless that has been done, prints two tables, and writes the figures where `out` says."""
    device.chosen(settings)
    with command_line.importing():  # here: --help and a wrong setting need none of it
        from diffmamba.reports import show
        from diffmamba.runs import RunStore
        from diffmamba.runs.execution import execute
        from diffmamba.runs.measured import read_rows
        from diffmamba.runs.measurement import Measurement
        from diffmamba.runs.weights import OfRun

    out = _writable(settings["out"])
    store = OfRun(settings["run"], store=settings["runs"]).found.directory.parent  # of a run given by its directory
    record = execute(Measurement.of(settings | {"runs": str(store)}))
    place = RunStore(store).run(record["id"])
    if record["status"] == "failed":
        tell(f"error: run {record['id']} failed: {record['error']['message']}")
        return 1
    rows = read_rows(place)
    show(document(record, rows), terminal())
    if out:
        atomic.write_json(out, record | {"rows": rows.astype(object).where(rows.notna(), None).to_dict("records")})
    print(out or place.directory)
    return 0


def document(record: dict[str, Any], rows: Any) -> Any:
    """The figures of all symbols, and the loss by position in the window."""
    from diffmamba.document import Document, Grid, Paragraph

    weights, corpus, values = record["weights"], record["corpus"], record["values"]
    split = record["config"]["measure"]["split"]
    unknown = f", {_in(split, corpus['unknown']):,} of them <unk>" if "unknown" in corpus else ""
    by_position = rows[rows.position.notna()].pivot(index="position", columns="measure", values="value")
    told = (
        f"Run {weights['run']}, checkpoint {weights['checkpoint']} (step {weights['step']:,}), on "
        f"{'all splits' if split == 'all' else f'the {split} split'} of {corpus['name']} "
        f"({_in(split, corpus['sizes']):,} symbols{unknown})."
    )
    overall = [_figure(record, name) for name in ("ppl", "nats", "bits", "symbols", "windows")]
    stretches = [
        (f"{first:,}" if first == last else f"{first:,} to {last:,}", f"{perplexity:.3f}", f"{nats:.4f}")
        for first, last, nats, perplexity in _stretches(by_position)
    ]
    blocks = (
        Paragraph(told),
        Grid.of(["PPL", "nats/symbol", "bits/symbol", "symbols", "windows"], [overall], words=0),
        Grid.of(["position in the window", "PPL", "nats/symbol"], stretches, words=0),
    )
    return Document("Perplexity", blocks, values)


def _in(split: str, counts: dict[str, int]) -> int:
    """The count of a split, or of all of them."""
    return sum(counts.values()) if split == "all" else counts[split]


def _figure(record: dict[str, Any], name: str) -> str:
    return f"{record['values'][name]:,.{record['measure']['metrics'][name]['digits']}f}"


def _stretches(by_position: Any) -> list[tuple[int, int, float, float]]:
    """First position, last position, mean nats and PPL of stretches that grow by a factor of 2, in long windows 4."""
    from diffmamba.measures.perplexity import perplexity

    length = len(by_position)
    factor = 2 if length <= 2 ** (MOST_STRETCHES - 1) else 4
    found, first, last = [], 1, 1
    while first <= length:
        part = by_position.loc[first:last]
        nats = float((part.nats * part.windows).sum() / part.windows.sum())
        found.append((first, min(last, length), nats, perplexity(nats)))
        first, last = last + 1, last * factor
    return found


def _writable(out: str) -> Path | None:
    """The file for the figures. Its folder is made before the computation."""
    if not out:
        return None
    path = Path(out).expanduser() if out.startswith("~/") else Path(out)
    if path.is_dir():
        raise SettingError(f"out={out} is a folder; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"out={out} cannot be written: {error.strerror}") from None
    return path


if __name__ == "__main__":
    main()
