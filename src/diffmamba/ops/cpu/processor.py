"""The instruction set that the compiled operators use: the fastest that this processor has, or a chosen lower one."""

import os
import re
from functools import cache
from pathlib import Path

import torch

from diffmamba.errors import SettingError
from diffmamba.ops.cpu.compiler import sets_of

VARIABLE = "DIFFMAMBA_CPU"
"""Names an instruction set in place of the fastest, or `none`: PyTorch's operators."""
CPUINFO = Path("/proc/cpuinfo")
SSE = {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}
AVX2 = SSE | {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}
NEEDS = {
    "x86-64-v4": AVX2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "x86-64-v3": AVX2,
    "x86-64-v2": SSE,
}
"""The levels of x86-64 (System V ABI, table 3.1) in the words of Linux. A set that is not here needs nothing."""
BY_TORCH = {"AVX512": ("x86-64-v4", "x86-64-v3", "x86-64-v2"), "AVX2": ("x86-64-v3", "x86-64-v2")}


@cache
def available() -> tuple[str, ...]:
    """The instruction sets of this processor, the fastest first. Empty if it has none that we compile for."""
    if CPUINFO.exists():
        flags = re.search(r"^flags\s*:(.*)$", CPUINFO.read_text(errors="replace"), re.MULTILINE)
        words = set(flags[1].split()) if flags else set()
        return tuple(name for name in sets_of() if NEEDS.get(name, set()) <= words)
    seen = BY_TORCH.get(torch.backends.cpu.get_cpu_capability(), ())
    return tuple(name for name in sets_of() if name not in NEEDS or name in seen)


def chosen() -> str | None:
    """The instruction set to use; None for none.

    Raises SettingError if $DIFFMAMBA_CPU names one that this processor does not have: it would end the process.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "none":
        return None
    if wanted and wanted not in available():
        raise SettingError(
            f"{VARIABLE}={wanted} is no instruction set of this processor; use one of {', '.join(available())}, none"
        )
    return wanted or next(iter(available()), None)
