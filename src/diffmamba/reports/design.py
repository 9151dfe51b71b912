"""What makes one published table or figure different from the next. Each is a file of `designs/`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import pandas as pd

from diffmamba.document import Chart, Grid
from diffmamba.errors import SettingError
from diffmamba.reports import records
from diffmamba.reports.cells import AGREES, DISAGREES, NO_SIGN, UNDECIDED, Cell, Key, Results, values
from diffmamba.reports.charts import points as points_of_curves

MARKS = {AGREES: "agrees", DISAGREES: "disagrees", UNDECIDED: "undecided", NO_SIGN: "undecided"}
OTHER_HUES = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # of Okabe and Ito


@dataclass(frozen=True)
class Column:
    """A column of a table: the text of a cell in it, a word (left) or a number (right), and its mark.

    `{metric}` in the header stands for the label of the metric. `short` is the header where there is little room.
    """

    header: str
    text: Callable[[Cell], str]
    word: bool = False
    mark: Callable[[Cell], str] = lambda cell: ""
    short: str = ""


@dataclass(frozen=True)
class Design:
    """A table or a figure, filled with the runs of its sweep.

    Args:
        name: that of its file, which begins with `table` or `figure`.
        sweep: a file of sweeps/.
        key: the key of the cell that a run with this resolved configuration belongs to.
        baseline: in words, the cell that Δ is taken to.
        columns: of the table. Where cells have a group, it stands as a title above them; where not, cells that follow
            each other with the same first column share it.
        charts: its pictures. The first of a figure is the figure.
        metric: the key of the metric; None for the headline that the records name.
        overview: for a figure, what it shows in numbers; the table itself is then folded.
        points: what a figure draws, as the rows of its CSV file.
        caveats: what a reader of these results has to know.
        remarks: what is to be said about the paper's numbers, whatever the results are.
        further: fields that end each row of `table.json`.
        hues: the colours of models; models that are not here get other colours.
    """

    name: str
    title: str
    sweep: str
    key: Callable[[Mapping[str, Any]], Key]
    baseline: str
    columns: tuple[Column, ...]
    charts: Callable[[Results], Sequence[Chart]]
    metric: str | None = None
    overview: Callable[[Results], Grid] | None = None
    points: Callable[[Results], pd.DataFrame] = points_of_curves
    caveats: Callable[[Results], Sequence[str]] = lambda results: ()
    remarks: Callable[[], Sequence[str]] = tuple
    further: Callable[[Cell], dict[str, Any]] = lambda cell: {}
    hues: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """`table` or `figure`."""
        return kind(self.name)


def kind(name: str) -> str:
    """What a design of this name is: `table`, `figure`, or "" for neither."""
    return next((word for word in ("table", "figure") if name.startswith(word)), "")


def results(
    design: Design,
    planned: Iterable[tuple[str, Mapping[str, Any]]],
    found: Mapping[str, records.Record],
    scale: str,
    settings: Sequence[str] = (),
) -> Results:
    """The results of the planned runs, each an id and a resolved configuration, in their order.

    Args:
        found: the records by run id; a run without one has not started.
        settings: words of the command line that apply to all runs; the page tells them.

    Raises:
        SettingError: if two runs belong to the same cell and seed.
    """
    runs = _by_cell(design, planned)
    ids = [run_id for _, by_seed in runs for run_id in by_seed.values()]
    metric = records.headline([found[run_id] for run_id in ids if run_id in found], design.metric)
    read = [
        (key, tuple(records.read(run_id, seed, found.get(run_id), metric) for seed, run_id in sorted(by_seed.items())))
        for key, by_seed in runs
    ]
    baselines = {key.group: values(seeds) for key, seeds in read if key.is_baseline}
    cells = [Cell.of(key, seeds, metric, baselines.get(key.group, {})) for key, seeds in read]
    others = dict.fromkeys(key.model for key, _ in runs if key.model not in design.hues)
    hues = {**design.hues, **dict(zip(others, cycle(OTHER_HUES), strict=False))}
    return Results(metric, scale, tuple(cells), hues, tuple(settings))


def _by_cell(design: Design, planned: Iterable[tuple[str, Mapping[str, Any]]]) -> list[tuple[Key, dict[int, str]]]:
    """Each cell with the id of the run of each seed."""
    found: dict[str, tuple[Key, dict[int, str]]] = {}
    for run_id, config in planned:
        key, seed = design.key(config), config["seed"]
        _, seeds = found.setdefault(key.label, (key, {}))
        if seed in seeds:
            raise SettingError(
                f"{design.name} has one run for {key.label}, seed {seed}, but these settings make two; "
                "give each setting that the table does not list one value"
            )
        seeds[seed] = run_id
    return list(found.values())
