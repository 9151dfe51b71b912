"""Table 8 of the paper: seconds of a forward pass by length, as a ratio to Mamba; beside it those of training."""

from diffmamba.measures import Throughput
from diffmamba.paper import published
from diffmamba.reports.design import Design
from diffmamba.reports.designs import efficiency, efficiency_charts
from diffmamba.reports.designs.efficiency import Load, Reading
from diffmamba.reports.records import Headline

MEANING = (
    "time: seconds of one pass over one sequence. Training is a forward pass to the loss, a backward pass and a step "
    "of AdamW; the paper has no numbers of it. Its Diff-Mamba is the hybrid."
)


def _published(model: str, mode: str, load: Load) -> published.PublishedResult:
    """The paper times forward passes of one sequence alone."""
    batch, length = load
    timed = batch == 1 and mode != "training"
    return published.ratio("table8", "length", length, model) if timed else published.PublishedResult()


READING = Reading(
    measure=Throughput,
    of=lambda mode, rows: rows["seconds_median"],
    along="length",
    ratio=Headline("seconds_over_mamba", "time ÷ mamba", "lower"),
    unit="ms",
    times=1e3,
    label="time",
    published=_published,
    spread=efficiency.relative_spread("seconds"),
)

DESIGN = Design(
    name="table8",
    title="Table 8: time of a forward pass by length",
    sweep="table8",
    key=efficiency.key(READING),
    fold=efficiency.folded(READING),
    baseline=efficiency.BASELINE,
    columns=efficiency.columns_of(READING),
    charts=lambda results: [
        efficiency_charts.ratios(READING, results),
        efficiency_charts.values("time", "Time", READING, results),
    ],
    setting="models of 370M parameters on an L40S",
    notes=(MEANING, efficiency.REPEATS),
    notes_on=efficiency.timed_notes_on,
    further=efficiency.further,
    points=None,
    of_machine=True,
)
