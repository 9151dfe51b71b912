"""glibc's memory allocator, told to keep what is freed.

PyTorch on a CPU takes every intermediate result from malloc. By default glibc returns blocks of this size to the system
when they are freed, so that the next step pays a page fault for every 4 kB again: 8,400 of them, 15 of 130 ms, in one
Mamba-2 mixer forward and backward (2048 positions, d_model 256). Kept, they cost nothing the second time.
"""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
MMAP_THRESHOLD = 2**25  # the largest that glibc takes
TRIM_THRESHOLD = 2**31 - 1


def keep_freed_memory() -> bool:
    """For the rest of this process; False where the C library is another one, and nothing changes."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD) and mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD))
