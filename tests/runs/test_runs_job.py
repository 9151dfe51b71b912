"""Which process this is, by what torchrun, srun and the shells of Slurm leave in the environment."""

import os

import pytest
from lightning.pytorch.utilities import rank_zero_only

from diffmamba.errors import SettingError
from diffmamba.runs.job import Job, ToldRanks, started_elsewhere, tell_lightning_rank
from diffmamba.runs.processes import Devices, rank

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "GROUP_RANK": "1"}
ALLOCATION = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4", "SLURM_NODELIST": "a[1-2]"}
BATCH = ALLOCATION | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}  # a script without srun
INTERACTIVE = BATCH | {"SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "1"}  # a shell of salloc
SRUN = ALLOCATION | {
    **{"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"},
    "SLURM_NODEID": "1",
}


@pytest.fixture(autouse=True)
def _bare(monkeypatch):
    for name in [*os.environ]:
        if name.startswith("SLURM_") or name in (*TORCHRUN, "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(rank_zero_only, "rank", 0)


def set_all(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        ({}, None),
        (ALLOCATION, None),
        (BATCH, None),
        (INTERACTIVE, None),
        ({"LOCAL_RANK": "3"}, None),
        ({"RANK": "3"}, None),
        ({"RANK": "3", "WORLD_SIZE": "4"}, None),
        (TORCHRUN, Job(5, 8, 1, 1)),
        (SRUN, Job(3, 4, 1, 1)),
        (SRUN | TORCHRUN, Job(5, 8, 1, 1)),  # torchrun inside of Slurm
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1"}, None),  # one task, which starts its own ranks
    ],
)
def test_a_process_is_a_rank_only_where_something_started_several(monkeypatch, variables, job):
    set_all(monkeypatch, variables)
    assert Job.here() == job
    assert started_elsewhere() == (job is not None)
    assert rank() == (job.rank if job else 0)
    told = ToldRanks()
    expected = job or Job()
    assert (told.global_rank(), told.world_size(), told.local_rank(), told.node_rank()) == (
        *(expected.rank, expected.size),
        *(expected.local_rank, expected.node),
    )


@pytest.mark.parametrize("variables", [ALLOCATION, BATCH, INTERACTIVE, {"LOCAL_RANK": "3"}])
@pytest.mark.parametrize("strategy", ["auto", "ddp", "fsdp"])
def test_lightning_is_told_and_detects_nothing(monkeypatch, variables, strategy):
    import lightning

    set_all(monkeypatch, variables)
    monkeypatch.setattr(rank_zero_only, "rank", 3)  # as Lightning has it from LOCAL_RANK, when imported
    tell_lightning_rank()
    assert rank_zero_only.rank == 0
    trainer = lightning.Trainer(**Devices("cpu", strategy=strategy).for_lightning(), logger=False)
    assert (trainer.global_rank, trainer.local_rank, trainer.world_size) == (0, 0, 1)


@pytest.mark.parametrize(("variables", "name"), [(TORCHRUN, "WORLD_SIZE"), (TORCHRUN, "RANK"), (SRUN, "SLURM_PROCID")])
def test_a_variable_that_is_no_number_is_one_line(monkeypatch, variables, name):
    set_all(monkeypatch, variables | {name: "abc"})
    with pytest.raises(SettingError, match=f"^the environment variable {name}=abc must be a whole number"):
        Devices("cpu").world_size()


def test_another_number_of_processes_than_asked_for_is_refused(monkeypatch):
    set_all(monkeypatch, SRUN)
    assert Devices("cpu", 2, num_nodes=2).world_size() == 4
    with pytest.raises(SettingError, match=r"takes 1 processes, but 4 were started"):
        Devices("cpu").world_size()
