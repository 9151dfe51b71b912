"""The processes of one run: how many there are, which of them this is, and how they are started on this machine.

With more than one device a run has one process for each, its ranks. `execute` starts them here. If this process is
already one of several, started by torchrun or by srun with a task for each device, then every process of the job calls
`execute`. The first rank keeps the record.
"""

import atexit
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from lightning.fabric.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import distributed, multiprocessing
from torch.multiprocessing.spawn import ProcessExitedException

from diffmamba.errors import SettingError
from diffmamba.runs import stopping
from diffmamba.runs.job import Job, ToldRanks, free_port, number, tell_lightning_rank
from diffmamba.runs.job import rank as rank
from diffmamba.runs.job import started_elsewhere as started_elsewhere

T = TypeVar("T")
LAUNCHED = "DIFFMAMBA_LAUNCHED"  # in the processes that `launch` starts: the process that called it
PATIENCE_SECONDS = 30  # for the other ranks where one has ended before its time
AT_ONCE_SECONDS = 5  # for ranks that were asked to stop a second time
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Devices:
    """Among what the batch of a step is divided: the settings of `trainer`, and the sizes that limit them.

    Args:
        accelerator: cpu, gpu, cuda or auto.
        devices: of this machine; auto is as many as there are and the batch divides among.
        num_nodes: machines.
        strategy: auto, ddp or fsdp.
        batch_size: of an optimiser step; None where the data have none to divide.
        parts: batches that a device's share comes in.
    """

    accelerator: str
    devices: int | str = 1
    num_nodes: int = 1
    strategy: str = "auto"
    batch_size: int | None = None
    parts: int = 1

    @property
    def wants_gpu(self) -> bool:
        """Whether a GPU is required."""
        return self.accelerator in ("gpu", "cuda")

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU is used here."""
        return self.accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available()

    def check(self) -> None:
        """Raises SettingError where this machine does not have what is asked for."""
        if self.wants_gpu and not torch.cuda.is_available():
            raise SettingError("trainer.accelerator=gpu finds no CUDA device here; use trainer=cpu or trainer=auto")

    def gpus(self) -> list[str]:
        """The GPUs that runs may use here, by the names in CUDA_VISIBLE_DEVICES; none where they use the CPU."""
        if not self.on_gpu:
            return []
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        return visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]

    def here(self) -> int:
        """Devices of the run on this machine. Raises SettingError where there are not so many."""
        present = len(self.gpus())
        if self.devices in ("auto", -1):
            parts, batch_size = self.num_nodes * self.parts, self.batch_size or 1
            return next((count for count in range(present, 1, -1) if batch_size % (count * parts) == 0), 1)
        assert isinstance(self.devices, int)
        if present and self.devices > present:
            raise SettingError(
                f"trainer.devices={self.devices}, but there are {present} here; trainer.devices=auto takes all"
            )
        return self.devices

    def world_size(self) -> int:
        """Processes of the run on all machines. Raises SettingError where another number of them was started."""
        count = self.here() * self.num_nodes
        if self.num_nodes > 1 and not started_elsewhere():
            raise SettingError(
                f"trainer.num_nodes={self.num_nodes} needs a process for each device, started by torchrun or srun; "
                "trainer.num_nodes=1 starts its own"
            )
        job = Job.here()
        if job is not None and job.size != count:
            raise SettingError(
                f"trainer.devices={count // self.num_nodes} with trainer.num_nodes={self.num_nodes} takes {count} "
                f"processes, but {job.size} were started; set both to what was started"
            )
        return count

    def for_lightning(self) -> dict[str, Any]:
        """The arguments of `lightning.Trainer` about devices. Ours for fsdp is PyTorch's second one (FSDP2), which
        saves the same checkpoint as every other strategy.
        """
        strategy: Any = self.strategy
        if strategy == "fsdp":
            strategy = ModelParallelStrategy(self.world_size(), 1, save_distributed_checkpoint=False)
        return {
            "accelerator": self.accelerator,
            "devices": self.here(),
            "num_nodes": self.num_nodes,
            "strategy": strategy,
            "plugins": [ToldRanks()],
        }


def agree(decide: Callable[[], T]) -> T:
    """The first rank's decision on every rank of a job that something else has started, or the first rank's error.

    A process that `launch` started follows the process that started it.
    """
    if not started_elsewhere() or LAUNCHED in os.environ:
        return decide()
    _connect()
    answer: list[Any] = [None, None]
    if rank() == 0:
        try:
            answer[0] = decide()
        except Exception as error:
            answer[1] = error
    distributed.broadcast_object_list(answer, src=0)
    value, failure = answer
    if failure is not None:
        raise failure
    return value


def _connect() -> None:
    """The process group of the job, which Lightning then finds and uses."""
    if distributed.is_initialized():
        return
    job = Job.here() or Job()
    if "MASTER_ADDR" not in os.environ:  # srun: the first machine of the step, and a port that follows from its name
        nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "127.0.0.1")
        os.environ["MASTER_ADDR"] = SLURMEnvironment.resolve_root_node_address(nodes)
        port = 15000 + (number("SLURM_JOB_ID") * 10 + number("SLURM_STEP_ID")) % 10000
        os.environ.setdefault("MASTER_PORT", str(port))
    os.environ |= {"RANK": str(job.rank), "WORLD_SIZE": str(job.size)}
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    atexit.register(_leave)


def _leave() -> None:
    """Ends the process group before Python ends, or its threads would abort the process."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def launch(function: Callable[..., None], arguments: tuple[Any, ...], processes: int) -> None:
    """Runs `function(*arguments)` in so many processes, as the ranks of one run, and waits for all of them.

    If one ends with an error, the others are ended and the error is raised here. A signal that asks this process to
    stop is handed on to them, and KeyboardInterrupt is raised when they have ended. After a second one they are killed.
    """
    level = logging.getLogger().getEffectiveLevel()
    given = (os.getpid(), free_port(), processes, level, function, arguments)
    with stopping.listening(), stopping.deferred():
        context = multiprocessing.start_processes(_rank, given, processes, join=False, start_method="spawn")
        try:
            told = False
            while not context.join(timeout=POLL_SECONDS, grace_period=PATIENCE_SECONDS):
                if stopping.requested() is not None and not told:
                    _tell(context.processes)
                    told = True
        except ProcessExitedException as ended:
            if ended.exit_code != stopping.INTERRUPTED and stopping.requested() is None:
                raise
            raise KeyboardInterrupt from None
        except KeyboardInterrupt:
            _stop(context.processes)
            raise


def _rank(
    local_rank: int,
    parent: int,
    port: int,
    processes: int,
    level: int,
    function: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    """A rank's process. It has a process group of its own, so that Ctrl-C reaches it once, from `launch`.

    It must not outlive the process that started it, which holds the run. PyTorch has the system send it SIGINT then.
    """
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stdout)
    with suppress(OSError):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= {
        LAUNCHED: str(parent),
        "LOCAL_RANK": str(local_rank),
        "RANK": str(local_rank),
        "GROUP_RANK": "0",
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    tell_lightning_rank()
    logging.getLogger("lightning").setLevel(logging.WARNING)
    try:
        with stopping.listening(is_orphan):
            function(*arguments)
    except KeyboardInterrupt:
        sys.exit(stopping.INTERRUPTED)


def is_orphan() -> bool:
    """Whether `launch` started this process, and the process that called it is gone."""
    return os.environ.get(LAUNCHED, str(os.getppid())) != str(os.getppid())


def require_parent() -> None:
    """Ends an orphan at once: another process may hold the run by now."""
    if is_orphan():
        os._exit(stopping.INTERRUPTED)


def _tell(processes: list[Any]) -> None:
    for process in processes:
        if process.is_alive():
            os.kill(process.pid, signal.SIGINT)


def _stop(processes: list[Any]) -> None:
    """Ends processes that were to stop at once."""
    _tell(processes)
    deadline = time.monotonic() + AT_ONCE_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
