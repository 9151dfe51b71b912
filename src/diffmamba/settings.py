"""The settings of each command that are handed to no constructor, with their types and ranges.

What constructors are handed is checked against their own annotations; see `validation`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypedDict

from annotated_types import Gt

from diffmamba.ranges import Count, Seed, Share, Size, Weight

Checkpoint = Literal["last", "best"]
Accelerator = Literal["auto", "cpu", "gpu", "cuda"]
Backend = Literal["auto", "torch", "cpu", "cuda", "definition"]
Launcher = Literal["local", "slurm", "slurm_local"]
Part = Mapping[str, Any]
"""Something that is built, whatever it is."""


class Budget(TypedDict):
    """See `runs.parts.Budget`."""

    steps: Size | None
    epochs: Size | None
    evaluate_every: Size | None


class Trainer(TypedDict):
    """Arguments of `lightning.Trainer` of which we take less than it does."""

    accelerator: Accelerator
    devices: Size | Literal["auto", -1]
    num_nodes: Size
    strategy: Literal["auto", "ddp", "fsdp"]
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true"]
    accumulate_grad_batches: Size
    gradient_clip_val: Annotated[float, Gt(0)] | None
    log_every_n_steps: Count


class Scale(TypedDict):
    """What a scale says beside the values that other settings take from it."""

    name: str
    hyper_parameters: Literal["own", "published"]
    corpora: Literal["embedded", "published"]
    seeds: str


class Named(TypedDict):
    """A group whose choice has a name."""

    name: str


class Model(Named):
    """What a model's file says beside its network."""

    backend: Backend
    network: Part


class Checkpoints(TypedDict):
    """When `last.ckpt` is written, and how many states of it are kept."""

    every_minutes: Annotated[float, Gt(0)] | None
    keep: Size


class Page(TypedDict, total=False):
    """What the file of a sweep may say of its page."""

    title: str | None
    baseline: Mapping[str, Any] | str | None


class OfSweep(TypedDict, total=False):
    """What stands in files of sweeps alone, and in no record: their page, and `runs.union`."""

    report: Page
    grid: str | None
    grids: Mapping[str, Any]


class Train(OfSweep):
    """`train` and `measure`."""

    seed: Seed
    budget: Budget
    trainer: Trainer
    scale: Scale
    runs: str
    retry: Literal["failed"] | None
    retries: Count
    checkpoint: Checkpoints
    force: bool
    compile: bool
    threads: Size | None
    group: str | None
    name: str | None
    model: Model
    data: Named
    task: Part
    weights: Part
    optimizer: Part


class Evaluate(TypedDict):
    """`evaluate`; split, window, stride, limit and batch are arguments of its measure."""

    run: str
    checkpoint: Checkpoint
    device: Literal["auto", "cpu", "cuda"]
    backend: Backend
    out: str
    runs: str
    retry: Literal["failed"] | None
    retries: Count
    force: bool
    threads: Size | None


class Generate(TypedDict):
    """`generate`."""

    run: str
    prompt: str
    length: Count
    temperature: Weight
    top_k: Count
    top_p: Share
    seed: Seed
    samples: Size
    checkpoint: Checkpoint
    device: Literal["auto", "cpu", "cuda"]
    backend: Backend
    threads: Size | None
    runs: str


class Slurm(TypedDict):
    """The jobs of `launcher=slurm`."""

    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    gpus_per_node: Count | None
    cpus_per_task: Size | None
    mem_gb: Annotated[float, Gt(0)] | None
    timeout_min: Size
    array_parallelism: Size
    signal_delay_s: Size
    setup: list[str]
    additional: Mapping[str, Any]


class Sweep(TypedDict):
    """`sweep`."""

    sweep: str
    launcher: Launcher
    workers: Count
    dry: bool
    slurm: Slurm


class Reproduce(TypedDict):
    """`reproduce` and `report`."""

    table: str
    figure: str
    sweep: str
    all: bool
    title: str
    baseline: str
    predictions: str
    train: bool
    reports: str
    launcher: Launcher
    workers: Count
    slurm: Slurm


class Audit(TypedDict):
    """`audit`."""

    seed: str
    reports: str
    device: str
    utilisation_fp32: Share
    utilisation_tf32: Share
    utilisation_bf16: Share


class Dashboard(TypedDict):
    """`dashboard`."""

    what: str
    scale: Scale
    entity: str | None
    project: str
    dry: bool
    reports: str
    runs: str


class WandbSweep(TypedDict):
    """`wandb_sweep`."""

    sweep: str
    entity: str | None
    project: str
    reports: str


OF: dict[str, type] = {
    "train": Train,
    "measure": Train,
    "evaluate": Evaluate,
    "generate": Generate,
    "sweep": Sweep,
    "reproduce": Reproduce,
    "report": Reproduce,
    "audit": Audit,
    "dashboard": Dashboard,
    "wandb_sweep": WandbSweep,
}
"""By the name of the root configuration."""
