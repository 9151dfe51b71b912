"""The sections as one document: what was reached, a table for each section, and the ratios as a picture."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.charts import chart
from benchmarks.record import Record, Section
from diffmamba import atomic
from diffmamba.document import Block, Bullets, Chart, Document, Grid, Paragraph
from diffmamba.document import Section as Part
from diffmamba.reports import pictures, render

LEGEND = (
    "ours and the other side are medians over the rounds. ratio is the median of the ratios of the rounds, with their "
    "quartiles in brackets, and × where it says how many times faster ours is. floor is the least that ours could "
    "take, and in brackets what the ratio would then be."
)
MISSED = "MISSED"


def document(sections: Sequence[Section], machine: Mapping[str, str], name: str) -> Document:
    """The whole report; `name` is the stem of its files."""
    summary, *missed = verdict(sections)
    picture = chart(sections, machine["device"], name)
    blocks: list[Block] = [
        Grid.of(("fact", "value"), list(machine.items()), words=2),
        Paragraph(LEGEND, "note"),
        Paragraph(summary, "strong"),
        *([Bullets(tuple(missed), "warning")] if missed else []),
        *([picture] if picture else []),
        *(Part(section.title, tuple(_blocks(section))) for section in sections),
    ]
    data = {
        "machine": dict(machine),
        "verdict": [summary, *missed],
        "sections": [{key: vars(one)[key] for key in ("name", "title", "text", "notes")} for one in sections],
        "records": [record.as_dict() for section in sections for record in section.records],
    }
    return Document(f"Benchmarks: {machine['device']}", tuple(blocks), data)


def write(made: Document, directory: Path, name: str) -> list[Path]:
    """Writes NAME.json and NAME.md; returns their paths."""
    data, text = directory / f"{name}.json", directory / f"{name}.md"
    directory.mkdir(parents=True, exist_ok=True)
    atomic.write_json(data, made.data)
    atomic.write(text, render.markdown(made))
    return [data, text]


def write_pictures(made: Document, directory: Path) -> list[Path]:
    """Draws the charts of a document, each into a PNG of its name; returns their paths."""
    charts = [block for block in made.blocks if isinstance(block, Chart)]
    for one in charts:
        atomic.write(directory / f"{one.name}.png", pictures.drawn(one, "png"))
    return [directory / f"{one.name}.png" for one in charts]


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


def number(value: float | None) -> str:
    """Three digits, no exponent, thousands separated."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 0.9995 else f"{value:.2f}" if abs(value) < 9.995 else f"{value:.1f}"


def _blocks(section: Section) -> Iterable[Block]:
    if section.text:
        yield Paragraph(section.text)
    if section.records:
        rows = [_cells(record) for record in section.records]
        optional = [column for column in ("published", "floor", "target") if any(row[column] for row in rows)]
        columns = ["", "ours", "other", "ratio", *optional]
        yield Grid.of(columns, [[row[column] for column in columns] for row in rows])
    for note in section.notes:
        yield Paragraph(note, "note")


def _cells(record: Record) -> dict[str, str]:
    """A record's row, by column."""
    times = "×" if record.faster else ""
    spread = f" [{number(record.ratio.low)} {number(record.ratio.high)}]" if record.ratio.rounds > 1 else ""
    return {
        "": record.name,
        "ours": f"{number(record.ours)} {record.unit}",
        "other": number(record.other),
        "ratio": f"{number(record.ratio.median)}{times}{spread}",
        "published": number(record.published),
        "floor": "" if record.floor is None else f"{number(record.floor)} ({number(record.at_floor)}{times})",
        "target": "" if record.target is None else f"{record.target} {'reached' if record.reached else MISSED}",
    }
