"""The sections as text for a terminal, as Markdown, and as JSON."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from benchmarks.record import Record, Section

WIDTH = 118
LEGEND = (
    "ours and the other side are medians over the rounds. ratio is the median of the ratios of the rounds, with their "
    "quartiles in brackets, and × where it says how many times faster ours is. floor is the best that ours could be, "
    "and in brackets what the ratio would then be."
)


def headers(section: Section) -> list[str]:
    """The columns that a section needs."""
    optional = {"published": any(record.published is not None for record in section.records)}
    optional["floor"] = any(record.floor is not None for record in section.records)
    optional["target"] = any(record.target is not None for record in section.records)
    return ["", "ours", "other", "ratio", *(name for name in ("published", "floor", "target") if optional[name])]


def cells(record: Record, columns: Sequence[str]) -> list[str]:
    """A record's row under some columns."""
    times = "×" if record.ratio_is == "other / ours" else ""
    low, high = number(record.ratio.low), number(record.ratio.high)
    texts = {
        "": record.name,
        "ours": f"{number(record.ours)} {record.unit}",
        "other": number(record.other),
        "ratio": number(record.ratio.median) + times + (f" [{low} {high}]" if record.ratio.rounds > 1 else ""),
        "published": "" if record.published is None else number(record.published),
        "floor": "" if record.floor is None else f"{number(record.floor.ours)} ({number(record.at_floor)}{times})",
        "target": "" if record.target is None else f"{record.target} {'reached' if record.reached else 'MISSED'}",
    }
    return [texts[column] for column in columns]


def number(value: float | None) -> str:
    """Three digits, no exponent, thousands separated."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 0.9995 else f"{value:.2f}" if abs(value) < 9.995 else f"{value:.1f}"


def verdict(sections: Sequence[Section]) -> list[str]:
    """How many targets are reached, then which are missed, one a line."""
    judged = [record for section in sections for record in section.records if record.target is not None]
    missed = [record for record in judged if not record.reached]
    if not judged:
        return ["No targets in these sections."]
    return [
        f"{len(judged) - len(missed)} of {len(judged)} targets reached." + (" Missed:" if missed else ""),
        *(f"{record.name}: {number(record.ratio.median)}, should be {record.target}" for record in missed),
    ]


def terminal(sections: Sequence[Section], machine: dict[str, str]) -> str:
    """All tables as plain text."""
    lines = [f"{name}: {value}" for name, value in machine.items()] + ["", *wrap(LEGEND, WIDTH)]
    for section in sections:
        lines += ["", section.title.upper(), *wrap(section.text, WIDTH), ""]
        if section.records:
            lines += _aligned([headers(section), *(cells(record, headers(section)) for record in section.records)])
        lines += [line for note in section.notes for line in wrap(note, WIDTH)]
    summary, *missed = verdict(sections)
    return "\n".join([*lines, "", summary, *(f"- {line}" for line in missed)]) + "\n"


def markdown(sections: Sequence[Section], machine: dict[str, str], plot: str | None) -> str:
    """The same as a page."""
    lines = [f"# Benchmarks: {machine['device']}", "", *(f"- {name}: {value}" for name, value in machine.items()), ""]
    summary, *missed = verdict(sections)
    lines += [LEGEND, "", f"**{summary}**", "", *(f"- {line}" for line in missed)]
    if plot is not None:
        lines += ["", f"![The ratios of this page as pictures]({plot})"]
    for section in sections:
        lines += ["", f"## {section.title}", "", section.text, ""]
        if section.records:
            columns = headers(section)
            rows = [columns, ["---", *["---:"] * (len(columns) - 1)]]
            rows += [cells(record, columns) for record in section.records]
            lines += ["| " + " | ".join(row) + " |" for row in rows]
        lines += [line for note in section.notes for line in ("", note)]
    return "\n".join(lines) + "\n"


def as_json(sections: Sequence[Section], machine: dict[str, str]) -> str:
    """One record per ratio, and what is needed to judge them."""
    content: dict[str, Any] = {
        "machine": machine,
        "verdict": verdict(sections),
        "sections": [
            {"name": section.name, "title": section.title, "text": section.text, "notes": section.notes}
            for section in sections
        ],
        "records": [record.as_dict() for section in sections for record in section.records],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def write(directory: Path, contents: dict[str, bytes]) -> list[Path]:
    """Replaces files in one step each, so that a run that is broken off leaves the earlier ones whole."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        part = directory / f".{name}.{os.getpid()}.part"
        try:
            part.write_bytes(content)
            part.replace(directory / name)
        finally:
            part.unlink(missing_ok=True)
    return [directory / name for name in contents]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            text.ljust(width) if place == 0 else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]
