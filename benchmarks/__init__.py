"""What `make bench` measures: this package against its peers, its variants against each other, and both against floors.

Every number is one side of a ratio. Both sides of a ratio are measured in one process, in turns (`timing.py`). The
sections are in `sections/`, the sizes they run at in `sizes.yaml`, what is aimed at in `targets.yaml`. The models are
those of `conf/model` (`models.py`). A library that is missing costs the comparisons with it, and the report says so.
"""

import diffmamba  # noqa: F401  it sets how the threads of PyTorch wait, which counts only before PyTorch is imported
