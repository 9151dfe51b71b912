"""The C++ of the CPU operators under the sanitizers for addresses and undefined behaviour, in a process of its own.

A new operator adds a line to CALLS. Each is run under every instruction set of this machine.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffmamba.ops.cpu import compiler, processor

SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
CALLS = (
    "assert library.diffmamba_width() in (4, 8, 16)",
    "assert library.diffmamba_openmp() >= 0",
)
"""Python. `library` is the sanitized one, which the operators of diffmamba.ops call too; `torch` is imported."""
PROGRAM = """
import ctypes, sys
import torch
from diffmamba.ops import backend
from diffmamba.ops.cpu import build
backend.select("cpu")
for path in sys.argv[2].split(":"):
    library = ctypes.CDLL(path)
    build.load = lambda: library
    torch.manual_seed(0)
    for call in sys.argv[3:]:
        exec(call)
print("all ran")
"""
READ_BESIDE = """
import ctypes, sys
import torch
numbers = torch.ones(8)
read = ctypes.CDLL(sys.argv[2]).read_number
for index in (7, 8):
    read(ctypes.c_void_p(numbers.data_ptr()), ctypes.c_int64(index))
"""
OVERFLOW = "import ctypes, sys; add = ctypes.CDLL(sys.argv[2]).add; add(2**31 - 2, 1); add(2**31 - 1, 1)"


def sanitized(program: str, libraries: list[Path], calls: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Runs a program with libraries that were compiled with sanitizers, which must be loaded before anything else."""
    words = [*compiler.compiler(), "-print-file-name=libasan.so"]
    first = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    options = {"LD_PRELOAD": first, "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "2"}
    words = [sys.executable, "-c", program, "", ":".join(map(str, libraries)), *calls]
    return subprocess.run(words, env=os.environ | options, capture_output=True, text=True)


def compiled(folder: Path, instructions: str, sources: Path = compiler.SOURCES) -> Path:
    try:
        content = compiler.compile_library(compiler.compiler(), instructions, SANITIZERS, sources)
    except compiler.CompileError as error:
        pytest.skip(f"no sanitizers here: {error}")
    library = folder / f"{instructions}.so"
    library.write_bytes(content)
    return library


def test_no_operator_reads_or_writes_beside_its_memory(tmp_path: Path) -> None:
    done = sanitized(PROGRAM, [compiled(tmp_path, name) for name in processor.available()], CALLS)
    assert (done.returncode, done.stdout) == (0, "all ran\n"), done.stderr[-4000:]


@pytest.mark.parametrize(
    ("program", "says"),
    [(READ_BESIDE, "heap-buffer-overflow"), (OVERFLOW, "signed integer overflow")],
    ids=["addresses", "overflow"],
)
def test_the_sanitizers_see_what_they_are_for(program: str, says: str, tmp_path: Path) -> None:
    """The memory of tensors too."""
    (tmp_path / "wrong.cpp").write_text(
        'extern "C" float read_number(const float* from, long index) { return from[index]; }\n'
        'extern "C" int add(int a, int b) { return a + b; }\n'
    )
    done = sanitized(program, [compiled(tmp_path, processor.available()[0], tmp_path)])
    assert done.returncode != 0
    assert says in done.stderr
