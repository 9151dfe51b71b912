"""Who does the works of a plan: processes on this machine, or the jobs of a cluster."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from diffmamba.runs import slurm
from diffmamba.runs.processes import Devices
from diffmamba.runs.stopping import INTERRUPTED

PATIENCE_SECONDS = 60  # for workers that were asked to stop
MOST_JOBS = 16  # under slurm, unless `workers` says otherwise
RENEWALS = 5  # in a row while no record changes: then it is no accident


class Workers(Protocol):
    """The workers that an engine has started, as the sweep sees them."""

    def alive(self) -> int:
        """How many may still take works; queued jobs count."""

    def renew(self) -> int:
        """Starts a new worker in the place of each that died by itself. Returns how many."""

    def progressed(self) -> None:
        """Is told that a record has changed: the workers get to their works."""

    def stop(self) -> None:
        """Asks those on this machine to stop, which writes checkpoints, and waits for them."""

    def end(self) -> None:
        """Is told that every work has ended: who still waits for a turn is not needed."""

    def trouble(self) -> list[str]:
        """A line for each different reason why workers ended badly."""

    def told(self) -> str:
        """Who works, in words: `2 workers`, `job array 1234 of 8 workers`."""


@dataclass(frozen=True)
class Engine:
    """How works are done.

    Args:
        launcher: local, slurm, or slurm_local: the jobs of slurm as processes on this machine.
        workers: at a time; 0 is one for each GPU or core, and under slurm one for each work, at most `MOST_JOBS`.
        slurm: the settings of jobs.
    """

    launcher: str = "local"
    workers: int = 0
    slurm: Mapping[str, Any] = field(default_factory=dict)

    @property
    def here(self) -> bool:
        """Whether the works are done on this machine."""
        return self.launcher != "slurm"

    def count(self, devices: Devices, works: int) -> int:
        """Workers for so many works, whose trainings take these devices."""
        if self.here:
            return len(worker_shares(devices, self.workers, works))
        return min(self.workers or MOST_JOBS, works)

    def described(self, plan: Path, devices: Devices, works: int) -> list[str]:
        """What a dry run tells of the workers: under slurm the script that would be submitted."""
        count = self.count(devices, works)
        if self.here:
            return [f"launcher={self.launcher} would start {count} worker{'s' * (count != 1)} on this machine"]
        return ["launcher=slurm would submit:", *slurm.script(plan, self.slurm, devices, count).splitlines()]

    def start(self, plan: Path, devices: Devices, works: int) -> Workers:
        """Starts workers for a plan of so many works."""
        if self.launcher == "slurm":
            return slurm.start(plan, self.slurm, devices, self.count(devices, works))
        shares = worker_shares(devices, self.workers, works)
        return (
            slurm.start_here(plan, self.slurm, shares) if self.launcher == "slurm_local" else LocalWorkers(plan, shares)
        )


class LocalWorkers:
    """Processes on this machine. Each has a share of its cores or GPUs, and a log in the folder of the plan."""

    def __init__(self, plan: Path, shares: Sequence[Mapping[str, str]]):
        self.plan = plan
        self.shares = shares
        self.processes = [self._started(index) for index in range(len(shares))]
        self._renewals = 0

    def _started(self, index: int) -> "subprocess.Popen[bytes]":
        """A process in a session of its own: Ctrl-C reaches it once, from `stop`. It ends when its input does."""
        with self.log(index).open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "diffmamba.runs.worker", str(self.plan)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | self.shares[index],
                start_new_session=True,
                preexec_fn=_listen_to_interrupts,
            )

    def log(self, index: int) -> Path:
        """What a worker says."""
        return self.plan / f"worker-{index}.log"

    def alive(self) -> int:
        return sum(process.poll() is None for process in self.processes)

    def renew(self) -> int:
        renewed = 0
        for index, process in enumerate(self.processes):
            if (process.poll() or 0) < 0 and self._renewals < RENEWALS:  # ended by a signal
                self._renewals += 1
                with suppress(OSError):  # such as too little memory; tried again with the next look
                    self.processes[index] = self._started(index)
                    renewed += 1
        return renewed

    def progressed(self) -> None:
        self._renewals = 0  # what dies now has worked before

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGINT)  # does nothing to a process that has ended
        deadline = time.monotonic() + PATIENCE_SECONDS
        for process in self.processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def end(self) -> None:
        """They end by themselves."""

    def trouble(self) -> list[str]:
        errors: list[str] = []
        for index, process in enumerate(self.processes):
            if process.returncode not in (0, None, INTERRUPTED, -signal.SIGINT):  # the last: while it was starting
                errors += _last_words(self.log(index), process.returncode)
        return list(dict.fromkeys(errors))

    def told(self) -> str:
        count = len(self.processes)
        return f"{count} worker{'s' * (count != 1)}"


def worker_shares(devices: Devices, workers: int, works: int) -> list[dict[str, str]]:
    """What each worker on this machine has of it, as environment variables: GPUs, or threads.

    A worker gets as many GPUs as a run takes. More workers than that share them in turn.
    """
    each, gpus = devices.here(), devices.gpus()
    groups = [",".join(gpus[first : first + each]) for first in range(0, len(gpus) - each + 1, each)]
    count = min(workers or len(groups) or max(1, _cores() // each), works)
    if groups:
        return [{"CUDA_VISIBLE_DEVICES": groups[index % len(groups)]} for index in range(count)]
    return [{"OMP_NUM_THREADS": str(max(1, _cores() // count))}] * count


def _last_words(log: Path, status: int) -> list[str]:
    """Why a worker ended with a status other than 0. Failures of runs are told elsewhere."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    told = [line for line in lines if line.startswith("error: ") and not line.startswith("error: run ")]
    if status > 0 and told and not any(line.startswith("Traceback") for line in lines):
        return told[-1:] if told[-1].endswith("run it again") and len(told) < 2 else told[-2:]
    return [*told, f"error: a worker ended with status {status}; its last words are in {log}"]


def _listen_to_interrupts() -> None:
    """Undoes what a script's `&` does to its children, which would then never hear SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
