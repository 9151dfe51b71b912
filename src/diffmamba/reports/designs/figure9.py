"""Figure 9 of the paper: symbols per second in generation by batch, Mamba, Diff-Mamba and a Transformer.

The paper shows curves without numbers, so nothing published stands beside ours.
"""

from diffmamba.measures import Throughput
from diffmamba.reports.design import Design
from diffmamba.reports.designs import efficiency, efficiency_charts
from diffmamba.reports.designs.efficiency import Reading
from diffmamba.reports.records import Headline

MEANING = (
    "speed: new symbols per second, over the time of the prompt and of all steps. The paper prints no numbers for its "
    "figure 9, so there is no published column."
)


READING = Reading(
    measure=Throughput,
    of=lambda mode, rows: rows["tokens_per_second_median"],
    along="batch",
    ratio=Headline("speed_over_mamba", "speed ÷ mamba", "higher"),
    unit="symbols/s",
    times=1.0,
    label="speed",
    spread=efficiency.relative_spread("tokens_per_second"),
)

DESIGN = Design(
    name="figure9",
    kind="figure",
    title="Figure 9: speed of generation by batch",
    sweep="figure9",
    key=efficiency.key(READING),
    fold=efficiency.folded(READING),
    baseline=efficiency.BASELINE,
    columns=efficiency.columns_of(READING),
    charts=lambda results: [
        efficiency_charts.values("figure9", "Generation", READING, results),
        efficiency_charts.ratios(READING, results),
    ],
    notes=(MEANING, efficiency.REPEATS),
    notes_on=efficiency.timed_notes_on,
    further=efficiency.further,
    points=None,
    of_machine=True,
)
