"""A design for any sweep: rows by what varies, seeds folded, Δ to a named baseline.

    for kind, part in kinds(cells).items():  # trainings and measurements have tables of their own
        design = design_of("rates", part, baseline="model=mamba", kind=kind)

`cells` are ids and resolved configurations of the works of a sweep. What varies is found from them: see `factors`.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from diffmamba.reports import columns, designs, swept_charts
from diffmamba.reports.cells import Key
from diffmamba.reports.columns import Column
from diffmamba.reports.design import Design
from diffmamba.reports.factors import (
    ANY,
    Config,
    Factor,
    Planned,
    Reader,
    Row,
    baseline_of,
    factors_of,
    merged,
    row_of,
    rows_of,
)

NO_BASELINE = 'There is no Δ, since no baseline is named. To compare with one, name its settings: baseline="{example}"'
NOTHING_READ = "any: the setting makes no difference there; the same runs have all its values."
NAMED = 100  # characters of the name of a page


def kinds(cells: Planned) -> dict[str, list[tuple[str, Config]]]:
    """The works that one table can hold: those of one task, or of one measure. The name of each; "" if there is one."""
    found: dict[str, list[tuple[str, Config]]] = {}
    for run_id, config in cells:
        measure, task = config.get("measure"), config.get("task")
        part, word = (measure, "") if measure else (task, "training ")
        target = part.get("_target_") if isinstance(part, Mapping) else None
        found.setdefault(word + str(target), []).append((run_id, config))
    names = {kind: kind.rpartition(".")[2] for kind in found}
    tasks = [kind for kind in found if kind.startswith("training ")]
    names |= {tasks[0]: "trainings"} if len(tasks) == 1 else {}
    if len(set(names.values())) < len(names):  # two of one name
        names = {kind: kind.removeprefix("training ") for kind in found}
    return {names[kind] if len(found) > 1 else "": part for kind, part in found.items()}


def design_of(
    name: str, cells: Planned, baseline: str = "", title: str = "", varied: Iterable[str] = (), kind: str = ""
) -> Design:
    """The design of a sweep.

    Args:
        name: of the sweep.
        cells: ids and resolved configurations of its works.
        baseline: the settings that name the cell which Δ is taken to, as words: `model=mamba`. Where more varies, there
            is one for each value of the rest.
        title: of the page.
        varied: the settings that its grid varies, if they are known; rows are named by these.
        kind: which works these are, where the sweep has several `kinds`.

    Raises SettingError in one line for a baseline that is none.
    """
    factors = factors_of(cells, varied)
    rows = rows_of(cells, factors)
    chosen = baseline_of(baseline, factors, rows, name, varied) if baseline else {}
    shown = merged(rows, [place for place, factor in enumerate(factors) if not chosen or factor.name in chosen])
    others = [factor.word for factor in factors if factor.name not in chosen]
    words = " ".join(factor.told(chosen[factor.name]) for factor in factors if factor.name in chosen)
    of_same = f" of the same {' and '.join(others)}" if chosen and others else ""
    return Design(
        name=page_name(name, kind),
        title=(title or f"Sweep {name}") + f": {kind}" * bool(kind),
        sweep=name,
        key=_key(factors, chosen, shown),
        baseline=words + of_same,
        columns=(
            *(_column(factor) for factor in factors if not chosen or factor.name in chosen),  # the rest is in titles
            *(columns.OWN_VERDICT if chosen else (columns.RESULT, columns.SEEDS, columns.PARAMETERS)),
        ),
        charts=lambda results: swept_charts.all_of(results, factors, words, tuple(chosen)),
        kind="sweep",
        notes=(
            *[NOTHING_READ] * any(ANY in row for row in shown.values()),
            *[NO_BASELINE.format(example=factor.told(key)) for factor, key in _first(factors, rows) if not chosen],
        ),
    )


def page_name(name: str, kind: str = "") -> str:
    """A name for the page of a sweep that is a name for a folder, and not that of a table or figure."""
    told = f"{name}-{kind.lower()}" if kind else name
    safe = re.sub(r"[^A-Za-z0-9=,._+-]", "_", told).lstrip(".")[:NAMED]
    safe = safe if safe == told else f"{safe}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
    return f"sweep-{safe}" if any(safe in designs.names(known) for known in designs.KINDS) else safe


def _key(factors: Sequence[Factor], chosen: Mapping[str, str], shown: Mapping[Row, Row]) -> Callable[[Config], Key]:
    """The function from a configuration to the key of its cell."""
    reader = Reader()
    apart = [factor for factor in factors if chosen and factor.name not in chosen]

    def key(config: Config) -> Key:
        entry = reader.entry(config)
        row = row_of(entry, factors)
        values = dict(zip(factors, shown.get(row, row), strict=True))
        told = {factor: factor.told(value) for factor, value in values.items() if value != ANY}
        there = [factor for factor in told if factor.has(entry)]
        model: Any = config.get("model") or {}
        fields = {factor.key_in_table: ANY if value == ANY else factor.value(value) for factor, value in values.items()}
        compared = (values[factor] in (chosen[factor.name], ANY) for factor in factors if factor.name in chosen)
        return Key(
            {"model": model.get("name"), **fields},
            label=", ".join(told[factor] for factor in there or told) or "all runs",
            is_baseline=bool(chosen) and all(compared),
            group=", ".join(told[factor] for factor in [one for one in apart if one in there] or apart),
        )

    return key


def _column(factor: Factor) -> Column:
    return Column(factor.word, lambda cell: factor.text(cell.key.fields[factor.key_in_table]), word=not factor.numeric)


def _first(factors: Sequence[Factor], rows: Iterable[Row]) -> list[tuple[Factor, str]]:
    """The first factor and its value in the first row; nothing where nothing varies."""
    return list(zip(factors, next(iter(rows), ()), strict=False))[:1]
