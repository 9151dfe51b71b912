"""Slurm's commands as far as a sweep uses them: jobs of an array are processes of this machine.

    python slurm_here.py sbatch|srun|sacct|scancel|scontrol ARGUMENTS...

$SLURM_HERE is a folder with a file for each job: `ID_INDEX.state` is its state, `.pid` the process of its step, and
`.requeue` says that it is to be queued again. A file `refuse` holds what sbatch refuses with, and a file `full` says
that no machine is free.
"""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "scancel", "scontrol")
FIRST = 1000  # the id of the first job


def install(folder: Path) -> Path:
    """Makes the commands. Returns the folder to put on the PATH."""
    commands = folder / "bin"
    commands.mkdir(parents=True)
    for name in COMMANDS:
        command = commands / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "{__file__}" {name} "$@"\n')
        command.chmod(0o755)
    return commands


def sbatch(here: Path, script: str) -> int:
    if (here / "refuse").exists():
        print((here / "refuse").read_text(), file=sys.stderr)
        return 1
    job = FIRST + len(list(here.glob("*.sh")))
    text = Path(script).read_text()
    (here / f"{job}.sh").write_text(text)
    array = re.search(r"^#SBATCH --array=0-(\d+)", text, re.M)
    for name in [f"{job}_{index}" for index in range(int(array[1]) + 1)] if array else [str(job)]:
        (here / f"{name}.state").write_text("PENDING")
        subprocess.Popen(
            [sys.executable, "-S", "-E", __file__, "run", name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    print(f"Submitted batch job {job}")
    return 0


def run(here: Path, name: str) -> int:
    """What Slurm does with one job: starts its script, again if it was queued again."""
    job, _, index = name.partition("_")
    text = (here / f"{job}.sh").read_text()
    output = re.search(r"^#SBATCH --output=(.*)$", text, re.M)[1]
    facts = {"SLURM_JOB_ID": str(int(job) + int(index or 0)), "SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS": "1"}
    facts |= {"SLURM_ARRAY_JOB_ID": job, "SLURM_ARRAY_TASK_ID": index} if index else {}
    facts |= {"SLURM_JOB_NODELIST": "localhost", "SLURM_PROCID": "0", "SLURM_NODEID": "0", "SLURM_LOCALID": "0"}
    again, state = 0, here / f"{name}.state"
    while (here / "full").exists():
        if state.read_text() != "PENDING":
            return 0
        time.sleep(0.05)
    while True:
        state.write_text("RUNNING")
        environment = os.environ | facts | ({"SLURM_RESTART_COUNT": str(again)} if again else {})
        with open(_path(output, name), "ab") as said:
            status = subprocess.run(["bash", here / f"{job}.sh"], env=environment, stdout=said, stderr=said).returncode
        if not (here / f"{name}.requeue").exists():
            break
        (here / f"{name}.requeue").unlink()
        again += 1
    if not state.read_text().startswith("CANCELLED"):
        state.write_text("COMPLETED" if status == 0 else "FAILED")
    return 0


def srun(here: Path, *words: str) -> int:
    """Becomes the step of a job."""
    command = list(words)
    output = command.pop(command.index("--output") + 1)
    command = [word for word in command if word not in ("--unbuffered", "--output")]
    job, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    name = f"{job}_{index}" if job else os.environ["SLURM_JOB_ID"]
    (here / f"{name}.pid").write_text(str(os.getpid()))
    said = os.open(_path(output, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.environ |= {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}
    os.execvp(command[0], command)


def sacct(here: Path, *words: str) -> int:
    jobs = [after for word, after in pairwise(words) if word == "-j"]
    print("JobID|State|NodeList")
    for path in sorted(here.glob("*.state")):
        if path.stem.partition("_")[0] in jobs:
            print(f"{path.stem}|{path.read_text()}|localhost")
    return 0


def scancel(here: Path, job: str, *words: str) -> int:
    """Ends a job, or all of an array; with --signal it only sends that."""
    paths = [path for path in here.glob(f"{job}*.state") if path.stem in (job, f"{job}_{path.stem.partition('_')[2]}")]
    for path in paths:
        number = getattr(signal, words[1]) if words else signal.SIGTERM
        if not words:
            path.write_text("CANCELLED by 0")
        with suppress(OSError, ValueError):
            pid = int(path.with_suffix(".pid").read_text())
            os.kill(pid, number)
            if not words:  # the time between the two is KillWait
                time.sleep(1)
                os.kill(pid, signal.SIGKILL)
    return 0


def scontrol(here: Path, requeue: str, job: str) -> int:
    assert requeue == "requeue"
    (here / f"{job}.state").write_text("REQUEUED")
    (here / f"{job}.requeue").touch()
    return 0


def _path(pattern: str, name: str) -> str:
    job, _, index = name.partition("_")
    return pattern.strip("'").replace("%A", job).replace("%a", index).replace("%j", job).replace("%t", "0")


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](Path(os.environ["SLURM_HERE"]), *sys.argv[2:]))
