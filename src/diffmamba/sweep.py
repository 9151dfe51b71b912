"""`python -m diffmamba.sweep sweep=table2 scale=smoke`: every run of a grid, on all cores or on a cluster.

A sweep is a Hydra multirun. On one machine several such multiruns work on the same grid side by side, each with its
share of the cores: a run is trained by whoever claims it first in the run store, and the others pass on to the next. A
process that dies takes one run with it, which the next call resumes.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from diffmamba import command_line
from diffmamba.errors import SettingError
from diffmamba.runs.grid import PlannedRun, check_launcher, expand
from diffmamba.runs.store import Record, RunStore

USAGE = """usage: python -m diffmamba.sweep sweep=NAME [launcher=local|slurm] [workers=N] [any setting of train]

Trains every run of sweeps/NAME.yaml that the run store does not hold yet, and shows how far it is.

  sweep=table2      the grid: a file of sweeps/
  launcher=local    processes on this machine; slurm submits one job for each run (see the README);
                    any other name is a Hydra launcher
  workers=0         runs at a time for launcher=local; 0: one for each GPU (or for each trainer.devices of them),
                    or for each core where there is none
  retry_failed=true goes on with failed runs, from their last checkpoint

Every other word is a setting for all runs, as in: scale=small data=pysrc8 optimizer.learning_rate=1e-3"""

DEFAULTS = {"sweep": "table2", "launcher": "local", "workers": 0}
LAUNCHERS = {"slurm": "submitit_slurm"}
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 60  # for processes that were asked to stop


def main(words: list[str]) -> int:
    """The entry point: 0 if every run of the grid is finished, else 1."""
    settings, overrides = command_line.parse(words, DEFAULTS)
    console = Console()
    planned = expand(settings["sweep"], overrides)
    train(planned, settings, overrides, console)
    store = store_of(planned)
    finished = sum(record is not None and record["status"] == "finished" for record in _records(store, planned))
    console.print(f"{finished} of {len(planned)} runs are finished in {store.directory}")
    return 0 if finished == len(planned) else 1


def store_of(planned: Sequence[PlannedRun]) -> RunStore:
    """The run store that the runs of a grid share."""
    return RunStore(planned[0].config["runs"])


def train(planned: Sequence[PlannedRun], settings: dict[str, Any], overrides: Sequence[str], console: Console) -> None:
    """Trains what is not there yet and shows how far it is; Ctrl-C stops all processes and is raised again."""
    store = store_of(planned)
    pending = [run for run, record in zip(planned, _records(store, planned), strict=True) if _is_pending(run, record)]
    if not pending:
        return
    if settings["workers"] < 0:
        raise SettingError(f"workers={settings['workers']} must be 1 or more, or 0 for one on each GPU or core")
    if settings["launcher"] != "local":
        check_launcher(_hydra_launcher(settings["launcher"]))
    _check(pending, here=settings["launcher"] == "local")
    console.print(f"{len(pending)} of {len(planned)} runs to train, in {store.directory}", highlight=False)
    logs = store.directory / ".sweep"
    logs.mkdir(parents=True, exist_ok=True)
    processes = _start(settings, overrides, pending, logs)
    try:
        _watch(processes, planned, {run.id for run in pending}, store, settings["sweep"], console)
    except KeyboardInterrupt:
        console.print("stopping ...")
        _stop(processes)
        finished = sum(record is not None and record["status"] == "finished" for record in _records(store, planned))
        console.print(
            f"interrupted with {finished} of {len(planned)} runs finished; the same command goes on from here"
        )
        raise
    finally:
        _stop(processes)
    for process, log in processes.items():
        if process.returncode != 0:
            console.print(_trouble(process.returncode, log), markup=False, highlight=False)


def _trouble(status: int, log: Path) -> str:
    """Why a process ended with a status other than 0; what runs failed of is in their records and was said already."""
    errors = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("error: ")]
    unsaid = dict.fromkeys(line for line in errors if not line.startswith("error: run "))
    return f"a process ended with status {status}: {'; '.join(unsaid) or f'see {log}'}"


def _check(pending: Sequence[PlannedRun], here: bool) -> None:
    """Raises SettingError for the first run that cannot work, before any is trained."""
    from diffmamba.build import check  # here: a grid that needs no training needs none of it

    for run in pending:
        check(run.config, here)


def _records(store: RunStore, planned: Sequence[PlannedRun]) -> list[Record | None]:
    return [store.run(run.id).read() for run in planned]


def _is_pending(run: PlannedRun, record: Record | None) -> bool:
    ended = ("finished",) if run.config["retry_failed"] else ("finished", "failed")
    return record is None or record["status"] not in ended


def _start(
    settings: dict[str, Any], overrides: Sequence[str], pending: Sequence[PlannedRun], logs: Path
) -> dict[subprocess.Popen[bytes], Path]:
    """The processes that train, and where each writes what it says."""
    command = [sys.executable, "-m", "diffmamba.train", f"sweeps={settings['sweep']}", *overrides]
    if settings["launcher"] == "local":
        shares = worker_shares(pending[0].config, settings["workers"], len(pending))
    else:
        shares = [{}]
        command.append(f"hydra/launcher={_hydra_launcher(settings['launcher'])}")
    processes = {}
    for index, share in enumerate(shares):
        log = logs / f"{settings['sweep']}-{index}.log"
        with log.open("wb") as output:  # a session of its own: Ctrl-C reaches it once, from _stop
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | share,
                start_new_session=True,
                preexec_fn=_listen_to_interrupts,
            )
        processes[process] = log
    return processes


def worker_shares(config: dict[str, Any], workers: int, runs: int) -> list[dict[str, str]]:
    """What each process of a local sweep has of the machine, as environment variables: GPUs, or threads.

    A process gets as many GPUs as a run of the resolved configuration takes; more processes than that share
    them in turn.
    """
    from diffmamba import ranks  # here: a grid that needs no training needs none of it

    each = ranks.devices(config)
    gpus = ranks.gpus(config["trainer"])
    groups = [",".join(gpus[first : first + each]) for first in range(0, len(gpus) - each + 1, each)]
    count = min(workers or len(groups) or max(1, _cores() // each), runs)
    if groups:
        return [{"CUDA_VISIBLE_DEVICES": groups[index % len(groups)]} for index in range(count)]
    return [{"OMP_NUM_THREADS": str(max(1, _cores() // count))}] * count


def _listen_to_interrupts() -> None:
    """Undoes what a script's `&` does to its children, which would then never hear SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _hydra_launcher(name: str) -> str:
    return LAUNCHERS.get(name, name)


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _stop(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.send_signal(signal.SIGINT)  # does nothing to a process that has ended
    deadline = time.monotonic() + PATIENCE_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def _watch(
    processes: Iterable[subprocess.Popen[bytes]],
    planned: Sequence[PlannedRun],
    pending: set[str],
    store: RunStore,
    title: str,
    console: Console,
) -> None:
    """Follows the run store until the processes end; says how each run ended when it does."""
    earlier = {run_id: (store.run(run_id).read() or {}).get("finished") for run_id in pending}
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
            for run in planned:
                if run.id not in pending:
                    continue
                record = store.run(run.id).read()
                if record and record["status"] in ("finished", "failed") and record["finished"] != earlier[run.id]:
                    pending.remove(run.id)
                    done += 1
                    progress.console.print(f"{done}/{len(planned)} {_ending(record)}", markup=False, highlight=False)
                elif record and record["status"] == "running":
                    under_way += store.run(run.id).share_done()
            progress.update(task, completed=done + under_way, done=done)
            time.sleep(POLL_SECONDS if alive else 0)


def _ending(record: Record) -> str:
    """How a run ended, in one line."""
    config = record["config"]
    model = config["model"]
    norm = "outer norm" if model["outer_norm"] else "no outer norm"
    place = f"{config['data']['name']}, {model['n_layers']} layers"
    name = f"{place}, {model['name']}, {norm}, λ {model['lambda_form']}, seed {config['seed']}"
    if record["status"] == "failed":
        return f"{name}: failed at step {record['error']['step']}: {record['error']['message']} (run {record['id']})"
    return f"{name}: test PPL {record['evaluations'][-1]['test/ppl']:.3f} in {record['wall_seconds']:.0f} s"


if __name__ == "__main__":
    command_line.run(main, USAGE)
