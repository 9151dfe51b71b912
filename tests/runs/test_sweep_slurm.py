"""A sweep's jobs: submitit's own executors, with Slurm's commands replaced by processes of this machine.

What a job does is replaced too: it works off lines of a file, and stops as a worker does.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

from diffmamba.command_line import own_settings
from diffmamba.errors import SettingError
from diffmamba.runs import slurm
from diffmamba.runs.engine import Engine
from diffmamba.runs.plan import Planned
from diffmamba.runs.processes import Devices
from diffmamba.runs.sweeping import work_off
from tests.end_to_end.conftest import World, english
from tests.runs import slurm_here

WORKER = '''
import os, signal, sys, time, types
from pathlib import Path

def work(plan, wait):
    """Does every work of the plan that nobody has claimed: a tenth of a second each."""
    assert not wait
    stopped = []
    for name in ("SIGUSR2", "SIGTERM", "SIGINT"):
        signal.signal(getattr(signal, name), lambda number, frame: stopped.append(number))
    def say(what):
        with open(plan / "diary", "a") as diary:
            diary.write(what + " " + os.environ.get("SHARE", "") + chr(10))
    say("start")
    for name in (plan / "works").read_text().split():
        claim, result = plan / (name + ".claim"), plan / (name + ".result")
        while not result.exists():
            try:
                os.close(os.open(claim, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                break
            deadline = time.monotonic() + (0.1 if not (plan / "long").exists() else 60)
            while time.monotonic() < deadline and not stopped:
                time.sleep(0.02)
            if stopped:
                time.sleep(0.3)  # for the checkpoint
                say("checkpoint")
                claim.unlink()
                raise KeyboardInterrupt
            result.touch()
            say("done-" + name)
    if (plan / "fails").exists():
        print("error: the disk is full")
        return 1
    return 0

stub = types.ModuleType("diffmamba.runs.worker")
stub.work = work
sys.modules["diffmamba.runs.worker"] = stub
'''
CPU = Devices("cpu")
WORKS = ("a", "b", "c", "d")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a plan, on a machine with Slurm's commands. No job outlives the test."""
    made, here = tmp_path / "table2-ab12", tmp_path / "slurm"
    made.mkdir()
    (made / "works").write_text(" ".join(WORKS))
    (tmp_path / "sitecustomize.py").write_text(WORKER)
    monkeypatch.setenv("PATH", f"{slurm_here.install(here)}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_HERE", str(here))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(slurm.__file__).parents[2]}")
    monkeypatch.setattr(slurm, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(SlurmJob, "watcher", SlurmInfoWatcher(delay_s=600))  # which remembers jobs of other tests
    yield made
    for path in here.glob("*.pid"):
        try:
            os.kill(int(path.read_text()), signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.fixture
def here() -> Callable[[Path], Path]:
    return lambda plan: plan.parent / "slurm"


def settings(*words: str) -> dict[str, Any]:
    """Those of the jobs, from a command line."""
    return own_settings("sweep", words)[0]["slurm"]


def until(happened: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def diary(plan: Path) -> Counter[str]:
    """What the jobs did, and how often."""
    path = plan / "diary"
    return Counter(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else Counter()


EACH_ONCE = Counter({f"done-{name}": 1 for name in WORKS})


def test_one_array_does_each_work_once(plan: Path) -> None:
    jobs = slurm.start(plan, settings(), CPU, 3)
    assert jobs.told() == "job array 1000, 3 workers; scancel 1000 stops them"
    assert jobs.alive() == 3
    until(lambda: not jobs.alive())
    assert diary(plan) == EACH_ONCE + Counter(start=3)
    jobs.renew()
    assert (jobs.alive(), jobs.trouble()) == (0, [])


def test_what_is_submitted_is_what_a_dry_run_shows(plan: Path) -> None:
    given = settings("slurm.partition=gpu", "slurm.setup=[module load cuda]", "+slurm.additional.nice=100")
    shown = slurm.script(plan, given, CPU, 2)
    assert "#SBATCH --partition=gpu\n" in shown
    assert "#SBATCH --array=0-1%2\n" in shown
    assert "#SBATCH --nice=100\n" in shown
    assert "\nmodule load cuda\n" in shown
    jobs = slurm.start(plan, given, CPU, 2)
    until(lambda: not jobs.alive())
    assert (plan.parent / "slurm" / "1000.sh").read_text() == shown


@pytest.mark.parametrize(
    ("devices", "word", "option"),
    [
        (CPU, "slurm.mem_gb=1.5", ""),
        (Devices("auto", "auto"), "slurm.mem_gb=1.5", ""),
        (Devices("gpu", 2), "slurm.mem_gb=1.5", "#SBATCH --gpus-per-node=2"),
        (Devices("gpu", "auto"), "slurm.mem_gb=1.5", "#SBATCH --gpus-per-node=1"),
        (Devices("gpu", 2), "slurm.gpus_per_node=4", "#SBATCH --gpus-per-node=4"),
        (Devices("auto", "auto"), "slurm.gpus_per_node=1", "#SBATCH --gpus-per-node=1"),
    ],
)
def test_gpus_of_a_job_are_those_of_a_run(plan: Path, devices: Devices, word: str, option: str) -> None:
    shown = slurm.script(plan, settings(word), devices, 2)
    assert [line for line in shown.splitlines() if "--gpus" in line] == ([option] if option else [])
    assert ("#SBATCH --mem=1536M\n" in shown) == ("mem_gb" in word)


def test_a_warned_job_writes_a_checkpoint_and_is_queued_again(plan: Path) -> None:
    (plan / "long").touch()
    jobs = slurm.start(plan, settings(), CPU, 1)
    until(lambda: (plan / "a.claim").exists())
    (plan / "long").unlink()
    os.system("scancel 1000 --signal SIGUSR2")
    until(lambda: not jobs.alive())
    assert diary(plan) == EACH_ONCE + Counter(start=2, checkpoint=1)
    assert jobs.trouble() == []


def test_a_dead_job_is_submitted_again_but_not_for_ever(
    plan: Path, here: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "RENEWALS", 2)
    (plan / "long").touch()
    jobs = slurm.start(plan, settings(), CPU, 1)
    for number in range(slurm.RENEWALS + 1):
        pid = here(plan) / f"{slurm_here.FIRST + number}.pid"
        until(lambda pid=pid, number=number: pid.exists() and diary(plan)["start"] == number + 1)
        os.kill(int(pid.read_text()), signal.SIGKILL)
        until(lambda: not jobs.alive())
        jobs.renew()
    assert not jobs.alive()
    (line,) = jobs.trouble()
    assert line.startswith("error: job 1002 died; its last words are in ")


def test_where_slurm_refuses_for_a_moment_a_dead_job_is_submitted_later(
    plan: Path, here: Callable[[Path], Path]
) -> None:
    (plan / "long").touch()
    jobs = slurm.start(plan, settings(), CPU, 1)
    pid, refuses = here(plan) / f"{slurm_here.FIRST}.pid", here(plan) / "refuse"
    until(lambda: pid.exists() and diary(plan)["start"] == 1)
    refuses.write_text("sbatch: error: Socket timed out on send/recv operation")
    os.kill(int(pid.read_text()), signal.SIGKILL)
    until(lambda: not jobs.alive())
    jobs.renew()
    assert not jobs.alive()
    refuses.unlink()
    (plan / "long").unlink()
    jobs.renew()
    until(lambda: diary(plan)["start"] == 2)
    until(lambda: not jobs.alive())


def test_a_cancelled_job_writes_its_checkpoint_and_stays_cancelled(plan: Path) -> None:
    (plan / "long").touch()
    jobs = slurm.start(plan, settings(), CPU, 1)
    until(lambda: (plan / "a.claim").exists())
    os.system("scancel 1000")
    until(lambda: not jobs.alive())
    assert diary(plan) == Counter(start=1, checkpoint=1)
    jobs.renew()
    assert (jobs.alive(), jobs.trouble()) == (0, [])


def test_jobs_go_on_when_the_sweep_stops(plan: Path) -> None:
    jobs = slurm.start(plan, settings(), CPU, 1)
    until(lambda: (plan / "a.claim").exists())
    jobs.stop()
    until(lambda: not jobs.alive())
    assert diary(plan) == EACH_ONCE + Counter(start=1)


def test_jobs_that_wait_are_not_needed_when_all_works_have_ended(plan: Path, here: Callable[[Path], Path]) -> None:
    (here(plan) / "full").touch()
    jobs = slurm.start(plan, settings(), CPU, 2)
    assert jobs.alive() == 2
    jobs.end()
    until(lambda: not jobs.alive())
    assert (diary(plan), jobs.trouble()) == (Counter(), [])


def test_why_a_job_ended_badly_is_told_once(plan: Path) -> None:
    (plan / "fails").touch()
    jobs = slurm.start(plan, settings(), CPU, 2)
    until(lambda: not jobs.alive() and jobs.trouble())
    assert jobs.trouble() == ["error: the disk is full"]


def test_what_slurm_refuses_is_one_line(plan: Path, here: Callable[[Path], Path], capfd: Any) -> None:
    (here(plan) / "refuse").write_text("sbatch: error: Batch job submission failed:\nInvalid account")
    with pytest.raises(SettingError, match=r"^sbatch refuses the jobs: .*submission failed: Invalid account$"):
        slurm.start(plan, settings(), CPU, 2)
    assert capfd.readouterr() == ("", "")


def test_without_slurm_it_says_what_runs_here(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(plan))
    with pytest.raises(SettingError, match=r"launcher=slurm needs sbatch, .*slurm_local runs the same jobs here"):
        slurm.start(plan, settings(), CPU, 2)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("slurm.partitoin=gpu", "there is no setting slurm.partitoin; did you mean slurm.partition?"),
        ("slurm.timeout_min=0", "slurm.timeout_min=0 must be a whole number of at least 1"),
        ("slurm.setup=module", "slurm.setup=module must be a list, each entry text"),
        ("slurm=there", "slurm=there is not known; available are default"),
    ],
)
def test_a_wrong_setting_is_one_line(word: str, message: str) -> None:
    with pytest.raises(SettingError) as refused:
        settings(word)
    assert str(refused.value) == message


def test_jobs_of_this_machine_have_their_shares(plan: Path) -> None:
    jobs = slurm.start_here(plan, settings(), [{"SHARE": "0"}, {"SHARE": "1"}])
    assert jobs.told() == "2 jobs on this machine"
    until(lambda: not jobs.alive())
    assert diary(plan) == EACH_ONCE + Counter(start=2)
    assert {line.split()[1] for line in (plan / "diary").read_text().splitlines()} == {"0", "1"}


def test_jobs_of_this_machine_stop_with_a_checkpoint(plan: Path) -> None:
    (plan / "long").touch()
    jobs = slurm.start_here(plan, settings(), [{}, {}])
    until(lambda: (plan / "b.claim").exists())
    jobs.stop()
    assert jobs.alive() == 0
    assert diary(plan) == Counter(start=2, checkpoint=2)


def test_a_time_limit_on_this_machine_is_one_of_slurm(plan: Path) -> None:
    """The job is warned, writes a checkpoint and begins anew."""
    (plan / "long").touch()
    jobs = slurm.start_here(plan, settings("slurm.timeout_min=1", "slurm.signal_delay_s=58"), [{}])
    until(lambda: diary(plan)["checkpoint"])
    (plan / "long").unlink()
    until(lambda: not jobs.alive())
    found = diary(plan)
    assert found - Counter(start=found["start"], checkpoint=found["checkpoint"]) == EACH_ONCE
    assert found["start"] == found["checkpoint"] + 1


def test_a_sweep_of_jobs_that_ended_well_has_no_trouble_and_leaves_no_folder(
    plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(WORKER.replace('(plan / "works").read_text().split()', "()"))
    world, said = World(tmp_path), StringIO()
    world.write_text(english(100))
    planned = [Planned((work := world.work()).identity(), work)]
    work_off("tiny", planned, Engine("slurm_local", 1, settings()), Console(file=said))
    assert "1 of 1 runs to do" in said.getvalue()
    assert "error" not in said.getvalue()
    assert list((world.store.directory / ".sweep").iterdir()) == []
