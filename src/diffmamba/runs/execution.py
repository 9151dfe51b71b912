"""One work, from its parts to its record: claimed, computed unless it is there already, and recorded.

A training and a measurement go the same way. What they compute is in `training` and `measurement`.
"""

import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext, suppress
from typing import Any

from diffmamba.errors import SettingError
from diffmamba.runs import processes, run_log, stopping, vocabulary
from diffmamba.runs.admission import admit, has_ended, kept_sources, up_to_date
from diffmamba.runs.failures import NeedsError, begun, failure
from diffmamba.runs.form import SCHEMA
from diffmamba.runs.measurement import Measurement, measure
from diffmamba.runs.parts import Build, Settings, built
from diffmamba.runs.provenance import git_state, now, versions
from diffmamba.runs.store import WELL, LostLeaseError, Record, Run, RunStore, RunTakenError
from diffmamba.runs.training import train
from diffmamba.runs.work import Training, Work
from diffmamba.settings import OfSweep

WAIT_SECONDS = 1.0  # between looks at a work that another process is doing

log = logging.getLogger(__name__)


def work_of(settings: Settings, build: Build = built) -> Work:
    """The work that a resolved configuration describes: a measurement if it names a measure."""
    told = {name: part for name, part in settings.items() if name not in OfSweep.__annotations__}
    return Measurement.of(told, build) if told.get("measure") else Training.of(told, build)


def execute(work: Work, progress_bar: bool = True, wait: bool = True) -> Record:
    """Does a work, and first those it needs, unless its record is already there. Returns the record.

    An interrupted training goes on from its last checkpoint. A work that failed by itself is returned as it is, unless
    `retry=failed` is set. With `force` a run from other sources is set aside, and its work done anew. Raises
    RunTakenError where another process does the same work, and SettingError before anything is written; LostLeaseError,
    which is a RunTakenError, where another process has taken the run over: then nothing more is written for it.
    Where another process does a work that this one needs, it waits, or raises RunTakenError too if `wait` is False.
    It also waits where it is to be seen first whether the other process lives: one of another machine, six beats.

    With several devices a training starts a process for each. Under torchrun or srun, every process calls this.
    """
    stopping.check()
    work.check()
    run = RunStore(work.settings["runs"]).run(work.identity())
    for needed in () if has_ended(work, run.read()) else work.needs:
        record = _done(needed, progress_bar, wait)
        if record["status"] not in WELL:
            raise NeedsError(f"the training {record['id']} that this needs is {record['status']}")
    with ExitStack() as claim:
        ended = processes.agree(lambda: _begin(work, run, claim, wait))
        if ended is not None:
            return ended
        try:
            _compute(work, run, progress_bar)
        except KeyboardInterrupt:
            with suppress(LostLeaseError):
                record_interrupted(run)
            raise
        except Exception as error:
            run.require()  # also where a rank has lost the lease
            record_end(run, status="failed", error=failure(error), finished=now())
            if processes.started_elsewhere():
                raise  # ends the other ranks
        return processes.agree(lambda: _read(run))


def _done(work: Work, progress_bar: bool, wait: bool) -> Record:
    """The record of a work that another one needs."""
    waiting = False
    while True:
        try:
            return execute(work, progress_bar, wait)
        except RunTakenError as taken:
            if not wait:
                raise
            if not waiting:
                log.info("%s; waiting for it", taken)
                waiting = True
            time.sleep(WAIT_SECONDS)


def _compute(work: Work, run: Run, progress_bar: bool) -> None:
    if isinstance(work, Measurement):
        if processes.rank() == 0:  # the others of a job wait for its record
            with run_log.kept(run.directory):
                measure(work, run, progress_bar)
        return
    assert isinstance(work, Training)
    count = work.execution.devices.here()
    if count == 1 or processes.started_elsewhere():
        train_recorded(work, run, progress_bar)
    else:
        processes.launch(_train_as_rank, (dict(work.settings), run, progress_bar), count)


def train_recorded(work: Training, run: Run, progress_bar: bool) -> None:
    """Trains in this process. The first process to fail says so in the record; the first rank, if it is interrupted."""

    def ended(error: BaseException, step: int = 0) -> None:
        with suppress(LostLeaseError):
            if isinstance(error, Exception):
                record_end(run, status="failed", error=failure(error, step), finished=now())
            else:
                record_interrupted(run)

    try:
        with run_log.kept(run.directory) if processes.rank() == 0 else nullcontext():
            train(work, run, progress_bar, ended)
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning turns Ctrl-C into SystemExit
        ended(error)
        raise KeyboardInterrupt from None
    except Exception as error:
        ended(error)  # unless `train` said so already
        raise


def _train_as_rank(settings: Mapping[str, Any], run: Run, progress_bar: bool) -> None:
    """What each process does that `execute` starts."""
    work = work_of(settings)
    work.check()
    assert isinstance(work, Training)
    train_recorded(work, run, progress_bar)


def _begin(work: Work, run: Run, claim: ExitStack, wait: bool) -> Record | None:
    """Records that the work is under way, unless it is not to be done: then returns its record."""
    ended = _admitted(work, run, claim, wait)
    if ended is None:
        if isinstance(work, Training):
            vocabulary.keep(run, work.data)
        run.write(new_record(work, run, run.read()))
    return ended


def _admitted(work: Work, run: Run, claim: ExitStack, wait: bool) -> Record | None:
    """As `admit`. If `wait`, it looks at the lease of another process until it knows whether that one lives."""
    waiting = False
    while True:
        try:
            return admit(work, run, claim)
        except RunTakenError as taken:
            if not (wait and taken.undecided):
                raise
            if not waiting:
                log.info("%s; looking whether that one is still at work, which takes about a minute", taken)
                waiting = True
            time.sleep(WAIT_SECONDS)


def new_record(work: Work, run: Run, earlier: Record | None, begins: bool = True) -> Record:
    """The record at the start. An interrupted training keeps the evaluations it has until its checkpoint is read.

    `begins` is False for a work that cannot begin: its weights may not be there.
    """
    record = {
        "schema": SCHEMA,
        "kind": work.kind,
        "id": run.id,
        "status": "running",
        "config": work.settings,
        "error": None,
        "git": git_state(),
        "versions": versions(),
        "hardware": {},
        "operators": {},
        "precision": work.execution.arithmetic,
        "parameters": {},
        "corpus": work.facts,
        "sources": kept_sources(work, run, earlier),
        "wall_seconds": 0.0,
        "started": earlier["started"] if earlier else now(),
        "finished": None,
        "session": begun(run, earlier),
    }
    if isinstance(work, Measurement):
        described = {"measure": work.measure.described(), "weights": work.weights_described(begins), "values": {}}
        return record | described
    assert isinstance(work, Training)
    return record | {
        "task": work.task_type.described(),
        "weights": work.weights.described(),
        "progress": {"step": 0, "steps": work.length.steps},
        "evaluations": earlier["evaluations"] if earlier else [],
        "tokens_per_second": None,
    }


def record_failure(work: Work, error: Exception) -> Record:
    """Records that a work failed before it began: what it needs has failed, or it cannot be begun.

    A record of a work that ended well stays: it is returned, or set aside where the work was to be done anew. Raises
    RunTakenError where another process holds the run.
    """
    run = RunStore(work.settings["runs"]).run(work.identity())
    with run.claim():
        earlier = up_to_date(work, run)
        if earlier is not None and earlier["status"] in WELL:  # another process has done it meanwhile
            return earlier
        record = new_record(work, run, earlier, begins=False)
        run.write(record | {"status": "failed", "error": failure(error), "finished": now()})
    return _read(run)


def record_end(run: Run, **changes: Any) -> None:
    """Says how a work ended, unless another process of the same work said so before."""
    record = run.read()
    if record is not None and record["status"] == "running":
        run.write(record | changes)


def record_interrupted(run: Run) -> None:
    """Says that a work was interrupted. Only the first rank does: it may be writing how far it came."""
    if processes.rank() == 0:
        record_end(run, status="interrupted")


def _read(run: Run) -> Record:
    record = run.read()
    if record is None:
        raise SettingError(f"{run.result} was lost or damaged while the work was done; run it again")
    return record
