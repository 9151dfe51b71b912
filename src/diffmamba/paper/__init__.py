"""The paper itself: the numbers it prints, and what can be checked of them without training.

`auditing.audit` holds tables 1 and 2 against what the paper prints, and the paper against itself. It yields a document
and does not know how that is drawn. `docs/paper.md` explains what it finds. Tables and figures take `published` and
`remarks`, which need no network.
"""
