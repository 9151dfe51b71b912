"""The report as one picture. Hue tells the model, line and fill tell the mode."""

import io
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.record import Record, Section
from benchmarks.report import number

HUES = {"mamba": "#4d4d4d", "diff_mamba": "#0072b2", "transformer": "#d55e00", "mamba1": "#009e73"}
OTHER_HUE = "#8c8c8c"
PEER_HUES = {"forward": "#9ecae1", "forward+backward": "#0072b2"}
DASHES = {"forward": (0, (4, 2)), "forward+backward": "-"}
COLOURS = 96  # in the picture's palette, which makes it a third as large
STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
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
    "legend.fontsize": 8,
}
Records = Sequence[Record]


def draw(sections: Sequence[Section], device: str) -> bytes | None:
    """A PNG, or None where matplotlib is missing or no section has a panel."""
    try:
        import matplotlib as mpl
        import numpy as np
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from PIL import Image
    except ImportError:
        print("no picture: matplotlib is not installed", file=sys.stderr)
        return None
    panels = []
    for panel, (section, wanted) in PANELS.items():
        records = [record for found in sections if found.name == section for record in found.records if wanted(record)]
        if records:
            panels.append((panel, records))
    if not panels:
        return None
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5 * columns, 3.6 * rows + 0.4), layout="constrained")
        figure.suptitle(device, fontsize=11)
        places = list(figure.subplots(rows, columns, squeeze=False).flat)
        for (panel, records), axes in zip(panels, places, strict=False):
            panel(axes, records)
        for axes in places[len(panels) :]:
            axes.set_axis_off()
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    buffer = io.BytesIO()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _peers(axes: Any, records: Records) -> None:
    """Times faster than each peer, a bar for each mode, a stroke where the target is."""
    peers = list(dict.fromkeys(record.at["peer"] for record in records))
    for record in records:
        height = peers.index(record.at["peer"]) + (-0.2 if record.at["mode"] == "forward" else 0.2)
        _bar(axes, height, record, PEER_HUES[record.at["mode"]], 0.36)
    axes.set_xscale("log")
    axes.set_xlim(0.5, 4 * max(record.ratio.high for record in records))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.axvline(1, color="#888888", linewidth=1)
    axes.set_yticks(range(len(peers)), [peer.replace(" ", "\n", 1).replace(", ", "\n") for peer in peers], fontsize=8)
    axes.set(title="one mixer: times faster than", xlabel="light: forward   dark: forward+backward   stroke: target")


def _differential(axes: Any, records: Records) -> None:
    """Differential mixers against vanilla ones, and two blocks in sequence against one pass."""
    names = list(dict.fromkeys(record.name.rpartition(", ")[0] for record in records))
    for record in records:
        height = names.index(record.name.rpartition(", ")[0]) + (-0.2 if record.at["mode"] == "forward" else 0.2)
        _bar(axes, height, record, PEER_HUES[record.at["mode"]], 0.36)
    axes.axvline(1, color="#888888", linewidth=1)
    axes.set_xlim(0, 1.3 * max(record.ratio.high for record in records))
    axes.set_yticks(range(len(names)), [name.replace(" ÷ ", "\n÷ ") for name in names], fontsize=8)
    axes.set(title="one mixer: time", xlabel="light: forward   dark: forward+backward   stroke: target")


def _bar(axes: Any, height: float, record: Record, hue: str, thickness: float = 0.8) -> None:
    """A ratio with its quartiles and its target."""
    ratio = record.ratio
    error = [[ratio.median - ratio.low], [ratio.high - ratio.median]]
    stroke = {"linewidth": 0.8, "ecolor": "#333333"}
    axes.barh(height, ratio.median, thickness, xerr=error, color=hue, error_kw=stroke)
    axes.annotate(
        number(ratio.median), (ratio.high, height), (4, 0), textcoords="offset points", va="center", fontsize=8
    )
    for bound in (record.target.least, record.target.most) if record.target is not None else ():
        if bound is not None:
            axes.plot([bound] * 2, [height - thickness / 2, height + thickness / 2], color="#d55e00", linewidth=2)
    if not axes.yaxis_inverted():
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)


def _parts(axes: Any, records: Records) -> None:
    """Measured milliseconds of every part, the floor in front."""
    names = [f"{record.at['variant']}\n{record.at['part']}" for record in records]
    axes.barh(range(len(records)), [record.ours for record in records], color="#9ecae1", label="measured")
    axes.barh(range(len(records)), [record.other for record in records], 0.4, color="#4d4d4d", label="floor")
    axes.set_yticks(range(len(records)), names, fontsize=7)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.legend(loc="lower right")
    axes.set(title="parts of a mixer, forward+backward", xlabel="milliseconds")


def _training(axes: Any, records: Records) -> None:
    """Every variant's training step over mamba's."""
    for height, record in enumerate(records):
        _bar(axes, height, record, HUES.get(record.at["variant"], OTHER_HUE))
    axes.axvline(1, color="#888888", linewidth=1)
    axes.set_yticks(range(len(records)), [record.at["variant"] for record in records])
    axes.set_xlim(0, 1.15 * max(record.ratio.high for record in records))
    axes.set(title="a training step", xlabel="time, mamba's = 1")


def _by_length(axes: Any, records: Records, title: str, ylabel: str) -> None:
    """A line per variant and mode, through the base of its ratios and all other lengths."""
    lines: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for record in records:
        line = lines[record.at["variant"], record.at["mode"].removeprefix("memory of ")]
        line[record.at["base"]] = record.other
        line[record.at["length"]] = record.ours
    for (variant, mode), line in lines.items():
        x = sorted(line)
        hue = HUES.get(variant, OTHER_HUE)
        label = f"{variant}, {mode}"
        axes.plot(x, [line[at] for at in x], "o", linestyle=DASHES[mode], color=hue, markersize=3, label=label)
    _ticks(axes, {at for line in lines.values() for at in line})
    axes.set_ylim(0, 1.3 * max(max(line.values()) for line in lines.values()))  # room for the legend
    axes.legend()
    axes.set(title=title, xlabel="length", ylabel=ylabel)


def _ticks(axes: Any, values: Iterable[int]) -> None:
    """A logarithmic x axis with these values only, in full or in thousands."""
    axes.set_xscale("log", base=2)
    shown = sorted(values)
    axes.set_xticks(shown, [str(value) if value < 1000 else f"{value / 1024:.0f}k" for value in shown])


def _time_by_length(axes: Any, records: Records) -> None:
    _by_length(axes, records, "one mixer, one sequence: time", "microseconds per position")


def _memory_by_length(axes: Any, records: Records) -> None:
    _by_length(axes, records, "one mixer, one sequence: peak memory", "kilobytes per position")


def _throughput(axes: Any, records: Records) -> None:
    """Symbols per second of every model, prompt included."""
    lines: dict[str, dict[int, float]] = defaultdict(dict)
    for record in records:
        lines["diff_mamba"][record.at["batch"]] = record.ours
        lines[record.at["other"]][record.at["batch"]] = record.other
    for name, line in lines.items():
        axes.plot(list(line), list(line.values()), "o-", color=HUES.get(name, OTHER_HUE), markersize=3, label=name)
    _ticks(axes, lines["diff_mamba"])
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_minor_formatter("{x:,g}")
    axes.legend()
    axes.set(title="generation, prompt included", xlabel="batch", ylabel="symbols per second")


def _by_position(axes: Any, records: Records) -> None:
    """Time of a step relative to the first position; the band is what noise allows."""
    lines: dict[str, dict[int, Record]] = defaultdict(dict)
    for record in records:
        lines[record.at["variant"]][record.at["position"]] = record
    for name, line in lines.items():
        ratios = [record.ratio for record in line.values()]
        error = [[r.median - r.low for r in ratios], [r.high - r.median for r in ratios]]
        axes.errorbar(
            list(line), [r.median for r in ratios], error, fmt="o-", color=HUES[name], markersize=3, label=name
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.axhline(1, color="#888888", linewidth=1)
    axes.legend()
    axes.set(title="a decoding step", xlabel="position", ylabel="time, first position = 1")


def _published(axes: Any, records: Records) -> None:
    """Forward latency over mamba's: here, and in table 8."""
    for variant, hue in (("diff_mamba_hybrid", "#56b4e9"), ("diff_mamba", "#0072b2")):
        line = [record for record in records if record.at["variant"] == variant]
        lengths = [record.at["length"] for record in line]
        axes.plot(lengths, [record.ratio.median for record in line], "o-", color=hue, markersize=4, label=variant)
    shown = {record.at["length"]: record.published for record in records if record.published is not None}
    axes.plot(list(shown), list(shown.values()), "o--", color="#4d4d4d", markerfacecolor="white", label="published")
    _ticks(axes, {record.at["length"] for record in records})
    axes.axhline(1, color="#888888", linewidth=1)
    axes.legend()
    axes.set(title="forward latency, table 8", xlabel="length", ylabel="time, mamba's = 1")


PANELS: dict[Callable[[Any, Records], None], tuple[str, Callable[[Record], bool]]] = {
    _peers: ("mixers", lambda record: record.ratio_is == "other / ours"),
    _parts: ("parts", lambda record: True),
    _differential: ("differential", lambda record: True),
    _training: ("training", lambda record: record.at["base"] == "mamba"),
    _time_by_length: ("length", lambda record: record.unit == "µs" and record.at["batch"] == 1),
    _memory_by_length: ("length", lambda record: record.unit == "kB"),
    _published: ("published", lambda record: record.at["table"] == 8),
    _throughput: ("decoding", lambda record: record.at.get("what") == "prompt included"),
    _by_position: ("decoding", lambda record: "position" in record.at),
}
