"""Which of several processes this one is, as its environment says it.

It is read here and nowhere else: Lightning and PyTorch are told, and detect nothing by themselves.
"""

import os
import socket
from contextlib import closing
from dataclasses import dataclass

from lightning.fabric.plugins.environments import ClusterEnvironment
from lightning.pytorch.utilities import rank_zero_only

from diffmamba.errors import SettingError

BY_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK")
BY_SRUN = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NODEID")
"""Variables of a rank, of the number of ranks, of the rank on this machine, and of the machine."""


@dataclass(frozen=True)
class Job:
    """The processes that something started together, and which of them this is."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    node: int = 0

    @classmethod
    def here(cls) -> "Job | None":
        """The job that this process is a rank of: one of torchrun's, of `launch`'s or of srun's. None if it is alone.

        srun says in each task how many tasks its step has. The shell of an allocation and a script of sbatch have
        SLURM_NTASKS and SLURM_PROCID too, but are one process. Raises SettingError for a variable that is no number.
        """
        if all(name in os.environ for name in BY_TORCHRUN[:3]):
            return cls(*map(number, BY_TORCHRUN))
        if "SLURM_STEP_ID" in os.environ and "SLURM_PROCID" in os.environ and number("SLURM_STEP_NUM_TASKS") > 1:
            return cls(*map(number, BY_SRUN))
        return None


class ToldRanks(ClusterEnvironment):
    """Tells Lightning which rank this process is, so that it does not look for a job by itself."""

    def __init__(self) -> None:
        self.job = Job.here() or Job()

    creates_processes_externally = True

    @staticmethod
    def detect() -> bool:
        return True

    @property
    def main_address(self) -> str:
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        return number("MASTER_PORT") or free_port()

    def world_size(self) -> int:
        return self.job.size

    def set_world_size(self, size: int) -> None:
        pass

    def global_rank(self) -> int:
        return self.job.rank

    def set_global_rank(self, rank: int) -> None:
        pass

    def local_rank(self) -> int:
        return self.job.local_rank

    def node_rank(self) -> int:
        return self.job.node


def started_elsewhere() -> bool:
    """Whether something else has started this process as one of several ranks: torchrun, srun, or `launch`."""
    return Job.here() is not None


def rank() -> int:
    """Which rank this process is; 0 if it is alone."""
    return (Job.here() or Job()).rank


def tell_lightning_rank() -> None:
    """Lightning has read its own idea of the rank from the environment when it was imported."""
    rank_zero_only.rank = rank()  # type: ignore[attr-defined]


def number(variable: str) -> int:
    """A variable of the environment as a whole number, 0 where it is not set."""
    text = os.environ.get(variable, "0")
    if not text.isdecimal():
        raise SettingError(f"the environment variable {variable}={text} must be a whole number; correct or unset it")
    return int(text)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
