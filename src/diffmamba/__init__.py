"""Experiments on differential state-space models: see the README."""

import os

# PyTorch's own switch for large pages of memory on Linux, read when it makes its first tensor. Without it every large
# intermediate result on a CPU costs a page fault for each 4 kB: a mixer's 65,536 positions took 1.4 times as long.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
