"""Figure 4 of the paper, made of a file of answers: the better score over the other, by length."""

from diffmamba.reports.design import FileDesign
from diffmamba.reports.designs import answers_page

DESIGN = FileDesign(
    name="figure4",
    title="Figure 4: the better score over the other on BABILong",
    document=lambda path: answers_page.document(path, "figure4"),
    needs=answers_page.NEEDS,
)
