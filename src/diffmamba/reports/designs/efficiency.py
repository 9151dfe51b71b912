"""What tables 7 and 8 and figure 9 share: measurements of speed or memory, folded to a row for each load and model.

A run is a measurement of one model in one mode, under several loads: batches with lengths. A row is of one load. Its
value is a ratio to Mamba of the same seed under the same load on the same hardware. Runs that were made on different
hardware, or with different operators, stand in different groups, and are never compared.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from diffmamba.errors import SettingError
from diffmamba.measures.efficiency import OUT_OF_MEMORY, Efficiency
from diffmamba.paper.published import PublishedResult
from diffmamba.reports import columns
from diffmamba.reports.cells import Cell, Key, Results
from diffmamba.reports.columns import Column
from diffmamba.reports.records import NO_MEMORY, Headline, SeedResult, rank

BASELINE = "mamba"
WORDS = {"inference": "forward pass without a graph", "forward": "forward pass with its graph"}
"""The modes that are not called by their own name."""
MACHINES = "Measured on: {machines}."
BUSY = (
    "Over the minute before a run, {least} to {most} processes wanted to compute there on average, on {cores} cores. "
    "Where these are more than the cores, times are longer, differ more from run to run, and intervals are wider."
)
APART = (
    "The runs were made on different hardware or with different operators, so they stand in different groups. A ratio "
    "is of runs on the same hardware only."
)
NOT_FITTING = (
    "out of memory: so large a load did not fit into the memory there, and those that are larger were not tried. A "
    f"value without a ratio: it fitted, and {BASELINE} did not."
)

REPEATS = (
    "A run times several passes in one process, after one that is not timed; the median counts. spread: from the lower "
    "to the upper quartile of these passes, in % of the median. A seed is a run of its own: all models are timed anew, "
    "one right after the other, at another time. The interval is over seeds, so it holds what changes over time on "
    "this machine. It says nothing of other hardware, other sizes or other versions of the software."
)

Load = tuple[int, int]
"""A batch and a length."""


@dataclass(frozen=True)
class Reading:
    """What a table reads of the rows of a measurement.

    Args:
        measure: the class whose rows it reads.
        of: the value under one load, from the mode and the rows by name.
        along: what differs between the groups, and is the x axis of pictures: batch or length.
        ratio: the value over Mamba's, as a metric.
        unit: of values as they are shown; `times` makes them such.
        label: of the values in words.
        published: the published ratio of a model in a mode under a load.
        published_at: where a published ratio stands beside other loads: what it is of, in words.
        spread: from the rows by name, the spread of the repeats of a run relative to their median; None: one repeat.
        exact: whether repeats give the same value, so that there is nothing to estimate.
    """

    measure: type[Efficiency]
    of: Callable[[str, Mapping[str, float]], float]
    along: str
    ratio: Headline
    unit: str
    times: float
    label: str
    published: Callable[[str, str, Load], PublishedResult] = lambda model, mode, load: PublishedResult()
    published_at: str = ""
    spread: Callable[[Mapping[str, float]], float] | None = None
    exact: bool = False

    def text(self, number: float | None) -> str:
        """A value with three digits."""
        return "–" if number is None else f"{float(f'{number * self.times:.3g}'):,g} {self.unit}"


def relative_spread(name: str) -> Callable[[Mapping[str, float]], float]:
    """From the lower to the upper quartile of the repeats, over their median."""
    return lambda rows: (rows[f"{name}_high"] - rows[f"{name}_low"]) / rows[f"{name}_median"]


def key(reading: Reading) -> Callable[[Mapping[str, Any]], Key]:
    """What gives the cell of a measurement, a model and a mode. Its loads are what it will have rows of."""
    return lambda config: _key(reading, config)


def _key(reading: Reading, config: Mapping[str, Any]) -> Key:
    measure, name = config.get("measure") or {}, config["model"]["name"]
    if str(measure.get("_target_")).rpartition(".")[2] != reading.measure.__name__:
        raise SettingError(f"measure: this page reads the rows of measure={reading.measure.__name__.lower()} alone")
    loads = [(batch, length) for batch in measure["batches"] for length in measure["lengths"]]
    return Key(
        {"model": name, "mode": measure["mode"], "loads": loads},
        label=f"{name}, {measure['mode']}",
        is_baseline=name == BASELINE,
        group=measure["mode"],
    )


def machine(run: SeedResult) -> str:
    """The hardware and the operators that a run was made with, in words; "" where it has not been made."""
    hardware, operators = run.part("hardware"), run.record.get("operators") or {}
    if not hardware:
        return ""
    processor = hardware.get("gpu") or f"{hardware.get('cpu')}, {hardware.get('threads')} threads"
    compiled = ", compiled by torch.compile" * bool(operators.get("compiled"))
    return f"{processor}, operators: {operators.get('backend')}{compiled}"


def folded(reading: Reading) -> Callable[[Results], Results]:
    """What makes the rows of a table from the cells of all runs."""
    return lambda results: _fold(reading, results)


def _fold(reading: Reading, results: Results) -> Results:
    machines = list(dict.fromkeys(filter(None, (machine(run) for cell in results.cells for run in cell.seeds)))) or [""]
    cells = [
        _cell(reading, results, cell, load, place, machines)
        for place in machines
        for mode in dict.fromkeys(cell.key.fields["mode"] for cell in results.cells)
        for load in _loads(results.cells, mode)
        for cell in results.cells
        if cell.key.fields["mode"] == mode and load in cell.key.fields["loads"]
    ]
    made = tuple(cell for cell in cells if cell.seeds)
    return replace(results, metric=reading.ratio, cells=made, fine=results.cells)


def _loads(cells: Iterable[Cell], mode: str) -> list[Load]:
    return list(
        dict.fromkeys(one for cell in cells if cell.key.fields["mode"] == mode for one in cell.key.fields["loads"])
    )


def _cell(reading: Reading, results: Results, cell: Cell, load: Load, place: str, machines: Sequence[str]) -> Cell:
    """A row: one model under one load on one machine. Runs that have not been made stand with the first machine."""
    model, mode = cell.key.fields["model"], cell.key.fields["mode"]
    baseline = next((one for one in results.cells if (one.key.is_baseline, one.key.group) == (True, mode)), None)
    base = {run.seed: run for run in baseline.seeds} if baseline else {}
    batch, length = load
    words = f"{WORDS.get(mode, mode)}, batch {batch}, length {length:,}"
    group = words + f", on {place}" * (len(machines) > 1)
    runs = [run for run in cell.seeds if (machine(run) or machines[0]) == place]
    made = Key(
        {"model": model, "mode": mode, "batch": batch, "length": length, "machine": place},
        label=f"{group}, {model}",
        is_baseline=cell.key.is_baseline and not reading.exact,
        group=group,
        published=reading.published(model, mode, load),
    )
    seeds = (
        _seed(reading, run, base.get(run.seed), mode, load) for run in sorted(runs, key=lambda run: rank(run.seed))
    )
    return Cell(made, tuple(seeds), reading.ratio)


def _seed(reading: Reading, run: SeedResult, base: SeedResult | None, mode: str, load: Load) -> SeedResult:
    """A model under a load in one seed, over Mamba in the same seed."""
    if run.value is None:
        return SeedResult("", run.seed, run.status, run.reason, record=run.record)
    found = _rows(run, mode, load)
    record: dict[str, Any] = {name: run.part(name) for name in ("parameters", "hardware")}
    if OUT_OF_MEMORY in found:
        return SeedResult("", run.seed, NO_MEMORY, "was out of memory", record=record)
    if not found:
        return SeedResult("", run.seed, "failed", f"has no rows of this load (run {run.id})", record=record)
    own = reading.of(mode, found)
    record |= {"own": own, "spread": reading.spread(found) if reading.spread else None}
    theirs = _rows(base, mode, load) if base and machine(base) == machine(run) else {}
    if OUT_OF_MEMORY in theirs:
        return SeedResult("", run.seed, NO_MEMORY, f"{BASELINE} was out of memory", record=record)
    if not theirs:
        return SeedResult("", run.seed, "partial", f"has no {BASELINE} of this seed on this machine", record=record)
    return SeedResult("", run.seed, "finished", value=own / reading.of(mode, theirs), record=record)


def _rows(run: SeedResult, mode: str, load: Load) -> dict[str, float]:
    """The rows of a load by name, those of single repeats left out."""
    batch, length = load
    rows = run.rows
    if not {"mode", "batch", "length"} <= set(rows.columns):
        return {}
    rows = rows[(rows["mode"] == mode) & (rows["batch"] == batch) & (rows["length"] == length)]
    if "repeat" in rows:
        rows = rows[rows["repeat"].isna()]
    return dict(zip(rows["measure"], rows["value"].astype(float), strict=True))


def own(cell: Cell, name: str = "own") -> float | None:
    """The median over seeds of a cell's own value, or of its spread within a run."""
    found = [run.record[name] for run in cell.seeds if run.record.get(name) is not None]
    return median(found) if found else None


def columns_of(reading: Reading) -> tuple[Column, ...]:
    """The model, its ratio to Mamba beside the published one, and its own value on this hardware."""
    paper = replace(columns.PUBLISHED, header=columns.PUBLISHED.header + reading.published_at)
    shown = Column(reading.label, lambda cell: cell.status if own(cell) is None else reading.text(own(cell)))
    if reading.exact:
        verdict = (columns.RESULT, paper, shown, columns.SEEDS, columns.PARAMETERS)
        return (columns.MODEL, *verdict)
    within = Column("spread, %", lambda cell: "–" if (found := own(cell, "spread")) is None else f"{100 * found:.1f}")
    verdict = (columns.RESULT, columns.DIFFERS, columns.INTERVAL, columns.SIGN, paper)
    further = (columns.SMALLEST, columns.P, columns.DELTA, columns.SPREAD, columns.PARAMETERS)
    return (columns.MODEL, *verdict, shown, within, columns.SEEDS, *further)


def notes_on(results: Results) -> list[str]:
    """Where the runs were made, and what did not fit into the memory there."""
    places = list(dict.fromkeys(cell.key.fields["machine"] for cell in results.cells if cell.key.fields["machine"]))
    lacking = any(run.status == NO_MEMORY for cell in results.cells for run in cell.seeds)
    told = [MACHINES.format(machines="; ".join(places))] if places else []
    return [*told, *[APART] * (len(places) > 1), *[NOT_FITTING] * lacking]


def timed_notes_on(results: Results) -> list[str]:
    """The same, and how busy the machine was."""
    runs = [run for run in results.runs if run.value is not None]
    found = [one for run in runs if isinstance(one := run.part("values").get("busy"), int | float)]
    cores = " or ".join(sorted({str(run.part("hardware").get("cores")) for run in runs}))
    busy = [BUSY.format(least=min(found), most=max(found), cores=cores)] if found else []
    return [*notes_on(results), *busy]


def further(cell: Cell) -> dict[str, Any]:
    """What a row of the JSON file has beside the fields of every table."""
    return {"own_median": own(cell), "spread_within_runs": own(cell, "spread")}
