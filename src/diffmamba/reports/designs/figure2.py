"""Figure 2 of the paper: the test curves of table 1's runs, as a picture and as points, above the table itself."""

from dataclasses import replace

from diffmamba.reports.designs import table1

DESIGN = replace(
    table1.DESIGN,
    name="figure2",
    kind="figure",
    title="Figure 2: test PPL of Mamba and Diff-Mamba while training",
    charts=lambda results: [table1.panels(results)],
)
