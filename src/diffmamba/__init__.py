"""Experiments on differential state-space models: see the README."""

import os

# PyTorch's own switch for large pages of memory on Linux, read when it makes its first tensor. Without it every large
# intermediate result on a CPU costs a page fault for each 4 kB: a mixer's 65,536 positions took 1.4 times as long.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# How the threads of PyTorch wait for each other, read when it loads OpenMP. By default they spin, so that beside any
# other busy process most of their time is lost: 100 steps at scale smoke took 270 s instead of 19 s.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
