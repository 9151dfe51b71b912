"""The workers of a sweep as jobs of Slurm, through submitit: one job array, whose jobs take works from the plan.

A job calls `worker.work`. Some time before its end (its time limit, or a preemption) Slurm warns it with a signal. The
training under way then writes its checkpoint, and submitit has Slurm queue the job again. `launcher=slurm_local` runs
the same jobs as processes of this machine, through submitit's local executor.
"""

import io
import logging
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffmamba.errors import SettingError, one_line
from diffmamba.runs.slurm_job import Turn
from diffmamba.runs.stopping import INTERRUPTED

if TYPE_CHECKING:
    from submitit.core.core import Job, PicklingExecutor

    from diffmamba.runs.processes import Devices

JOBS = "jobs"
"""The folder in that of a plan for what submitit writes: scripts and logs."""
LOOK_SECONDS = 30.0  # between questions to Slurm
RENEWALS = 5  # in a row while no record changes: then it is no accident
REQUEUES = 1000  # of one job: a sweep may take as many time limits as it needs
PATIENCE_SECONDS = 60.0  # for jobs on this machine that were asked to stop
ONE_LOG = {"stderr_to_stdout": True}  # what a job says
CANCELLED = "CANCELLED"  # "CANCELLED by 1000"


def start(plan: Path, settings: Mapping[str, Any], devices: "Devices", count: int) -> "Jobs":
    """Submits one array of `count` jobs. Raises SettingError where there is no Slurm, or where it refuses them."""
    _require_submitit("slurm")
    missing = next((name for name in ("sbatch", "srun") if shutil.which(name) is None), None)
    if missing:
        raise SettingError(
            f"launcher=slurm needs {missing}, which is not on this machine; "
            "slurm_local runs the same jobs here, and dry=true shows what would be submitted"
        )
    from submitit import SlurmExecutor

    executor = SlurmExecutor(plan / JOBS, max_num_timeout=REQUEUES)
    executor.update_parameters(**_parameters(plan, settings, devices))
    return SlurmJobs(plan, executor, [Turn(plan)] * count)


def start_here(plan: Path, settings: Mapping[str, Any], shares: Sequence[Mapping[str, str]]) -> "Jobs":
    """Starts a job on this machine for each share of it, which is given as environment variables.

    Of the settings only the times count; the others are for a cluster.
    """
    _require_submitit("slurm_local")
    from submitit import LocalExecutor

    executor = LocalExecutor(plan / JOBS, max_num_timeout=REQUEUES)
    executor.update_parameters(
        timeout_min=settings["timeout_min"], signal_delay_s=settings["signal_delay_s"], **ONE_LOG
    )
    return LocalJobs(plan, executor, [Turn(plan, share) for share in shares])


def script(plan: Path, settings: Mapping[str, Any], devices: "Devices", count: int) -> str:
    """What would be submitted, without submitting it. Slurm need not be here."""
    _require_submitit("slurm")
    from submitit import SlurmExecutor

    class Elsewhere(SlurmExecutor):
        """Of a machine that has Slurm."""

        @classmethod
        def affinity(cls) -> int:
            return 1

    executor = Elsewhere(plan / JOBS)
    executor.update_parameters(**_parameters(plan, settings, devices))
    executor.parameters |= {"map_count": count} if count > 1 else {}
    return executor._make_submission_file_text(executor._submitit_command_str, "")


def _require_submitit(launcher: str) -> None:
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise SettingError(f"launcher={launcher} needs an extra: pip install -e '.[slurm]'") from None
    logging.getLogger("submitit").setLevel(logging.ERROR)  # what it says of single questions to Slurm


def _parameters(plan: Path, settings: Mapping[str, Any], devices: "Devices") -> dict[str, Any]:
    """The settings by submitit's names; those that are null or empty are left to Slurm.

    A job gets as many GPUs as a run takes, where the run must have GPUs.
    """
    names = {"timeout_min": "time", "mem_gb": "mem", "additional": "additional_parameters"}
    given = {names.get(key, key): value for key, value in settings.items() if value not in (None, [], {})}
    if "mem" in given:
        given["mem"] = f"{round(given['mem'] * 1024)}M"
    if devices.wants_gpu and settings["gpus_per_node"] is None:
        given["gpus_per_node"] = devices.devices if isinstance(devices.devices, int) and devices.devices > 0 else 1
    return {"job_name": plan.name, "wckey": None} | ONE_LOG | given


class Jobs:
    """The jobs of a sweep. What submitit writes of them lies in the folder `jobs` of the plan."""

    def __init__(self, plan: Path, executor: "PicklingExecutor", turns: Sequence[Turn]):
        self.plan, self.executor, self.turns = plan, executor, turns
        self.jobs = self._submitted(turns)
        self._renewals = 0

    def _submitted(self, turns: Sequence[Turn]) -> list["Job[int]"]:
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            with redirect_stderr(io.StringIO()):  # what sbatch says stands in the error
                return self.executor.submit_array(list(turns))
        except (FailedJobError, FailedSubmissionError) as error:
            raise SettingError(f"sbatch refuses the jobs: {one_line(error)}") from None

    def is_over(self, job: "Job[int]") -> bool:
        """Whether a job has ended, well or not."""
        raise NotImplementedError

    def was_cancelled(self, job: "Job[int]") -> bool:
        """Whether somebody has ended it on purpose."""
        raise NotImplementedError

    def alive(self) -> int:
        return sum(not self.is_over(job) for job in self.jobs)

    def renew(self) -> int:
        """Submits as many jobs again as died without a word: a machine that failed, too little memory."""
        died = [i for i, job in enumerate(self.jobs) if self.is_over(job) and _status(job) is None]
        died = [index for index in died if not self.was_cancelled(self.jobs[index])]
        if died and self._renewals < RENEWALS:
            self._renewals += 1
            with suppress(SettingError):  # Slurm is busy: the other jobs go on
                for index, job in zip(died, self._submitted([self.turns[index] for index in died]), strict=True):
                    self.jobs[index] = job
                return len(died)
        return 0

    def progressed(self) -> None:
        self._renewals = 0

    def stop(self) -> None:
        """Asks the jobs to stop, where they are on this machine."""

    def end(self) -> None:
        """Every work has ended: jobs that still wait for their turn are not needed."""

    def trouble(self) -> list[str]:
        """A line for each different way in which jobs ended badly."""
        lines = []
        for job in self.jobs:
            status = _status(job)
            if status not in (0, INTERRUPTED) and self.is_over(job) and not self.was_cancelled(job):
                told = _errors(job)
                how = "died" if status is None else "failed"
                lines += told or [f"error: job {job.job_id} {how}; its last words are in {job.paths.stdout}"]
        return list(dict.fromkeys(lines))

    def told(self) -> str:
        """Who works, in words."""
        raise NotImplementedError


class SlurmJobs(Jobs):
    """Jobs of a cluster. They go on when the sweep that submitted them ends."""

    _looked = float("-inf")

    def is_over(self, job: "Job[int]") -> bool:
        if job.paths.result_pickle.exists():
            return True
        if time.monotonic() - self._looked > LOOK_SECONDS:
            job.watcher.update()  # asks for all jobs at once
            self._looked = time.monotonic()
        return job.watcher.is_done(job.job_id, mode="cache")

    def was_cancelled(self, job: "Job[int]") -> bool:
        return job.watcher.get_state(job.job_id, mode="cache").startswith(CANCELLED)

    def end(self) -> None:
        for job in self.jobs:
            if not self.is_over(job) and job.watcher.get_state(job.job_id, mode="cache") in ("PENDING", "UNKNOWN"):
                job.cancel(check=False)

    def told(self) -> str:
        ids = list(dict.fromkeys(job.job_id.partition("_")[0] for job in self.jobs))
        count = len(self.jobs)
        jobs = f"job array {ids[0]}, {count} workers" if count > 1 else f"job {ids[0]}, 1 worker"
        return f"{jobs}; scancel {' '.join(ids)} stops {'them' if count > 1 else 'it'}"


class LocalJobs(Jobs):
    """The same jobs as processes of this machine, which stop with the sweep that started them."""

    def _submitted(self, turns: Sequence[Turn]) -> list["Job[int]"]:
        from submitit.helpers import environment_variables

        jobs = []
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # is passed on: Ctrl-C reaches the jobs through `stop`
        try:
            for turn in turns:
                with environment_variables(**turn.environment):
                    jobs += super()._submitted([turn])
        finally:
            signal.signal(signal.SIGINT, before)
        return jobs

    def is_over(self, job: "Job[int]") -> bool:
        return bool(job.done())

    def was_cancelled(self, job: "Job[int]") -> bool:
        return False

    def stop(self) -> None:
        for job in self.jobs:
            if not self.is_over(job):
                job._process.terminate()  # type: ignore[attr-defined]  # submitit's controller hands it on to the job
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.1)
        for job in self.jobs:
            if not self.is_over(job):
                job._process.kill()  # type: ignore[attr-defined]

    def told(self) -> str:
        count = len(self.jobs)
        return f"{count} job{'s' * (count != 1)} on this machine"


def _status(job: "Job[int]") -> int | None:
    """The exit status of a job: 1 where it ended with an error; None where it left no word."""
    if not job.paths.result_pickle.exists():
        return None
    outcome, result = job._get_outcome_and_result()
    return result if outcome == "success" else 1


def _errors(job: "Job[int]") -> list[str]:
    """What a job says of why it ended badly, in the words of this package."""
    said = job.paths.stdout.read_text(errors="replace") if job.paths.stdout.exists() else ""
    return [line for line in said.splitlines() if line.startswith("error: ") and not line.startswith("error: run ")]
