"""The ratios of the report as one picture. The colour tells the model; light or dashed is a forward pass alone."""

from collections.abc import Callable, Iterable, Sequence

from benchmarks.passes import JUDGED
from benchmarks.record import Record, Section
from diffmamba.document import Chart, Panel, Series

COLOURS = {
    "mamba": "#4d4d4d",
    "mamba_grouped": "#8c8c8c",
    "diff_mamba": "#0072b2",
    "diff_mamba_hybrid": "#56b4e9",
    "transformer": "#d55e00",
    "published": "#009e73",
    "forward": "#9ecae1",
    JUDGED: "#0072b2",
    "target": "#d55e00",
}
COLUMNS, PANEL_SIZE = 3, (4.2, 3.0)  # inches
CAPTION = "Ratios with half the distance of their quartiles. A dashed line is a forward pass alone."
TIMES_MAMBA = "time, mamba's = 1"

SHIFTS = {"forward": -0.2, JUDGED: 0.2}  # of a mode's ratio from the middle of its row

Point = tuple[str, str, float, float]  # the label of the line it belongs to, the mode, x, y


def chart(sections: Sequence[Section], device: str, name: str) -> Chart | None:
    """A panel for each comparison that was measured; None where there is none."""
    records = [record for section in sections for record in section.records]
    panels = [panel for draw in PANELS if (panel := draw(records)) is not None]
    if not panels:
        return None
    rows = [tuple(panels[start : start + COLUMNS]) for start in range(0, len(panels), COLUMNS)]
    width = max(map(len, rows))
    full = tuple(row + (None,) * (width - len(row)) for row in rows)
    size = (PANEL_SIZE[0] * width, PANEL_SIZE[1] * len(rows) + 0.4)
    return Chart(name, device, full, "The ratios of this report as pictures.", CAPTION, size)


def _of(section: str, wanted: Callable[[Record], bool] = lambda record: True) -> Callable[[Record], bool]:
    return lambda record: record.section == section and wanted(record)


def _bars(
    wanted: Callable[[Record], bool], row: str, title: str, x_label: str, x_scale: str = "linear"
) -> Callable[[Sequence[Record]], Panel | None]:
    """A row for each value of the coordinate `row`: ratios by mode with half the distance of their quartiles."""

    def panel(records: Sequence[Record]) -> Panel | None:
        found = [record for record in records if wanted(record)]
        names = tuple(dict.fromkeys(record.at[row] for record in found))

        def height(record: Record) -> float:
            return names.index(record.at[row]) + SHIFTS.get(record.at.get("mode", ""), 0.0)

        def series(label: str, points: Sequence[tuple[float, float]], marker: str, error: Sequence[float]) -> Series:
            xs, ys = zip(*points, strict=True)
            return Series(label, xs, ys, COLOURS[label], line="", marker=marker, error=tuple(error))

        drawn = []
        for mode in SHIFTS:
            of = [record for record in found if record.at.get("mode", JUDGED) == mode]
            points = [(record.ratio.median, height(record)) for record in of]
            halves = [(record.ratio.high - record.ratio.low) / 2 for record in of]
            drawn += [series(mode, points, "o", halves)] if of else []
        judged = [(record.target, height(record)) for record in found if record.target is not None]
        aims = [(bound, y) for aim, y in judged for bound in (aim.least, aim.most) if bound is not None]
        drawn += [series("target", aims, "|", ())] if aims else []
        lines = (("x", 1.0),)
        return Panel(title, tuple(drawn), x_label, x_scale=x_scale, y_names=names, lines_at=lines) if found else None

    return panel


def _curves(
    wanted: Callable[[Record], bool],
    points: Callable[[Record], Iterable[Point]],
    title: str,
    x_label: str,
    y_label: str,
    y_scale: str = "linear",
) -> Callable[[Sequence[Record]], Panel | None]:
    """A line for each label and mode, through all its points."""

    def panel(records: Sequence[Record]) -> Panel | None:
        lines: dict[tuple[str, str], dict[float, float]] = {}
        for label, mode, x, y in (point for record in records if wanted(record) for point in points(record)):
            lines.setdefault((label, mode), {})[x] = y
        series = [
            Series(
                label,
                *zip(*sorted(line.items()), strict=True),
                COLOURS[label],
                line="dashed" if mode == "forward" else "solid",
                marker="o",
            )
            for (label, mode), line in lines.items()
        ]
        return Panel(title, tuple(series), x_label, y_label, "log", y_scale) if series else None

    return panel


def _by_length(record: Record) -> Iterable[Point]:
    label, mode = record.at["variant"], record.at["mode"]
    return (label, mode, record.at["base"], record.other), (label, mode, record.at["length"], record.ours)


def _published(record: Record) -> Iterable[Point]:
    yield record.at["variant"], "", record.at["length"], record.ratio.median
    if record.published is not None:
        yield "published", "", record.at["length"], record.published


def _throughput(record: Record) -> Iterable[Point]:
    batch = record.at["batch"]
    return ("diff_mamba", "", batch, record.ours), (record.at["other_model"], "", batch, record.other)


def _by_position(record: Record) -> Iterable[Point]:
    return ((record.at["variant"], "", record.at["position"], record.ratio.median),)


PANELS = (
    _bars(_of("mixers", lambda record: record.faster), "peer", "one mixer: times faster than", "", "log"),
    _bars(_of("differential"), "peer", "one mixer: ratio of times", ""),
    _bars(_of("training", lambda record: record.at["base"] == "mamba"), "variant", "a training step", TIMES_MAMBA),
    _curves(
        _of("length", lambda record: record.at.get("batch") == 1),
        _by_length,
        "one mixer, one sequence: time",
        "length",
        "microseconds per position",
    ),
    _curves(
        _of("length", lambda record: record.unit == "kB"),
        _by_length,
        "one mixer, one sequence: peak memory",
        "length",
        "kilobytes per position",
    ),
    _curves(
        _of("published", lambda record: record.at["table"] == 8),
        _published,
        "forward latency, table 8",
        "length",
        TIMES_MAMBA,
    ),
    _curves(
        _of("decoding", lambda record: record.at.get("what") == "prompt included"),
        _throughput,
        "generation, prompt included",
        "batch",
        "symbols per second",
        "log",
    ),
    _curves(
        _of("decoding", lambda record: "position" in record.at),
        _by_position,
        "a decoding step",
        "position",
        "time, first position = 1",
        "log",
    ),
)
"""What is drawn, from the records of all sections."""
