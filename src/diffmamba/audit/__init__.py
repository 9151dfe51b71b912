"""Whether the published setting is met, by everything that can be checked without training and without a corpus.

    result = run(["scale=paper"], seeds=3, assumed=Assumed())
    document = layout(result)       # sentences and grids, which console, Markdown and page all draw
    write(result, document, directory)

`cells` composes tables 1 and 2 through their sweeps; `counts`, `budget`, `compute` and `agreement` hold a cell against
what the paper prints; `contradictions`, `mechanism` and `further` hold the paper against itself.
"""

from diffmamba.audit.compute import Assumed
from diffmamba.audit.files import write
from diffmamba.audit.layout import layout
from diffmamba.audit.result import Result, run

__all__ = ["Assumed", "Result", "layout", "run", "write"]
