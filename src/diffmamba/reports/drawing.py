"""What every picture shares: the style, the hues of the models, the curve of a line, and how a drawing becomes bytes.

The hues are those of Okabe and Ito, which colour-blind readers can tell apart. The same records give the same bytes.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from diffmamba.reports.table import Line, Table

HUES = {"mamba": "#4d4d4d", "diff_s6": "#d55e00", "diff_mamba": "#0072b2"}
OTHER_HUES = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "axes.edgecolor": "#888888",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text in a PDF stays text
    "svg.hashsalt": "diffmamba",
}
UNDATED: dict[str, dict[str, Any]] = {
    "svg": {"Date": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}
PNG_DPI = 200


@dataclass(frozen=True)
class CurvePoint:
    """Test PPL at one evaluation, over seeds; `epoch` may be a fraction, `tokens` counts symbols seen."""

    step: int
    epoch: float
    tokens: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """The test curve of one line over the evaluations that its counted runs share."""

    line: Line
    points: tuple[CurvePoint, ...]

    def x(self, by_epoch: bool) -> list[float]:
        """Where the points lie: at epochs or at symbols seen."""
        return [point.epoch if by_epoch else point.tokens for point in self.points]

    @property
    def mean(self) -> list[float]:
        """The mean over seeds at each point."""
        return [point.mean for point in self.points]


def curve(line: Line) -> Curve:
    """The curve of a line with at least one run that counts."""
    runs = [{point.step: point for point in run.curve} for run in line.counted]
    points = []
    for step in sorted(set.intersection(*map(set, runs))):
        seeds = [run[step] for run in runs]
        ppl = [point.ppl for point in seeds]
        points.append(CurvePoint(step, seeds[0].epoch, seeds[0].tokens, fmean(ppl), min(ppl), max(ppl)))
    return Curve(line, tuple(points))


def lasted_an_epoch(lines: Iterable[Line]) -> bool:
    """Whether training went over a corpus at least once: then epochs are a better scale than symbols."""
    return max((point.epoch for line in lines for run in line.counted for point in run.curve), default=0.0) >= 1


def draw(axes: Axes, curves: Sequence[Curve], strokes: Sequence[dict[str, Any]], by_epoch: bool) -> None:
    """The curves, each with a band from the lowest to the highest seed."""
    for drawn, stroke in zip(curves, strokes, strict=True):
        x, low, high = drawn.x(by_epoch), [point.low for point in drawn.points], [point.high for point in drawn.points]
        axes.fill_between(x, low, high, color=stroke["color"], alpha=0.10, linewidth=0)
        axes.plot(x, drawn.mean, **stroke)
    if not by_epoch:
        axes.xaxis.set_major_formatter(EngFormatter())


def show_late_heights(axes: Axes, curves: Sequence[Curve], by_epoch: bool, share: float) -> None:
    """Show only the y range that the means have in the last `share` of the x axis."""
    points = [point for drawn in curves for point in zip(drawn.x(by_epoch), drawn.mean, strict=True)]
    end = max(x for x, _ in points)
    late = [y for x, y in points if x >= (1 - share) * end]
    margin = 0.08 * (max(late) - min(late)) or 0.01
    axes.set_ylim(min(late) - margin, max(late) + margin)


def x_label(by_epoch: bool) -> str:
    """What the x axis counts."""
    return "training epochs" if by_epoch else "symbols seen"


def hue(table: Table, model: str) -> str:
    """The colour of a model, the same in every picture of a table."""
    others = [name for name in dict.fromkeys(line.cell.key.model for line in table.lines) if name not in HUES]
    return HUES[model] if model in HUES else OTHER_HUES[others.index(model) % len(OTHER_HUES)]


def rendered(figure: Figure, kind: str) -> bytes:
    """The figure as `svg`, `png` or `pdf`; to be called within STYLE."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=PNG_DPI, metadata=UNDATED[kind])
    return buffer.getvalue()
