"""Figure 8 of the paper, made of a file of answers: scores on BABILong by length."""

from diffmamba.reports.design import FileDesign
from diffmamba.reports.designs import answers_page

DESIGN = FileDesign(
    name="figure8",
    title="Figure 8: scores on BABILong by task and length",
    document=lambda path: answers_page.document(path, "figure8"),
    needs=answers_page.NEEDS,
)
