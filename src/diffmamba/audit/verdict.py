"""The verdict in sentences: how many printed figures are met, and which are not."""

from diffmamba.audit.cells import TABLES
from diffmamba.audit.compute import devices, hours
from diffmamba.audit.counts import MILLION
from diffmamba.audit.result import Audited, Result, summary

NAMES = {"table1": "table 1", "table2": "table 2"}


def sentences(result: Result) -> list[str]:
    """The verdict, one statement a sentence."""
    with_settings = [f"With {' '.join(result.overrides)}."] if len(result.overrides) > 1 else []
    if not result.compared:
        return [
            f"Scale {result.scale} is not the published one, so nothing is compared.",
            *with_settings,
            _hours(result),
        ]
    return [
        *_counts(result),
        _hyper_parameters(result),
        f"{len(result.contradictions)} contradictions of the paper are computed below, and {len(result.further)} "
        "further checks.",
        *with_settings,
        _hours(result),
    ]


def _counts(result: Result) -> list[str]:
    met = summary(result)
    by_reason: dict[str, list[Audited]] = {}
    for found in result.compared:
        if not found.count.within:
            by_reason.setdefault(f"{found.cell.table} {found.count.reason}", []).append(found)
    off = "; ".join(f"{_rows(founds)} ({founds[0].count.reason})" for founds in by_reason.values())
    within = (
        f"{met['counts_within_1_percent']} of {met['counts_compared']} parameter counts are within 1 % of the printed "
        f"ones, {met['counts_equal_cut_off']} equal when cut off after the million."
    )
    return [within, f"These are not: {off}."] if off else [within]


def _rows(founds: list[Audited]) -> str:
    """Rows of a table that share a reason, with our counts and the printed ones."""
    first = founds[0].cell
    models = dict.fromkeys(found.cell.model for found in founds)
    counts = " and ".join(_pair([found for found in founds if found.cell.model == model]) for model in models)
    return f"{NAMES[first.table]}, {first.data}, {first.layers} layers, {counts}"


def _pair(founds: list[Audited]) -> str:
    totals = dict.fromkeys(f"{found.count.total / MILLION:.1f}" for found in founds)
    rows = f" in {len(founds)} rows" if len(founds) > 1 else ""
    return f"{founds[0].cell.model} {' to '.join(sorted(totals))}M for {founds[0].count.published_m}M{rows}"


def _hyper_parameters(result: Result) -> str:
    met = summary(result)
    off = [f"{a.cell}: {a.setting}={a.ours}, {a.source} has {a.published}" for a in result.agreements if not a.equal]
    return (
        f"{met['hyper_parameters_equal']} of {met['hyper_parameters_compared']} hyper-parameters of tables 3, 4 and 5 "
        f"are as printed" + (f"; these are not: {'; '.join(off)}." if off else ".")
    )


def _hours(result: Result) -> str:
    device = devices()[result.assumed.device]["name"]
    total = hours(sum(map(result.operations, TABLES)), result.assumed.device, result.assumed)
    return (
        f"Both tables with {result.seeds} seeds would take about {total['fp32']:,.0f} GPU-hours on one {device} in "
        f"fp32, {total['bf16']:,.0f} in bf16; the utilisation behind this is assumed, not measured."
    )
