"""A work: what a configuration asks for, as typed parts. It is a training, or a measurement of given weights.

A configuration becomes a work once, at the entrance (`work_of`), and each part goes one way from there. Parts are
`functools.partial`s of constructors, or small dataclasses. What is handed to the constructors is the identity.
"""

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from diffmamba.data import Data
from diffmamba.errors import SettingError
from diffmamba.measures import Measure
from diffmamba.ops import backend
from diffmamba.runs.identity import canonical, name_of
from diffmamba.runs.processes import Devices
from diffmamba.runs.store import Facts
from diffmamba.runs.weights import OfRun, Trained, Weights
from diffmamba.tasks import AdamW, Task

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true")
Settings = Mapping[str, Any]
"""A resolved configuration, as plain data."""


@dataclass(frozen=True)
class Budget:
    """For how long a network is trained: `steps` of the optimiser, or `epochs`. None: the other one says.

    `evaluate_every` counts steps; None is once an epoch.
    """

    steps: int | None
    epochs: int | None
    evaluate_every: int | None

    def __post_init__(self) -> None:
        for name in ("steps", "epochs", "evaluate_every"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise SettingError(f"scale.{name}={value} must be a whole number of at least 1")
        if not self.steps and not self.epochs:
            raise SettingError("scale.steps and scale.epochs are both null; set one of them")

    def over(self, steps_per_epoch: int) -> "Budget":
        """The same budget in steps alone."""
        steps = self.steps or (self.epochs or 0) * steps_per_epoch
        return Budget(steps, None, min(self.evaluate_every or steps_per_epoch, steps))


@dataclass(frozen=True)
class Execution:
    """How a work is computed, which changes nothing of its result but rounding.

    Args:
        devices: among what a step is divided.
        backend: whose operators: auto, torch or cuda.
        compiled: whether the network is compiled with `torch.compile`.
        threads: of the CPU; None is all cores.
        precision: of the arithmetic. The only one of these that belongs to the identity.
    """

    devices: Devices
    backend: str
    compiled: bool
    threads: int | None
    precision: str

    @classmethod
    def of(cls, settings: Settings, batch_size: int | None = None) -> "Execution":
        """The one that a configuration asks for."""
        trainer = settings["trainer"]
        devices = Devices(
            trainer["accelerator"],
            trainer["devices"],
            trainer["num_nodes"],
            trainer["strategy"],
            batch_size,
            trainer["accumulate_grad_batches"],
        )
        model = settings.get("model", {})
        return cls(
            devices, model.get("backend", "auto"), settings["compile"], settings["threads"], trainer["precision"]
        )

    def check(self, here: bool) -> None:
        """Raises SettingError for what cannot work, and selects the backend. `here`: on this machine."""
        if self.precision not in PRECISIONS:
            raise SettingError(f"trainer.precision={self.precision} is not known; use one of {', '.join(PRECISIONS)}")
        if not isinstance(self.compiled, bool):
            raise SettingError(f"compile={self.compiled} is not known; use true or false")
        if self.backend not in backend.BACKENDS:
            raise SettingError(f"model.backend={self.backend} is not known; use one of {', '.join(backend.BACKENDS)}")
        if here:
            self.devices.check()
            self._check_operators()
            backend.select(self.backend)

    def _check_operators(self) -> None:
        on_gpu = self.devices.on_gpu
        if self.backend == "cuda" and not on_gpu:
            raise SettingError("model.backend=cuda needs a CUDA device and trainer=gpu; or use model.backend=auto")
        if self.backend == "cuda" and (reason := backend.missing()):
            raise SettingError(f"model.backend=cuda: {reason}; {backend.INSTALL}, or use model.backend=auto")
        if self.backend == "cuda" and self.precision.startswith("64"):
            raise SettingError(
                "model.backend=cuda has no float64; use trainer.precision=32-true, or model.backend=auto"
            )
        compilers = (os.environ.get("CXX", "g++").split()[-1], "clang++")
        if self.compiled and not on_gpu and not any(map(shutil.which, compilers)):
            raise SettingError("compile=true needs a C++ compiler on a CPU; install g++, or use compile=false")


class Work(ABC):
    """What trainings and measurements have in common.

    `settings` is the configuration it came from, for its record and for names that people read.
    """

    kind: ClassVar[str]
    settings: Settings
    execution: Execution

    @property
    def needs(self) -> tuple["Work", ...]:
        """Works that must be done before this one."""
        return ()

    @property
    @abstractmethod
    def facts(self) -> Facts:
        """What is known of its data by their content. The data are prepared first if need be."""

    @property
    @abstractmethod
    def data_settings(self) -> Settings:
        """The configuration of its data."""

    @abstractmethod
    def content(self, facts_of: "FactsOf") -> dict[str, Any]:
        """What determines the result, as plain data; `facts_of` says what is known of a work's data."""

    def identity(self, facts_of: "FactsOf" = lambda work: work.facts) -> str:
        """The name of the work in the run store."""
        return name_of(self.content(facts_of))

    @abstractmethod
    def check(self, here: bool = True) -> None:
        """Raises SettingError for what cannot work, at no cost and before anything is written.

        `here` is False where it is to run on another machine, whose devices are not known.
        """


FactsOf = Callable[[Work], Facts]


@dataclass(frozen=True)
class Training(Work):
    """A network, trained from given weights on data.

    `task`, `network`, `module` (the data) and `trainer` are partials: their last arguments are known when they are
    built. `task` takes the network and the optimiser, `network` the size of the vocabulary.
    """

    settings: Settings
    task: partial[Task]
    network: partial[nn.Module]
    weights: Weights
    module: partial[Data]
    optimizer: AdamW
    budget: Budget
    trainer: partial[Any]
    execution: Execution
    seed: int

    kind = "training"

    @classmethod
    def of(cls, settings: Settings) -> "Training":
        """The training that a resolved configuration describes."""
        seed, module = settings["seed"], built(settings["data"]["module"])
        if type(seed) is not int or not 0 <= seed < 2**32:
            raise SettingError(f"seed={seed} must be a whole number of at least 0 and below 2**32")
        return cls(
            settings=settings,
            task=built(settings["task"]),
            network=built(settings["model"]["network"]),
            weights=built(settings["weights"]),
            module=module,
            optimizer=built(settings["optimizer"]),
            budget=Budget(**settings["budget"]),
            trainer=built(settings["trainer"]),
            execution=Execution.of(settings, module.keywords.get("batch_size")),
            seed=seed,
        )

    @property
    def task_type(self) -> type[Task]:
        """The class of its task, which says what is measured and monitored."""
        return cast(type[Task], self.task.func)

    @cached_property
    def data(self) -> Data:
        """Its data module, built once. A corpus is prepared here."""
        return self.module()

    @cached_property
    def shapes(self) -> nn.Module:
        """The network on the meta device: shapes without numbers."""
        with torch.device("meta"):
            return build_network(self.network, self.data.vocabulary_size)

    @property
    def data_settings(self) -> Settings:
        return self.settings["data"]

    @property
    def facts(self) -> Facts:
        return self.data.facts

    @cached_property
    def length(self) -> Budget:
        """Its budget in steps."""
        return self._length(self.facts)

    def _length(self, facts: Facts) -> Budget:
        if self.budget.steps and self.budget.evaluate_every:
            return self.budget.over(1)
        return self.budget.over(cast(type[Data], self.module.func).steps_in_epoch(facts, **self.module.keywords))

    def content(self, facts_of: FactsOf) -> dict[str, Any]:
        facts = facts_of(self)
        length = self._length(facts)
        steps = cast(int, length.steps)
        return {
            "kind": self.kind,
            "task": canonical(self.task) | {"version": self.task_type.version},
            "network": canonical(self.network),
            "weights": self.weights.content(),
            "data": of_content(self.module, facts),
            "optimizer": canonical(self.optimizer.over(steps)),
            "budget": {"steps": steps, "evaluate_every": length.evaluate_every},
            "trainer": canonical(self.trainer),
            "seed": self.seed,
        }

    def check(self, here: bool = True) -> None:
        self.execution.check(here)
        self.data.check(self.execution.devices.world_size() if here else 1)
        assert self.shapes is not None  # settings of the network are refused where it is built


@dataclass(frozen=True)
class Measurement(Work):
    """A measure, taken of given weights on data.

    `trained` is the training that has the weights, or that describes the network which they are of. `module` is what
    it measures on.
    """

    settings: Settings
    measure: Measure
    weights: Weights
    trained: Training
    module: partial[Data]
    execution: Execution

    kind = "measurement"

    @classmethod
    def of(cls, settings: Settings) -> "Measurement":
        """The measurement that a resolved configuration describes."""
        weights = built(settings["weights"])
        own = weights.settings(settings)
        trained = Training.of(own if own is not settings else {**settings, "weights": _FRESH})
        measured = settings.get("measured")
        return cls(
            settings=settings,
            measure=built(settings["measure"]).completed(own),
            weights=weights,
            trained=trained,
            module=built(measured["module"]) if measured else trained.module,
            execution=_as_trained(Execution.of(settings), trained.execution),
        )

    @property
    def needs(self) -> tuple[Work, ...]:
        return (self.trained,) if isinstance(self.weights, Trained) else ()

    @property
    def on_own_data(self) -> bool:
        """Whether it measures on the data that the weights were trained on."""
        return self.module is self.trained.module

    @cached_property
    def data(self) -> Data:
        """What it measures on."""
        return self.trained.data if self.on_own_data else self.module()

    @property
    def data_settings(self) -> Settings:
        return self.trained.data_settings if self.on_own_data else self.settings["measured"]

    @property
    def facts(self) -> Facts:
        return self.data.facts

    @property
    def trained_facts(self) -> Facts:
        """What is known of the data that the weights were trained on."""
        return self.weights.record["corpus"] if isinstance(self.weights, OfRun) else self.trained.facts

    def network(self) -> nn.Module:
        """The network with the weights, on the CPU. Weights of a training must be in the store."""
        torch.manual_seed(self.trained.seed)
        network = build_network(self.trained.network, self.trained_facts["vocabulary"])
        self._given().load(network)
        return network

    def weights_described(self) -> dict[str, Any]:
        """What a record says of the weights."""
        return self._given().described()

    def _given(self) -> Weights:
        """The weights, those of a needed training as those of its run."""
        if not isinstance(self.weights, Trained):
            return self.weights
        return OfRun(self.trained.identity(), self.weights.checkpoint, self.settings["runs"])

    def content(self, facts_of: FactsOf) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "measure": canonical(self.measure) | {"version": self.measure.version},
            "weights": self._weights_content(facts_of),
            "data": facts_of(self)["fingerprint"] or canonical(self.module),
            "precision": self.execution.precision,
        }

    def _weights_content(self, facts_of: FactsOf) -> Any:
        """Those of a training that may not have run yet are those that its run will have."""
        if isinstance(self.weights, OfRun):
            return self.weights.content()
        if isinstance(self.weights, Trained):
            return {"run": self.trained.identity(facts_of), "checkpoint": self.weights.checkpoint}
        of_network = {"network": canonical(self.trained.network), "vocabulary": facts_of(self.trained)["vocabulary"]}
        return {"are": self.weights.content(), **of_network, "seed": self.trained.seed}

    def check(self, here: bool = True) -> None:
        if self.needs:
            self.trained.check(here)
        self.execution.check(here)
        if isinstance(self.weights, OfRun):
            whose = str(self.weights.found.directory)
            if self.on_own_data:
                self.data.require(self.trained_facts, whose)
            elif self.facts["fingerprint"] != self.trained_facts["fingerprint"]:
                self.trained.data.require(self.trained_facts, whose)
                self.data.require_symbols_of(self.trained.data, whose)
        elif not self.on_own_data:
            self.data.require_symbols_of(self.trained.data, "the network")
        self.measure.check(self.data)


_FRESH = {"_target_": "diffmamba.runs.weights.Fresh"}


def _as_trained(asked: Execution, trained: Execution) -> Execution:
    """On the device that is asked for, with the precision and the operators of the training."""
    return Execution(asked.devices, trained.backend, False, asked.threads, trained.precision)


def work_of(settings: Settings) -> Work:
    """The work that a resolved configuration describes: a measurement if it names a measure."""
    return Measurement.of(settings) if settings.get("measure") else Training.of(settings)


def of_content(module: partial[Data], facts: Facts) -> Any:
    """The identity of data: a corpus by its content, everything else by what is handed to the constructor."""
    handed = {key: value for key, value in module.keywords.items() if key != "corpus"}
    content = {"content": facts["fingerprint"]} if facts["fingerprint"] else {}
    return canonical(partial(module.func, **handed)) | content


def built(node: Any) -> Any:
    """The part that a node with a `_target_` describes. Raises SettingError in one line where it cannot be built."""
    try:
        return instantiate(node)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, SettingError):
            raise cause from None
        target = node.get("_target_", "a part") if isinstance(node, Mapping) else "a part"
        reason = " ".join(str(cause or error).split())
        raise SettingError(f"{target} cannot be built from its settings: {reason}") from error


def build_network(network: partial[nn.Module] | Settings, vocabulary: int) -> nn.Module:
    """A network for so many symbols, from its partial or from a whole configuration.

    Its random numbers are drawn here. Under `torch.device("meta")` it has shapes and no numbers.
    """
    made: partial[nn.Module] = built(network["model"]["network"]) if isinstance(network, Mapping) else network
    return made(vocabulary)
