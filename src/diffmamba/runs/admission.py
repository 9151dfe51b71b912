"""Whether a work is to be done: what has ended, what is damaged, and what was made from other sources.

A work that has ended is left alone, and nothing is written for it. A damaged record is set aside, and its run goes on
from its checkpoint. With `force=true` a run from other sources is set aside as a whole, and its work is done anew.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from diffmamba import atomic
from diffmamba.runs import sources, training
from diffmamba.runs.failures import given_up
from diffmamba.runs.form import DamagedRecordError, Record, is_tried_again
from diffmamba.runs.measured import ROWS, read_rows
from diffmamba.runs.measurement import Measurement
from diffmamba.runs.store import WELL, Run, RunStore
from diffmamba.runs.weights import OfRun
from diffmamba.runs.work import Training, Work, shapes_of

BUILT = {
    "training": ("model", "data", "task", "optimizer", "callbacks"),
    "measurement": ("model", "data", "measured", "measure"),
}
"""The settings whose parts are built."""
DONE = {"training": "trained", "measurement": "measured"}
AGAIN = {"training": "trains", "measurement": "measures"}

log = logging.getLogger(__name__)


def has_ended(work: Work, record: Record | None) -> bool:
    """Whether a work is not to be done (again): it ended well, or failed and is not to be tried again.

    A failure that says nothing of the work is tried again: see `failure`.
    """
    if record is None or record["status"] not in (*WELL, "failed"):
        return False
    if record["status"] == "failed":
        again = work.settings["retry"] == "failed" or is_tried_again(record["error"])
        return not again or given_up(record, work.settings["retries"])
    return not outdated(work, record)


def outdated(work: Work, record: Record) -> bool:
    """Whether a run is to be set aside and its work done anew."""
    forced = work.settings.get("force") and (sources.changed(record) or not sources.comparable(record))
    return bool(forced) or _of_earlier_weights(work, record)


def admit(work: Work, run: Run, claim: ExitStack) -> Record | None:
    """Claims the run and records that it is running. Returns the record of a work that is not to be done.

    Raises RunTakenError where another process holds the run, SettingError where its checkpoint is damaged.
    """
    record = run.read()
    if not has_ended(work, record) or _lacks_rows(work, run, record):
        claim.enter_context(run.claim())
        atomic.remove_leftovers(run.directory)
        record = up_to_date(work, run)
    if record is not None and has_ended(work, record):
        _tell_ended(work, record)
        return record
    if isinstance(work, Training):
        training.admit(work, run)
    _tell_sources(work, run, record)
    return None


def up_to_date(work: Work, run: Run) -> Record | None:
    """The record of a run that this process holds. One that is damaged or outdated is set aside: then there is none."""
    record = _intact(work, run)
    if record is None or not outdated(work, record):
        return record
    _set_aside(work, run, record)
    return None


def kept_sources(work: Work, run: Run, earlier: Record | None) -> dict[str, Any]:
    """What a record says of its sources: those of now, and which of them changed since the run began."""
    modules = {sources.defining(target) for part in BUILT[work.kind] for target in _targets(work.settings.get(part))}
    modules |= {type(module).__module__ for module in _shapes(work).modules()}
    goes_on = earlier is not None and run.last_checkpoint.exists()
    return sources.of(modules) | {"mixed": sources.names(sources.changed(earlier)) if earlier and goes_on else []}


def _shapes(work: Work) -> Any:
    if isinstance(work, Measurement):
        return shapes_of(work.trained.network, work.trained_facts["vocabulary"])
    assert isinstance(work, Training)
    return work.shapes


def _targets(node: Any) -> Iterator[str]:
    """Every class and function that a part of a configuration names."""
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _targets(value)


def _intact(work: Work, run: Run) -> Record | None:
    """The record of a run that this process holds. A damaged one is set aside; the run then goes on without."""
    try:
        record = run.load()
        if not _lacks_rows(work, run, record):
            return record
        reason = f"{run.directory / ROWS} is damaged or missing"
    except DamagedRecordError as error:
        reason = str(error)
    aside = run.set_record_aside()
    goes_on = "from its checkpoint" if run.last_checkpoint.exists() else "from the beginning"
    log.warning("%s; the record is now %s, and the run goes on %s", reason, aside.name, goes_on)
    return None


def _lacks_rows(work: Work, run: Run, record: Record | None) -> bool:
    """Whether a measurement ended well, and its rows are not all there."""
    if not isinstance(work, Measurement) or record is None or record["status"] not in WELL:
        return False
    try:
        rows, whole = read_rows(run), (run.directory / ROWS).read_bytes().endswith(b"\n")
        return not (whole and len(rows) and {"measure", "value"} <= set(rows.columns) and rows.value.notna().all())
    except (OSError, ValueError):
        return True


def _of_earlier_weights(work: Work, record: Record) -> bool:
    """Whether a measurement was taken before its weights were trained anew."""
    if not isinstance(work, Measurement) or "run" not in record["weights"]:
        return False
    stored = RunStore(work.settings["runs"]).run(record["weights"]["run"])
    trained = work.weights.found if isinstance(work.weights, OfRun) else stored
    return trained.read() is not None and trained.times_before != record["weights"].get("anew", 0)


def _set_aside(work: Work, run: Run, record: Record) -> None:
    why = sources.some(sources.changed(record))
    if why:
        reason = f"its sources have changed: {why}"
    elif _of_earlier_weights(work, record):
        reason = "its weights have been trained anew"
    else:
        reason = "its sources are not known to be those of now"
    log.info("run %s is %s anew, since %s; the old one is now %s", run.id, DONE[work.kind], reason, run.set_aside())


def _tell_ended(work: Work, record: Record) -> None:
    log.info("%s at %s, not %s again", record["status"], record["finished"], DONE[work.kind])
    changed = sources.some(sources.changed(record))
    if changed:
        log.warning(
            "its sources have changed since: %s; force=true %s it anew beside the old one", changed, AGAIN[work.kind]
        )
    elif work.settings.get("force"):
        log.info("force=true has nothing to do: its sources have not changed")


def _tell_sources(work: Work, run: Run, record: Record | None) -> None:
    """Says so where a run goes on with other sources, or measures weights that were trained with others."""
    if record is not None and run.last_checkpoint.exists() and (changed := sources.some(sources.changed(record))):
        line = "run %s goes on with other sources than before: %s; force=true trains it anew beside the old one"
        log.warning(line, run.id, changed)
    if isinstance(work, Measurement):
        weights = work.weights.record if isinstance(work.weights, OfRun) else {}
        if changed := sources.some(sources.changed(weights)):
            log.warning("the weights of run %s were trained with other sources: %s", weights["id"], changed)
