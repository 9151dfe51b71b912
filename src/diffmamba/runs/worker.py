"""The processes that do the works of a sweep on this machine, or hand them to a cluster; and how far they are.

A sweep is a Hydra multirun. On one machine several such multiruns work on the same grid side by side, each with its
share of the cores: a run is done by the process that claims it first in the run store, and the others go on to the
next. If a process dies, one run is interrupted, and the next call resumes it.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from diffmamba.errors import SettingError
from diffmamba.runs import sources
from diffmamba.runs.admission import has_ended
from diffmamba.runs.form import Record
from diffmamba.runs.measurement import Measurement
from diffmamba.runs.plan import Planned, check_launcher, of_each
from diffmamba.runs.processes import Devices
from diffmamba.runs.store import SWEEP, WELL, RunStore
from diffmamba.runs.summary import ending, titles

LAUNCHERS = {"slurm": "submitit_slurm"}
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 60  # for processes that were asked to stop


@dataclass(frozen=True)
class Engine:
    """Who does the works of a sweep.

    Args:
        launcher: local, slurm, or the name of a launcher of Hydra's.
        workers: runs at a time under local; 0 is one for each GPU or core.
    """

    launcher: str = "local"
    workers: int = 0

    def check(self) -> None:
        """Raises SettingError for what cannot work."""
        if self.workers < 0:
            raise SettingError(f"workers={self.workers} must be 1 or more, or 0 for one on each GPU or core")
        if not self.local:
            check_launcher(self.hydra_launcher)

    @property
    def local(self) -> bool:
        return self.launcher == "local"

    @property
    def hydra_launcher(self) -> str:
        return LAUNCHERS.get(self.launcher, self.launcher)


def store_of(planned: Sequence[Planned]) -> RunStore:
    """The run store that the works of a sweep share."""
    return RunStore(planned[0].work.settings["runs"])


def finished(planned: Sequence[Planned]) -> int:
    """How many works of a sweep are finished, or no longer needed."""
    pending = {item.id for item in _pending(planned)}
    both = zip(planned, _records(planned), strict=True)
    return sum(r["status"] in WELL if r else not item.asked and item.id not in pending for item, r in both)


def work_off(sweep: str, planned: Sequence[Planned], engine: Engine, words: Sequence[str], console: Console) -> None:
    """Does the works of a sweep that the store lacks, and shows how far it is.

    `words` are the settings of the grid. Ctrl-C stops all processes and is raised again. A process passes on from a
    work that somebody else is doing, or that needs such a one. So as long as works get done, the processes are started
    again for those that are left.
    """
    store = store_of(planned)
    with _in_a_sweep():
        pending = _pending(planned)
        _tell_sources(planned, pending, console)
        if not pending:
            return
        engine.check()
        of_each(pending, lambda item: item.work.check(here=engine.local), lambda item: item.words)
        console.print(f"{len(pending)} of {len(planned)} runs to do, in {store.directory}", highlight=False)
        while pending:
            _do(sweep, planned, pending, engine, words, console)
            left = _pending(planned)
            pending = left if engine.local and len(left) < len(pending) else []


@contextmanager
def _in_a_sweep() -> Iterator[None]:
    """Tells this process and those that it starts which sweep they are of, so that a work fails once in it."""
    before = os.environ.get(SWEEP)
    os.environ[SWEEP] = secrets.token_hex(8)
    try:
        yield
    finally:
        os.environ.pop(SWEEP)
        if before is not None:
            os.environ[SWEEP] = before


def _tell_sources(planned: Sequence[Planned], pending: Sequence[Planned], console: Console) -> None:
    """One line on the runs that are there and were made with other sources than those of now."""
    todo = {item.id for item in pending}
    records = {r["id"]: r for i, r in zip(planned, _records(planned), strict=True) if r and i.id not in todo}
    changed = {run_id: names for run_id, record in records.items() if (names := sources.changed(record))}
    if changed:
        modules = sources.some([name for names in changed.values() for name in names])
        console.print(
            f"{len(changed)} of {len(planned)} runs were made with other sources, which have changed since: {modules}; "
            "force=true makes them anew beside the old ones",
            highlight=False,
        )


def _do(
    sweep: str,
    planned: Sequence[Planned],
    pending: Sequence[Planned],
    engine: Engine,
    words: Sequence[str],
    console: Console,
) -> None:
    """Starts the processes, and follows them to their end."""
    store = store_of(planned)
    with _processes(sweep, pending, engine, words, store.directory / ".sweep") as processes:
        try:
            _watch(processes, planned, {item.id for item in pending}, store, sweep, console)
        except KeyboardInterrupt:
            console.print("stopping ...")
            _stop(processes)
            done = finished(planned)
            console.print(
                f"interrupted with {done} of {len(planned)} runs finished; the same command goes on from here"
            )
            raise
    for line in _trouble({log: process.returncode for process, log in processes.items() if process.returncode}):
        console.print(line, markup=False, highlight=False)


Processes = dict["subprocess.Popen[bytes]", Path]
"""What was started, and where each writes what it says."""


@contextmanager
def _processes(
    sweep: str, pending: Sequence[Planned], engine: Engine, words: Sequence[str], logs: Path
) -> Iterator[Processes]:
    logs.mkdir(parents=True, exist_ok=True)
    name = f"{sweep.replace('/', '-')}-{secrets.token_hex(3)}"  # of its own: two sweeps may run at once
    command = [sys.executable, "-m", "diffmamba.train", f"sweeps={sweep}", *words]
    if engine.local:
        shares = worker_shares(pending[0].work.execution.devices, engine.workers, len(pending))
    else:
        shares = [{}]
        command.append(f"hydra/launcher={engine.hydra_launcher}")
    started: Processes = {}
    try:
        for index, share in enumerate(shares):
            log = logs / f"{name}-{index}.log"
            with log.open("wb") as output:  # a session of its own: Ctrl-C reaches it once, from _stop
                process = subprocess.Popen(
                    command,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=os.environ | share,
                    start_new_session=True,
                    preexec_fn=_listen_to_interrupts,
                )
            started[process] = log
        yield started
    finally:
        _stop(started)
        for process, log in started.items():
            if process.returncode == 0:
                log.unlink(missing_ok=True)


def worker_shares(devices: Devices, workers: int, runs: int) -> list[dict[str, str]]:
    """What each process of a local sweep has of the machine, as environment variables: GPUs, or threads.

    A process gets as many GPUs as a run takes. More processes than that share them in turn.
    """
    each, gpus = devices.here(), devices.gpus()
    groups = [",".join(gpus[first : first + each]) for first in range(0, len(gpus) - each + 1, each)]
    count = min(workers or len(groups) or max(1, _cores() // each), runs)
    if groups:
        return [{"CUDA_VISIBLE_DEVICES": groups[index % len(groups)]} for index in range(count)]
    return [{"OMP_NUM_THREADS": str(max(1, _cores() // count))}] * count


def _records(planned: Sequence[Planned]) -> list[Record | None]:
    store = store_of(planned)
    return [store.run(item.id).read() for item in planned]


def _pending(planned: Sequence[Planned]) -> list[Planned]:
    """The works that are not done: not started, interrupted, or failed and to be tried again.

    One that is only needed by others is not pending where all of these have ended.
    """
    left = [i for i, r in zip(planned, _records(planned), strict=True) if not has_ended(i.work, r)]
    needed = {run_id for item in left for run_id in item.needs}
    return [item for item in left if item.asked or item.id in needed]


def _trouble(failed: Mapping[Path, int]) -> list[str]:
    """Why processes ended with a status other than 0: each error once, and each log that has none to tell.

    Failures of runs were printed before, so they are left out.
    """
    errors: list[str] = []
    for log, status in failed.items():
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        told = [line for line in lines if line.startswith("error: ")]
        errors += [line for line in told if not line.startswith("error: run ")]
        died = status < 0 or any(line.startswith("Traceback") for line in lines)
        if died or not told:
            errors.append(f"error: a process ended with status {status}; its last words are in {log}")
    return list(dict.fromkeys(errors))


def _measure(item: Planned) -> str:
    return item.work.measure.described()["name"] if isinstance(item.work, Measurement) else ""


def _listen_to_interrupts() -> None:
    """Undoes what a script's `&` does to its children, which would then never hear SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _stop(processes: Iterable["subprocess.Popen[bytes]"]) -> None:
    for process in processes:
        process.send_signal(signal.SIGINT)  # does nothing to a process that has ended
    deadline = time.monotonic() + PATIENCE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def _watch(
    processes: Iterable["subprocess.Popen[bytes]"],
    planned: Sequence[Planned],
    pending: set[str],
    store: RunStore,
    title: str,
    console: Console,
) -> None:
    """Follows the run store until the processes end; says how each run ended when it does."""
    earlier = {run_id: (store.run(run_id).read() or {}).get("finished") for run_id in pending}
    names = titles((item.id, item.config, _measure(item), item.words) for item in planned)
    done = len(planned) - len(pending)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("run {task.fields[done]} of {task.total:.0f}"),
        TimeElapsedColumn(),
        TextColumn("· left"),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=600,
    )
    with progress:
        task = progress.add_task(title, total=len(planned), completed=done, done=done)
        alive = True
        while alive:
            alive = any(process.poll() is None for process in processes)
            under_way = 0.0
            for item in planned:
                if item.id not in pending:
                    continue
                record = store.run(item.id).read()
                if record and record["status"] in (*WELL, "failed") and record["finished"] != earlier[item.id]:
                    pending.remove(item.id)
                    done += 1
                    line = f"{done}/{len(planned)} {ending(record, names[item.id])}"
                    progress.console.print(line, markup=False, highlight=False)
                elif record and record["status"] == "running":
                    under_way += store.run(item.id).share_done()
            progress.update(task, completed=done + under_way, done=done)
            time.sleep(POLL_SECONDS if alive else 0)
