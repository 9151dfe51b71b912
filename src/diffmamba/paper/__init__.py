"""The paper itself: the numbers it prints, and what can be checked of them without training.

`audit` holds tables 1 and 2 against what the paper prints, and the paper against itself. It yields a document and does
not know how that is drawn. `docs/paper.md` explains what it finds.
"""

from diffmamba.paper.auditing import audit
from diffmamba.paper.compute import Assumed

__all__ = ["Assumed", "audit"]
