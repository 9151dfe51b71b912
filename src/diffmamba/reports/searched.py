"""The page of a search: the best value so far against the trials, and the best trials with their settings.

The val split ranks, since the search chose by it. The test value stands beside it and chose nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

from diffmamba.browse.fields import text
from diffmamba.document import Block, Bullets, Chart, Document, Entry, Folded, Grid, Panel, Paragraph, Section, Series
from diffmamba.reports import charts, provenance
from diffmamba.reports.cells import Cell, Key, Results
from diffmamba.reports.records import Headline, Record, SeedResult, cleaned, headline, read

TOP = 20  # trials in the table; all others can be opened
CHOSEN = (
    "The trials are ranked by {val}, which the search chooses by. The best of many looks better than it would in a new "
    "run, so {test} stands beside it: it chose nothing."
)
BEST = "Dots are the trials in the order in which they began. The line is the best so far.{failed}"
FAILED = " Crosses at the edge are trials that failed."
BLUE, RED = "#0072b2", "#d55e00"


@dataclass(frozen=True)
class Trial:
    """One trial: its number from 1, the settings that were searched, and its results by the val and the test split."""

    number: int
    settings: Mapping[str, Any]
    result: SeedResult
    test: float | None

    @property
    def words(self) -> str:
        """Its settings, as a command line has them."""
        return " ".join(f"{name}={_value(found)}" for name, found in self.settings.items())


@dataclass(frozen=True)
class Search:
    """The trials of a search in the order in which they began.

    `metric` is what they are ranked by, and `tested` what stands beside it; None where there is no other. `planned` is
    how many there are to be.
    """

    name: str
    title: str
    scale: str
    settings: tuple[str, ...]
    metric: Headline
    tested: Headline | None
    trials: tuple[Trial, ...]
    planned: int | None

    @property
    def ranked(self) -> list[Trial]:
        """The trials that count, the best first."""
        sign = -1 if self.metric.better == "higher" else 1
        counted = [trial for trial in self.trials if trial.result.value is not None]
        return sorted(counted, key=lambda trial: (sign * (trial.result.value or 0.0), trial.number))

    @property
    def complete(self) -> bool:
        """Whether as many trials count as there are to be."""
        return bool(self.trials) and len(self.ranked) >= max(self.planned or 0, len(self.trials))

    @property
    def results(self) -> Results:
        """The trials as the cells of a table."""
        keys = ((Key({"model": "", **trial.settings}, f"trial {trial.number}", False), trial) for trial in self.trials)
        cells = tuple(Cell(key, (trial.result,), self.metric) for key, trial in keys)
        return Results(self.metric, self.scale, cells, self.settings)


def search_of(
    name: str,
    title: str,
    found: Sequence[tuple[Mapping[str, Any], Record]],
    scale: str,
    settings: Sequence[str] = (),
    planned: int | None = None,
) -> Search:
    """The search whose trials have these settings and records, in the order in which they began."""
    records = [cleaned(record) for _, record in found]
    tested = headline(records, None)
    metric = replace(tested, key=tested.key.replace("test/", "val/"))
    if metric.key == tested.key or not any(metric.key in _last(record) for record in records):
        metric, beside = tested, None
    else:
        metric, beside = replace(metric, label=f"val {tested.label}"), replace(tested, label=f"test {tested.label}")
    trials = []
    for number, ((varied, _), record) in enumerate(zip(found, records, strict=True), start=1):
        run_id, seed = str(record.get("id")), (record.get("config") or {}).get("seed", 0)
        test = read(run_id, seed, record, beside).value if beside else None
        trials.append(Trial(number, varied, read(run_id, seed, record, metric), test))
    told = title or f"Search {name}"
    return Search(name, told, scale, tuple(settings), metric, beside, tuple(trials), planned)


def document(search: Search) -> Document:
    """What the page of a search says."""
    ranked, results = search.ranked, search.results
    best = f" The best is trial {ranked[0].number}: {ranked[0].words}." if ranked else ""
    of = f"; {search.planned} are planned (hydra.sweeper.n_trials)" if not search.complete and search.planned else ""
    count = len(search.trials)
    counts = (
        f"{len(ranked)} of {count} trial{'s' * (count > 1)} count{of}." if search.trials else "There is no trial yet."
    )
    others = [
        f"trial {trial.number} ({trial.words}): {trial.result.reason} (run {trial.result.id})"
        for trial in search.trials
        if trial.result.value is None
    ]
    blocks: list[Block] = [Paragraph(f"Scale {search.scale}, {search.metric.key}. {counts}{best}")]
    warnings = provenance.warnings(results)
    blocks += [Paragraph("Before you compare:", "warning"), Bullets(tuple(warnings), "warning")] if warnings else []
    if search.trials:
        blocks.append(_table(search, ranked[:TOP]))
    if search.tested and ranked:
        blocks.append(Paragraph(CHOSEN.format(val=search.metric.label, test=search.tested.label), "note"))
    if others:
        blocks += [Paragraph("These trials do not count:", "warning"), Bullets(tuple(others), "warning")]
    if ranked:
        blocks += [_best_of(search), *([_settings(search)] if search.trials[0].settings else [])]
        facts = Grid.of(("what", "of the trials that count"), list(provenance.facts(results).items()), words=2)
        blocks.append(Section("Where the numbers come from", (facts,), terminal=False))
    if len(ranked) > TOP:
        blocks.append(Folded(f"All {len(ranked)} trials that count", (_table(search, ranked),)))
    title = f"{search.title}, with {' '.join(search.settings)}" if search.settings else search.title
    return Document(title, tuple(blocks), data(search))


def data(search: Search) -> dict[str, Any]:
    """The content of `table.json`: the trials, the best first, then those that do not count."""
    uncounted = [trial for trial in search.trials if trial.result.value is None]
    tested = {} if search.tested is None else {search.tested.key: None}
    return {
        "search": search.name,
        "scale": search.scale,
        "settings": list(search.settings),
        "metric": search.metric.key,
        "data": provenance.corpora(search.results.counted),
        "git": {"revisions": provenance.revisions(search.results), "dirty": provenance.dirty(search.results)},
        "missing": search.results.missing,
        "rows": [
            {"trial": trial.number, "run": trial.result.id, "status": trial.result.status}
            | dict(trial.settings)
            | {search.metric.key: trial.result.value}
            | dict.fromkeys(tested, trial.test)
            for trial in (*search.ranked, *uncounted)
        ],
    }


def _table(search: Search, trials: Sequence[Trial]) -> Grid:
    names = list(search.trials[0].settings)
    tested = [search.tested.label] if search.tested else []
    rows: list[Sequence[str | Entry]] = [
        (
            str(trial.number),
            *(_value(trial.settings[name]) for name in names),
            search.metric.text(trial.result.value),
            *([search.metric.text(trial.test)] if tested else []),
            Entry(trial.result.id, link=f"../runs/{trial.result.id}.html"),
        )
        for trial in trials
    ]
    return Grid.of(("trial", *names, search.metric.label, *tested, "run"), rows, words=1)


def _best_of(search: Search) -> Chart:
    """Each trial, and the best value so far."""
    counted = [(trial.number, trial.result.value) for trial in search.trials if trial.result.value is not None]
    better = max if search.metric.better == "higher" else min
    so_far = list(accumulate((value for _, value in counted), better))
    ends = [*(number for number, _ in counted), search.trials[-1].number]  # a step from each trial to the next
    x = [at for pair in pairwise(ends) for at in pair]
    y = [best for best in so_far for _ in range(2)]
    failed = [float(trial.number) for trial in search.trials if trial.result.status == "failed"]
    values = [value for _, value in counted]
    edge = min(values) if search.metric.better == "higher" else max(values)
    series = (
        Series("best so far", tuple(map(float, x)), tuple(y), BLUE),
        Series("a trial", tuple(map(float, ends[:-1])), tuple(values), charts.GREY, line="", marker="o"),
        *([Series("failed", tuple(failed), (edge,) * len(failed), RED, line="", marker="x")] if failed else []),
    )
    panel = Panel("", series, x_label="trial", y_label=search.metric.label, x_range=(0.5, ends[-1] + 0.5))
    alt = f"{search.metric.label} of each trial, and the best so far. The table holds the best."
    caption = BEST.format(failed=FAILED * bool(failed))
    return Chart("best", "The best so far", ((panel,),), alt, caption, size=(8, 3.6))


def _settings(search: Search) -> Chart:
    """A panel for each searched setting: the metric of the trials against it."""
    panels = [_against(search, name) for name in search.trials[0].settings]
    rows = tuple(tuple(panels[start : start + 2]) for start in range(0, len(panels), 2))
    alt = f"{search.metric.label} of the trials against each setting that was searched."
    size = (9.0, 0.6 + 3.2 * len(rows))
    return Chart("settings", "Against each setting", rows, alt, "The best trial is orange.", size=size)


def _against(search: Search, name: str) -> Panel:
    found = [(trial.settings[name], trial.result.value) for trial in search.ranked if trial.result.value is not None]
    values = tuple(value for _, value in found)
    if all(isinstance(at, int | float) and not isinstance(at, bool) for at, _ in found):
        x = tuple(float(at) for at, _ in found)
        scale = "log" if min(x) > 0 and max(x) >= 10 * min(x) else "linear"
        return Panel("", _dots(x, values), x_label=name, y_label=search.metric.label, x_scale=scale)
    names = tuple(dict.fromkeys(_value(at) for at, _ in sorted(found, key=lambda one: _value(one[0]))))
    heights = tuple(float(names.index(_value(at))) for at, _ in found)
    return Panel("", _dots(values, heights), x_label=search.metric.label, y_label=name, y_names=names)


def _dots(x: tuple[float, ...], y: tuple[float, ...]) -> tuple[Series, ...]:
    """A dot for each trial, the best first, which has a colour of its own and lies above the others."""
    return (
        Series("", x[1:], y[1:], charts.GREY, line="", marker="o"),
        Series("", x[:1], y[:1], RED, line="", marker="o"),
    )


def _last(record: Record) -> Mapping[str, Any]:
    return (record.get("evaluations") or [{}])[-1]


def _value(found: Any) -> str:
    """A setting to four digits: a sampler gives seventeen, which `table.json` has."""
    return "null" if found is None else f"{found:.4g}" if isinstance(found, float) else text(found)
