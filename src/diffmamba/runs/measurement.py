"""A measurement: a measure, taken of given weights on data.

What it is: its parts and its identity. What it does: opens the network with its weights, takes the measure, and writes
rows and record.
"""

import math
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments import LightningEnvironment
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from diffmamba import atomic
from diffmamba.allocator import keep_freed_memory
from diffmamba.data import Data
from diffmamba.data.data import of_a_corpus
from diffmamba.errors import SettingError
from diffmamba.measures import Measure, Row, Subject
from diffmamba.runs.identity import canonical
from diffmamba.runs.loggers import log_measurement
from diffmamba.runs.measured import ROWS, table
from diffmamba.runs.parts import Build, Execution, Settings, built
from diffmamba.runs.provenance import hardware, now
from diffmamba.runs.quiet import quiet
from diffmamba.runs.store import Facts, Run
from diffmamba.runs.weights import Fresh, OfRun, Trained, Weights
from diffmamba.runs.work import (
    FactsOf,
    Training,
    Work,
    build_network,
    data_of,
    of_content,
    shapes_of,
    symbols_of,
)

MEASURED = ("measure", "measured")
"""Settings of a measurement that a training does not have."""
ASKED = ("weights", "runs", "retry", "retries", "force", "threads", "group", "name", "published", "logger")
"""Settings that a measurement takes from its own command. All others say what the weights were trained with."""
_FRESH = {"_target_": "diffmamba.runs.weights.Fresh"}


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
    def of(cls, settings: Settings, build: Build = built) -> "Measurement":
        """The measurement that a resolved configuration describes."""
        weights, measured = build(settings["weights"]), settings.get("measured")
        described = weights.settings(settings)
        start = settings["weights"].get("start", _FRESH)
        own = described if described is not settings else {**settings, "weights": start}
        own = {key: value for key, value in own.items() if key not in MEASURED}
        trained = Training.of(own, build)
        measure = build(settings["measure"]).completed(own)
        return cls(
            settings={**own, "logger": {}, **{key: settings[key] for key in (*MEASURED, *ASKED) if key in settings}},
            measure=measure,
            weights=weights,
            trained=trained,
            module=build(measured["module"]) if measured else trained.module,
            execution=replace(
                Execution.of(settings),
                compiled=measure.compiled,
                precision=trained.execution.precision,
                in_float64=measure.in_float64,
            ),
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
        """What it measures on, in the symbols that the weights know."""
        if isinstance(self.weights, OfRun):
            if self.on_own_data:
                return data_of(self.weights, self.trained)
            symbols, whose = symbols_of(self.weights, self.trained), str(self.weights.found.directory)
        elif self.on_own_data:
            return self.trained.data
        else:
            symbols, whose = self.trained.data.symbols, "the network"
        return self.module().read_as(symbols, self.trained_facts["vocabulary"], whose)

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

    def weights_described(self, opened: bool = True) -> dict[str, Any]:
        """What a record says of the weights. Those of a training that may not have any are not `opened`."""
        if not opened and isinstance(self.weights, Trained):
            return {"kind": "OfRun", "run": self.trained.identity(), "checkpoint": self.weights.checkpoint}
        return self._given().described()

    def _given(self) -> Weights:
        """The weights, those of a needed training as those of its run."""
        if not isinstance(self.weights, Trained):
            return self.weights
        return OfRun(self.trained.identity(), self.weights.checkpoint, self.settings["runs"])

    def content(self, facts_of: FactsOf) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "measure": canonical(self.measure.over(facts_of(self))) | {"version": self.measure.version},
            "weights": self._weights_content(facts_of),
            "data": self._data_content(facts_of(self)),
            "precision": self.execution.precision,
            **({"machine": self._machine_content()} if self.measure.of_machine else {}),
        }

    def _machine_content(self) -> dict[str, Any]:
        """What was chosen of the machine, and not what was found: a plan has the same ids wherever it is made."""
        device = self.execution.devices.accelerator
        chosen = {"threads": self.execution.threads, "backend": self.execution.backend}
        return {"device": "cuda" if device == "gpu" else device, **chosen}

    def _data_content(self, facts: Facts) -> Any:
        """A corpus by its content alone; examples, which may be made of a corpus, by what they are made with too."""
        if not self.measure.reads_data:
            return None
        alone = self.measure.reads_corpus_alone and of_a_corpus(facts)
        return facts["fingerprint"] if alone else of_content(self.module, facts)

    def _weights_content(self, facts_of: FactsOf) -> Any:
        """Those of a training that may not have run yet are those that its run will have."""
        if isinstance(self.weights, OfRun):
            return self.weights.content()
        if isinstance(self.weights, Trained):
            return {"run": self.trained.identity(facts_of), "checkpoint": self.weights.checkpoint}
        of_network = {"network": canonical(self.trained.network), "vocabulary": facts_of(self.trained)["vocabulary"]}
        drawn = {"seed": self.trained.seed} if isinstance(self.weights, Fresh) else {}
        return {"are": self.weights.content(), **of_network, **drawn}

    def checked_parts(self, here: bool) -> tuple[object, ...]:
        trained = (self.trained.module, self.trained.network)
        computed = (self.execution,) if here else ()
        return (self.measure, self.weights, self.module, *trained, *self.trained.checked_parts(here), *computed)

    def check(self, here: bool = True) -> None:
        self._check_compile()
        if self.needs:
            self.trained.check(here)
        self.execution.check(here, compiles="measure.compile")
        if here:
            self.measure.check_device(self.execution.devices.on_gpu)
            converted = fabric_of(self.execution).strategy.precision.convert_module
        shapes = shapes_of(self.trained.network, self.trained_facts["vocabulary"])
        self.weights.check(shapes)
        self.measure.check_network(shapes)
        if here and not self.needs:
            self.measure.check_weights(lambda: converted(self.network()))
        self.measure.check(self.data)

    def _check_compile(self) -> None:
        """`compile` is of the training; a measure of the machine has a setting of its own."""
        of_this_command = not isinstance(self.weights, OfRun | Trained)
        if self.measure.of_machine and of_this_command and self.settings.get("compile"):
            raise SettingError("compile=true compiles a training, and none is done here; use measure.compile=true")


def measure(work: Measurement, run: Run, progress_bar: bool) -> None:
    """Takes a measure, and writes the rows beside a record that says `finished`."""
    atomic.remove_leftovers(run.directory)
    keep_freed_memory()
    if work.execution.threads:
        torch.set_num_threads(work.execution.threads)
    started = time.monotonic()
    fabric = fabric_of(work.execution)
    network = work.network()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    fabric.setup_module(network.eval())  # moves and converts it; measures are handed the network itself, not a wrapper
    with _shown(work.measure.described()["name"], progress_bar) as progress, fabric.autocast():
        torch.set_autocast_cache_enabled(False)  # until the end of autocast: a measure may train, or time many passes
        subject = Subject(network, work.data, fabric.to_device, progress, partial(_keep, run))
        rows = list(work.measure.rows(subject))
    _check_finite(work, rows)
    work.data.require_unchanged()
    told = [{"measure": row.measure, "value": row.value, **row.coordinates} for row in rows]
    atomic.write(run.directory / ROWS, table(told).to_csv(index=False), run.require)
    record = run.read()
    assert record is not None
    run.write(
        record
        | {
            "status": "finished",
            "values": {row.measure: row.value for row in rows if not row.coordinates},
            "parameters": {"total": parameters},
            "hardware": hardware(fabric.device) | {"devices": 1},
            "operators": work.execution.operators(fabric.device),
            "wall_seconds": time.monotonic() - started,
            "finished": now(),
        }
    )
    log_measurement(run, work.settings, told)


def _keep(run: Run, name: str, content: bytes) -> None:
    """Writes a file of a measure beside its rows."""
    atomic.write(run.directory / name, content, run.require)


def fabric_of(execution: Execution) -> Fabric:
    """What moves a network to its device and converts it, in this process alone, whatever job it is a part of.

    Raises SettingError for a precision that would be replaced by another one: the record would not say what was done.
    """
    accelerator = "cuda" if execution.devices.on_gpu else "cpu"
    with quiet():
        fabric = Fabric(
            accelerator=accelerator,
            devices=1,
            precision=execution.precision,  # type: ignore[arg-type]
            plugins=LightningEnvironment(),
        )
    found = fabric.strategy.precision.precision
    if found != execution.precision:
        raise SettingError(
            f"trainer.precision={execution.precision}, that of the training, does not exist on a CPU, which would take "
            f"{found}; measure it on a GPU: device=cuda in evaluate, trainer=gpu in measure"
        )
    return fabric


def _check_finite(work: Measurement, rows: list[Row]) -> None:
    wrong = next((row for row in rows if not math.isfinite(row.value)), None)
    if wrong:
        raise SettingError(
            f"{wrong.measure} is {wrong.value} on {work.facts['name']}: the network has diverged, or the window is too "
            "long for this model"
        )


@contextmanager
def _shown(name: str, progress_bar: bool) -> Any:
    """A progress bar on standard error, where that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    disable = not progress_bar or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=disable) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
