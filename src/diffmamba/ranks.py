"""The processes of one run: how many, which of them this is, and starting them on this machine.

With more than one device a run has one process for each, its ranks. `run` starts them here, unless it finds itself
started as one of several already, by torchrun or by srun with a task for each device; then every process of the job
calls `run`. The first rank keeps the record.
"""

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from types import FrameType
from typing import Any, TypeVar

import torch
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed, multiprocessing

from diffmamba.errors import SettingError

T = TypeVar("T")
LAUNCHED = "DIFFMAMBA_LAUNCHED"  # set in the processes that `launch` starts
PATIENCE_SECONDS = 30  # for ranks that were asked to stop


def devices(config: dict[str, Any]) -> int:
    """Devices of the run on this machine; `auto` is as many as there are and the batch of a step divides among.

    Raises SettingError where there are not so many.
    """
    trainer = config["trainer"]
    wanted, present = trainer["devices"], len(gpus(trainer))
    if wanted in ("auto", -1):
        parts = trainer["num_nodes"] * trainer["accumulate_grad_batches"]
        batch_size = config["data"]["batch_size"]
        return next((count for count in range(present, 1, -1) if batch_size % (count * parts) == 0), 1)
    if type(wanted) is not int or wanted < 1:
        raise SettingError(f"trainer.devices={wanted} must be a whole number of at least 1, or auto for all there are")
    if present and wanted > present:
        raise SettingError(f"trainer.devices={wanted}, but there are {present} here; trainer.devices=auto takes all")
    return wanted


def gpus(trainer: dict[str, Any]) -> list[str]:
    """The GPUs that runs may use here, by the names that CUDA_VISIBLE_DEVICES knows; none where they use the CPU."""
    if trainer["accelerator"] not in ("gpu", "cuda", "auto") or not torch.cuda.is_available():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(index) for index in range(torch.cuda.device_count())]


def world_size(config: dict[str, Any]) -> int:
    """Processes of the run, over all its machines.

    Raises SettingError where something else has started another number of them.
    """
    nodes = config["trainer"]["num_nodes"]
    if type(nodes) is not int or nodes < 1:
        raise SettingError(f"trainer.num_nodes={nodes} must be a whole number of at least 1")
    count = devices(config) * nodes
    if nodes > 1 and not started_elsewhere():
        raise SettingError(
            f"trainer.num_nodes={nodes} needs a process for each device, started by torchrun or srun; "
            "trainer.num_nodes=1 starts its own"
        )
    started = os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS")
    if started_elsewhere() and started is not None and int(started) != count:
        raise SettingError(
            f"trainer.devices={count // nodes} with trainer.num_nodes={nodes} takes {count} processes, but {started} "
            "were started; set both to what was started"
        )
    return count


def strategy(config: dict[str, Any]) -> Any:
    """What `lightning.Trainer` takes as strategy. Ours for fsdp, PyTorch's second one, saves what all others save."""
    if config["trainer"]["strategy"] != "fsdp":
        return config["trainer"]["strategy"]
    return ModelParallelStrategy(world_size(config), 1, save_distributed_checkpoint=False)


def plugins() -> list[Any]:
    """What `lightning.Trainer` is to be told of a process that `launch` started, also inside a job of Slurm's."""
    return [LightningEnvironment()] if LAUNCHED in os.environ else []


def started_elsewhere() -> bool:
    """Whether something else has started this process as one of several ranks: torchrun, srun, or `launch`."""
    tasks = os.environ.get("SLURM_NTASKS", "1")
    by_srun = "SLURM_PROCID" in os.environ and tasks.isdecimal() and int(tasks) > 1
    return "LOCAL_RANK" in os.environ or by_srun


def rank() -> int:
    """Which rank this process is; 0 if it is alone."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK") if started_elsewhere() else ()
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


def agree(decide: Callable[[], T]) -> T:
    """What the first rank decides or fails of, on every rank of a job that something else has started.

    A process that `launch` started was admitted by the one that started it.
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
    if "MASTER_ADDR" not in os.environ:  # srun
        job = SLURMEnvironment()
        os.environ |= {"MASTER_ADDR": job.main_address, "MASTER_PORT": str(job.main_port)}
        os.environ |= {"RANK": str(job.global_rank()), "WORLD_SIZE": str(job.world_size())}
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def launch(function: Callable[..., None], arguments: tuple[Any, ...], processes: int) -> None:
    """Runs `function(*arguments)` in so many processes, as the ranks of one run, and waits for all of them.

    The end of one with an error ends the others and is raised here; so does Ctrl-C, after they have ended.
    """
    with suppress(ValueError):  # outside the main thread
        signal.signal(signal.SIGTERM, _interrupt)  # a run that is told to end takes its ranks with it
    context = multiprocessing.start_processes(
        _rank, (_free_port(), processes, function, arguments), processes, join=False, start_method="spawn"
    )
    try:
        while not context.join(grace_period=PATIENCE_SECONDS):  # one that fails may leave the others waiting for it
            pass
    except KeyboardInterrupt:
        _stop(context.processes)
        raise


def _rank(
    local_rank: int, port: int, processes: int, function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    """A rank's process: in a group of its own, so that Ctrl-C reaches it once, from `launch`."""
    with suppress(OSError):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ |= {
        LAUNCHED: "1",
        "LOCAL_RANK": str(local_rank),
        "RANK": str(local_rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    # read from the environment when Lightning was imported, before it was set
    rank_zero_only.rank = local_rank  # type: ignore[attr-defined]
    logging.getLogger("lightning").setLevel(logging.WARNING)
    try:
        function(*arguments)
    except KeyboardInterrupt:
        sys.exit(130)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _stop(processes: list[Any]) -> None:
    for process in processes:
        if process.is_alive():
            os.kill(process.pid, signal.SIGINT)
    deadline = time.monotonic() + PATIENCE_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
