"""Answers of language models to BABILong's questions: the rules that score them, and files of answers.

    scores = score(outputs, questions, targets, LABELS["qa1"])   # .benchmark, .first, .exact, .named
    answers = read("answers.csv.gz")                             # a file of answers, scored

BABILong: Kuratov et al., 2024, arXiv 2406.10149. Its rule is the one that the paper's figures 4 and 8 are made with.
"""

from diffmamba.answers.files import COLUMNS, Answers, read
from diffmamba.answers.rules import LABELS, RULES, Scores, constant, cut, score

__all__ = ["COLUMNS", "LABELS", "RULES", "Answers", "Scores", "constant", "cut", "read", "score"]
