"""What `make bench` measures: this package against its peers, the variants against each other, and both against floors.

Every number is one side of a ratio, and both sides of a ratio are measured in one process, in turns (`timing.py`). The
sections are in `sections/`, the sizes they run at in `sizes.py`; `variants.py` builds the models without Hydra, so that
everything runs where only PyTorch is installed. Peers that are missing are named, not required.
"""
