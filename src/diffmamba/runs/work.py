"""A work: what a configuration asks for, as typed parts. Here is what all works share, and the training.

A configuration becomes a work once, at the entrance (`work_of`), and each part goes one way from there. Parts are
`functools.partial`s of constructors, or small dataclasses. What is handed to the constructors is the identity.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, ClassVar, cast

import torch
from lightning.pytorch import Callback
from torch import nn

from diffmamba.data import Data
from diffmamba.errors import SettingError
from diffmamba.runs import vocabulary
from diffmamba.runs.identity import canonical, name_of
from diffmamba.runs.lightning_trainer import check_trainer
from diffmamba.runs.parts import Budget, Build, Execution, Settings, built
from diffmamba.runs.store import Facts
from diffmamba.runs.weights import OfRun, Trained, Weights
from diffmamba.tasks import AdamW, Task
from diffmamba.trainer_arguments import check_arguments


class Work(ABC):
    """What trainings and measurements have in common.

    `settings` is the configuration it came from, for its record and for names that people read.
    """

    kind: ClassVar[str]
    settings: Settings
    execution: Execution
    module: partial[Data]

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

    @abstractmethod
    def checked_parts(self, here: bool) -> tuple[object, ...]:
        """All that `check` looks at: works with the same parts pass or fail alike."""


TOO_LARGE = "scale.d_model, scale.n_layers: a network of this size does not fit into any memory; lower its sizes"
FactsOf = Callable[[Work], Facts]


@dataclass(frozen=True)
class Training(Work):
    """A network, trained from given weights on data.

    `task`, `network`, `module` (the data) and `trainer` are partials: their last arguments are known when they are
    built. `task` takes the network and the optimiser, `network` the size of the vocabulary. `callbacks` are the user's,
    by name.
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
    callbacks: Mapping[str, partial[Callback]] = field(default_factory=dict)

    kind = "training"

    @classmethod
    def of(cls, settings: Settings, build: Build = built) -> "Training":
        """The training that a resolved configuration describes."""
        seed, module = settings["seed"], build(settings["data"]["module"])
        weights, trainer = build(settings["weights"]), build(settings["trainer"])
        if isinstance(weights, Trained):
            raise SettingError("weights=trained is for measurements; a training starts from weights=fresh, run or file")
        check_arguments(trainer.keywords)
        return cls(
            settings=settings,
            task=build(settings["task"]),
            network=build(settings["model"]["network"]),
            weights=weights,
            module=module,
            optimizer=build(settings["optimizer"]),
            budget=Budget(**settings["budget"]),
            trainer=trainer,
            execution=Execution.of(settings, module.keywords.get("batch_size")),
            seed=seed,
            callbacks={name: build(node, partial=True) for name, node in (settings.get("callbacks") or {}).items()},
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
        """The network on the meta device: shapes without numbers. Raises SettingError where it is too large for any."""
        try:
            return shapes_of(self.network, self.data.vocabulary_size)
        except (MemoryError, OverflowError) as error:
            raise SettingError(TOO_LARGE) from error
        except RuntimeError as error:
            if "overflow" not in str(error):
                raise
            raise SettingError(TOO_LARGE) from error

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

    @property
    def symbols(self) -> float:
        """About how many positions it reads, its evaluations left out."""
        return (self.length.steps or 0) * self.facts["sizes"]["train"] / max(self._steps_in_epoch(self.facts), 1)

    def _length(self, facts: Facts) -> Budget:
        if self.budget.steps and self.budget.evaluate_every:
            return self.budget.over(1)
        return self.budget.over(self._steps_in_epoch(facts))

    def _steps_in_epoch(self, facts: Facts) -> int:
        return cast(type[Data], self.module.func).steps_in_epoch(facts, **self.module.keywords)

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
            **({"callbacks": canonical(list(self.callbacks.values()))} if self.callbacks else {}),
        }

    def checked_parts(self, here: bool) -> tuple[object, ...]:
        computed = (self.execution, self.trainer, *self.callbacks.values(), self.task_type) if here else ()
        return (self.module, self.weights, self.network, *computed)

    def check(self, here: bool = True) -> None:
        self.execution.check(here)
        self.data.check(self.execution.devices.world_size() if here else 1)
        self.weights.check(self.shapes)  # building the shapes refuses settings of the network
        if here:
            self.execution.check_memory(sum(parameter.numel() for parameter in self.shapes.parameters()))
            check_trainer(self.trainer, self.execution.devices, self.callbacks, self.task_type)
        if isinstance(self.weights, OfRun):
            known = self.weights.record["corpus"]
            if self.facts["fingerprint"] != known["fingerprint"] or known["fingerprint"] is None:
                symbols = symbols_of(self.weights, Training.of(self.weights.record["config"]))
                self.data.require_symbols(symbols, known["vocabulary"], str(self.weights.found.directory))


def data_of(weights: OfRun, trained: Training) -> Data:
    """The data that a run was trained on. A corpus that is still prepared needs no text.

    Raises SettingError where they have become others.
    """
    known = weights.record["corpus"]
    data = cast(type[Data], trained.module.func).known_by(known["fingerprint"], **trained.module.keywords)
    data.require(known, str(weights.found.directory))
    return data


def symbols_of(weights: OfRun, trained: Training) -> Mapping[str, Any] | None:
    """What the integers mean that a run was trained on. A run that does not keep it has its data asked.

    It is None where they mean nothing beyond themselves.
    """
    found = vocabulary.kept(weights.found, weights.record["corpus"]["vocabulary"])
    return found if found is not None else data_of(weights, trained).symbols


def of_content(module: partial[Data], facts: Facts) -> Any:
    """The identity of data: a corpus by its content, everything else by what is handed to the constructor."""
    handed = {key: value for key, value in module.keywords.items() if key != "corpus"}
    content = {"content": facts["fingerprint"]} if facts["fingerprint"] else {}
    return canonical(partial(module.func, **handed)) | content


def build_network(network: partial[nn.Module] | Settings, vocabulary: int) -> nn.Module:
    """A network for so many symbols, from its partial or from a whole configuration. Random numbers are drawn here."""
    made: partial[nn.Module] = built(network["model"]["network"]) if isinstance(network, Mapping) else network
    return made(vocabulary)


def shapes_of(network: partial[nn.Module] | Settings, vocabulary: int) -> nn.Module:
    """The same network on the meta device: it has shapes and no numbers, and takes no memory."""
    with torch.device("meta"):
        return build_network(network, vocabulary)
