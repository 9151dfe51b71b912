"""The panels of a description as objects of the library wandb-workspaces."""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any, cast

import wandb_workspaces.reports.v2 as wr

from diffmamba.dashboard import description as told

SETTING = "config."
WIDTH, HEIGHT = 24, 8
"""Of the grid of a report, and of a panel in it."""
MOST_LINES = 100
"""Lines, and bars, that a panel shows. W&B's own limit, 10, is less than the runs of a table."""


def panels(section: told.Section, page: str) -> list[Any]:
    """The panels of a section, two in a row. `page` names where they are: the same panels have the same ids again."""
    made, x, y = [], 0, 0
    for number, panel in enumerate(section.panels):
        width = WIDTH if panel.wide else WIDTH // 2
        if x + width > WIDTH:
            x, y = 0, y + HEIGHT
        one = MADE[type(panel)](panel)
        one.layout = wr.Layout(x=x, y=y, w=width, h=HEIGHT)
        one._id = name_of(page, section.title, str(number))
        made.append(one)
        x += width
    return made


def name_of(*parts: str) -> str:
    """An id of eleven letters and digits that follows from these words, as W&B's own are made at random."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:11]


def _metric(name: str) -> Any:
    """A logged metric, or a setting."""
    return wr.Config(name.removeprefix(SETTING)) if name.startswith(SETTING) else wr.Metric(_known(name))


def _last(name: str) -> Any:
    """The last value of a metric, or a setting."""
    return wr.Config(name.removeprefix(SETTING)) if name.startswith(SETTING) else wr.SummaryMetric(name)


def _known(name: str) -> str:
    return "Step" if name == "step" else name


def _curves(panel: told.Curves) -> Any:
    """With a star in a name, W&B takes a regular expression for all names."""
    pattern = "|".join(f"^{re.escape(name).replace(re.escape('*'), '.*')}$" for name in panel.y)
    starred = any("*" in name for name in panel.y)
    return wr.LinePlot(
        title=panel.title or None,
        x=_known(panel.x),
        y=[] if starred else cast(Any, panel.y),
        metric_regex=pattern if starred else None,
        log_x=panel.log_x or None,
        log_y=panel.log_y or None,
        title_x=panel.x,
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        smoothing_factor=0,
        smoothing_type="none",
        max_runs_to_show=MOST_LINES,
    )


def _points(panel: told.Points) -> Any:
    axes = {"x": _last(panel.x), "y": _last(panel.y)}
    return wr.ScatterPlot(title=panel.title or None, **axes, log_x=panel.log_x or None, log_y=panel.log_y or None)


def _bars(panel: told.Bars) -> Any:
    return wr.BarPlot(
        title=panel.title or None,
        metrics=cast(Any, panel.y),
        groupby=wr.Config(panel.by.removeprefix(SETTING)) if panel.by else None,
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=MOST_LINES,
        max_bars_to_show=MOST_LINES,
    )


def _parallel(panel: told.Parallel) -> Any:
    columns = [wr.ParallelCoordinatesPlotColumn(_last(name), log=name in panel.log or None) for name in panel.columns]
    return wr.ParallelCoordinatesPlot(title=panel.title or None, columns=columns)


MADE: dict[type, Callable[[Any], Any]] = {
    told.Curves: _curves,
    told.Points: _points,
    told.Bars: _bars,
    told.Number: lambda panel: wr.ScalarChart(title=panel.title or None, metric=panel.y, groupby_aggfunc="mean"),
    told.Parallel: _parallel,
    told.Importance: lambda panel: wr.ParameterImportancePlot(with_respect_to=panel.of),
    told.Runs: lambda panel: wr.RunComparer(diff_only="split"),
    told.Words: lambda panel: wr.MarkdownPanel(markdown=panel.text),
}
"""What makes each kind of panel."""


def columns(settings: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """The columns of a table of runs: its variants first, then what came out."""
    return [f"config:{backend(name)}" for name in settings] + [f"summary:{name}" for name in metrics]


def backend(setting: str) -> str:
    """The name of a setting on W&B's side: the mapping of a group lies below `value`."""
    first, *rest = setting.split(".")
    return ".".join([first, "value", *rest])
