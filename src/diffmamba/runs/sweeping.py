"""A sweep from its plan to its end: what is left to do, who does it, and how far it is.

The plan is expanded once. The works that the run store lacks go into a file (`queue`), an engine starts workers
(`engine`), and this process follows the store (`watching`). Anybody else may work on the same grid at the same time.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from rich.console import Console

from diffmamba.errors import SettingError
from diffmamba.runs import queue, sources
from diffmamba.runs.admission import has_ended
from diffmamba.runs.engine import Engine
from diffmamba.runs.failures import KINDS, by_kind, in_sweep
from diffmamba.runs.form import Record
from diffmamba.runs.measurement import Measurement
from diffmamba.runs.plan import CheckedOnce, Planned, of_each
from diffmamba.runs.store import WELL, RunStore
from diffmamba.runs.summary import titles
from diffmamba.runs.watching import Watch

TOLD = 3  # failed runs of a kind that are named


def store_of(planned: Sequence[Planned]) -> RunStore:
    """The run store that the works of a sweep share."""
    return RunStore(planned[0].work.settings["runs"])


def records(planned: Sequence[Planned]) -> dict[str, Record]:
    """The records that there are of the works of a sweep, by id."""
    store = store_of(planned)
    found = {item.id: store.run(item.id).read() for item in planned}
    return {run_id: record for run_id, record in found.items() if record is not None}


def pending(planned: Sequence[Planned], found: Mapping[str, Record]) -> list[Planned]:
    """The works that are not done: not started, interrupted, or failed and to be tried again.

    One that is only needed by others is not pending where all of these have ended.
    """
    needed: set[str] = set()
    first: dict[str, Planned] = {}  # one that stands for two rows is done once
    for item in reversed(planned):  # what is needed comes before what needs it
        if (item.asked or item.id in needed) and not has_ended(item.work, found.get(item.id)):
            needed.update(item.needs)
            first[item.id] = item
    return [item for item in planned if first.get(item.id) is item]


def count(planned: Sequence[Planned]) -> int:
    """How many works a plan has. One that stands for two rows of a table is one work."""
    return len({item.id for item in planned})


def finished(planned: Sequence[Planned]) -> int:
    """How many works of a sweep are finished, or no longer needed."""
    found = records(planned)
    left = {item.id for item in pending(planned, found)}
    works = {item.id: item for item in planned}
    return sum(
        found[run_id]["status"] in WELL if run_id in found else not item.asked and run_id not in left
        for run_id, item in works.items()
    )


def work_off(sweep: str, planned: Sequence[Planned], engine: Engine, console: Console) -> None:
    """Does the works of a sweep that the store lacks, and shows how far it is. Ctrl-C stops the workers."""
    found = records(planned)
    left = pending(planned, found)
    _tell_sources(planned, {item.id for item in left}, found, console)
    told = names(planned)
    if not left:
        _say(_failed(planned, told), console)
        return
    check(left, engine)
    engine = undisturbed(engine, left)
    plan = queue.new(store_of(planned).directory, sweep, left, told)
    with in_sweep(plan.token):
        try:
            workers = engine.start(plan.folder, left[0].work.execution.devices, len(left))
        except SettingError:
            shutil.rmtree(plan.folder, ignore_errors=True)
            raise
        console.print(
            f"{len(left)} of {count(planned)} runs to do, in {store_of(planned).directory}, by {workers.told()}",
            highlight=False,
        )
        watch = Watch(left, count(planned), told, sweep, console)
        try:
            watch.follow(workers)
        except KeyboardInterrupt:
            console.print("stopping ..." if engine.here else f"the jobs go on: {workers.told()}", soft_wrap=True)
            workers.stop()
            done = f"{finished(planned)} of {count(planned)} runs finished"
            console.print(f"interrupted with {done}; the same command goes on from here", soft_wrap=True)
            raise
        finally:
            workers.stop()
            troubles = workers.trouble()  # before the folder goes: jobs are judged by what they left in it
            if not workers.alive() and not troubles:
                shutil.rmtree(plan.folder, ignore_errors=True)
    _say([*troubles, *_failed(planned, told)], console)


def check(left: Sequence[Planned], engine: Engine) -> None:
    """Raises SettingError, with a line for each thing that is wrong, unless all these works can be done."""
    once = CheckedOnce(engine.here)
    of_each(left, lambda item: once(item.work), lambda item: item.words)


def undisturbed(engine: Engine, left: Sequence[Planned]) -> Engine:
    """The engine with one worker where works measure this machine, unless the command says how many."""
    alone = any(isinstance(item.work, Measurement) and item.work.measure.of_machine for item in left)
    return replace(engine, workers=1) if alone and engine.here and not engine.workers else engine


def names(planned: Sequence[Planned]) -> dict[str, str]:
    """A name for each work of a sweep, by its id: no two look the same."""
    return titles((item.id, item.config, _measure(item), item.words) for item in planned)


def _measure(item: Planned) -> str:
    return item.work.measure.described()["name"] if isinstance(item.work, Measurement) else ""


def _say(lines: Iterable[str], console: Console) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _failed(planned: Sequence[Planned], told: Mapping[str, str]) -> Iterator[str]:
    """A line for each kind of failure, with the first runs of it, also of failures that were there before."""
    for kind, failed in by_kind(records(planned)).items():
        retry = any(record["error"].get("again") for record in failed)
        advice = "the same command tries them again" if retry else "retry=failed tries them again"
        advice = "; ".join(filter(None, [failed[0]["error"].get("advice"), advice]))
        yield f"{len(failed)} failed: {KINDS.get(kind, kind)}; {advice}"
        for record in failed[:TOLD]:
            yield f"  {told[record['id']]}: {record['error']['message']} (run {record['id']})"
        if len(failed) > TOLD:
            yield f"  and {len(failed) - TOLD} more"


def _tell_sources(planned: Sequence[Planned], todo: set[str], found: Mapping[str, Record], console: Console) -> None:
    """One line on the runs that are there and were made with other sources than those of now."""
    there = {run_id: record for run_id, record in found.items() if run_id not in todo}
    changed = {run_id: told for run_id, record in there.items() if (told := sources.changed(record))}
    if changed:
        modules = sources.some([name for told in changed.values() for name in told])
        console.print(
            f"{len(changed)} of {count(planned)} runs were made with other sources, "
            f"which have changed since: {modules}; force=true makes them anew beside the old ones",
            highlight=False,
        )
