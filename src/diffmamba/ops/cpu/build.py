"""Builds and loads the compiled CPU operators."""

import ctypes
import subprocess
import tempfile
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).parent


@cache
def load() -> ctypes.CDLL | str:
    """The library, or why there is none, in one line."""
    out = Path(tempfile.mkdtemp()) / "diffmamba.so"
    flags = "-O2 -std=c++20 -fPIC -shared -fopenmp -fno-math-errno -fno-trapping-math -ffp-contract=fast -Wno-psabi"
    sources = [str(path) for path in sorted(SOURCES.glob("*.cpp"))]
    subprocess.run(["g++", *flags.split(), "-march=native", *sources, "-o", str(out)], check=True)
    return ctypes.CDLL(str(out))
