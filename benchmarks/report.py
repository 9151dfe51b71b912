"""The sections as one document: what it was measured on, what was reached, a table for each section, and a picture."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import torch

from benchmarks.charts import chart
from benchmarks.record import FASTER, Record, Section, Target
from diffmamba import atomic
from diffmamba.document import Block, Bullets, Chart, Document, Grid, Paragraph
from diffmamba.document import Section as Part
from diffmamba.ops import backend
from diffmamba.reports import pictures, render
from diffmamba.runs import provenance

LEGEND = (
    "ours and the other side are medians over the rounds. ratio is the median of the ratios of the rounds, with their "
    "quartiles in brackets, and × where it says how many times faster ours is. floor is the least that ours could "
    "take, and in brackets what the ratio would then be."
)
MISSED = "MISSED"
PEERS = ("transformers", "mambapy", "mamba-ssm", "causal-conv1d", "triton")


def facts(device: torch.device) -> dict[str, str]:
    """Hardware, precision, versions, revision and date, in the order to print them; to be asked before the run."""
    hardware, git, versions = provenance.hardware(device), provenance.git_state(), provenance.versions()
    host = f"{hardware['cpu']}, {hardware['cores']} cores, threads: {hardware['threads']}"
    found = {"device": host}
    if device.type == "cuda":
        found = {"device": f"{hardware['gpu']}, CUDA {torch.version.cuda}", "host": host}
    versions = {one.metadata["Name"].lower(): one.version for one in metadata.distributions()} | versions
    told = [name for name in ("python", "torch", "diffmamba", *PEERS) if name in versions]
    return found | {
        "load": f"{os.getloadavg()[0]:.2g} processes before the run",
        "precision": "bfloat16 autocast" if device.type == "cuda" else "float32",
        "kernels": backend.describe(device),
        "date": provenance.now(),
        "revision": (git["revision"] or "unknown")[:7] + (", with changes" if git["dirty"] else ""),
        "versions": ", ".join(f"{name} {versions[name]}" for name in told),
    }


def stem(device: torch.device) -> str:
    """The device's name in file names: `cpu`, or such as `nvidia-h100-80gb-hbm3`."""
    name = "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


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
        "records": [record for section in sections for record in section.records],
    }
    return Document(f"Benchmarks: {machine['device']}", tuple(blocks), data)


def write(made: Document, directory: Path, name: str, with_pictures: bool = False) -> list[Path]:
    """Writes NAME.json and NAME.md, and each chart into a PNG of its name if wanted; returns their paths."""
    charts = [block for block in made.blocks if isinstance(block, Chart)] if with_pictures else []
    directory.mkdir(parents=True, exist_ok=True)
    atomic.write_json(directory / f"{name}.json", made.data)
    atomic.write(directory / f"{name}.md", render.markdown(made))
    for one in charts:
        atomic.write(directory / f"{one.name}.png", pictures.drawn(one, "png"))
    return [directory / file for file in (f"{name}.json", f"{name}.md", *(f"{one.name}.png" for one in charts))]


def verdict(sections: Sequence[Section]) -> list[str]:
    """How many targets are reached, then which are missed, one a line."""
    judged = [record for section in sections for record in section.records if record["target"]]
    missed = [record for record in judged if not record["reached"]]
    if not judged:
        return ["No targets in these sections."]
    return [
        f"{len(judged) - len(missed)} of {len(judged)} targets reached." + (" Missed:" if missed else ""),
        *(f"{one['name']}: {number(one['ratio'])}, should be {Target(**one['target'])}" for one in missed),
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
        optional = [column for column in ("floor", "target") if any(row[column] for row in rows)]
        columns = ["", "ours", "other", "ratio", *optional]
        yield Grid.of(columns, [[row[column] for column in columns] for row in rows])
    for note in section.notes:
        yield Paragraph(note, "note")


def _cells(record: Record) -> dict[str, str]:
    """A record's row, by column."""
    times, floor, target = "×" if record["ratio_is"] == FASTER else "", record["floor"], record["target"]
    spread = " [{} {}]".format(*map(number, record["spread"])) if record["rounds"] > 1 else ""
    return {
        "": record["name"],
        "ours": f"{number(record['ours'])} {record['unit']}",
        "other": number(record["other"]),
        "ratio": f"{number(record['ratio'])}{times}{spread}",
        "floor": f"{number(floor['ours'])} ({number(floor['ratio'])}{times})" if floor else "",
        "target": f"{Target(**target)} {'reached' if record['reached'] else MISSED}" if target else "",
    }
