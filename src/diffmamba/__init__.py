"""Experiments on differential state-space models: see the README."""

import os

# PyTorch's own switch for large pages of memory on Linux, read when it makes its first tensor. Without it every large
# intermediate result on a CPU costs a page fault for each 4 kB: a mixer's 65,536 positions took 1.4 times as long.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

# How long the threads of PyTorch spin while they wait for each other, read when it loads GNU's OpenMP. By default they
# spin so long that beside other busy processes most of their time is lost: 100 steps at scale smoke took 270 s, and
# take 16 s so. On an idle machine it costs nothing measurable; not to spin at all (OMP_WAIT_POLICY=PASSIVE) costs 30 %.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
