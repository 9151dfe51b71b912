"""The C++ of the CPU operators under the sanitizers for addresses and undefined behaviour, in a process of its own.

A new operator adds a line to CALLS. They run with the widest vectors of this machine and with the narrowest. Nothing is
optimised, since compiling takes long with these.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from diffmamba.ops.cpu import compiler, processor

SANITIZERS = ("-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
CALLS = (
    "assert library['diffmamba_width']() in (4, 8, 16)",
    "assert library['diffmamba_openmp']() >= 0",
    *(
        f"block({sizes}, dtype=torch.{dtype}, given={given})"
        for sizes in ("1, 1, 1, 1, 1, 1", "37, 6, 2, 5, 7, 3", "70, 5, 1, 64, 33, 4", "33, 3, 3, 17, 65, 16")
        for dtype, given in (("float32", True), ("bfloat16", False))
    ),
    *(f"scan({sizes})" for sizes in ("1, 1, 1, 1, 1", "50, 6, 2, 3, 70", "47, 5, 1, 65, 5")),
    *(
        f"convolution({sizes}, dtype=torch.{dtype})"
        for sizes in ("1, 1, 1", "2, 67, 4", "35, 3, 5", "70, 130, 16")
        for dtype in ("float32", "bfloat16")
    ),
    *(f"norms(3, {size}, dtype=torch.{dtype})" for size in (1, 21, 64) for dtype in ("float32", "bfloat16")),
    *(
        f"selective({sizes}, dtype=torch.{dtype})"
        for sizes in ("1, 1, 1, 1", "37, 6, 2, 5", "65, 150, 1, 17")
        for dtype in ("float32", "bfloat16")
    ),
    *(f"steps({batch}, torch.{dtype})" for batch in (1, 3) for dtype in ("float32", "bfloat16")),
)
"""Python. `library` is the sanitized one, which the operators of diffmamba.ops call too; PROGRAM has the functions."""
PROGRAM = """
import ctypes, sys
import torch
from torch import float32, randn
from diffmamba import ops
from diffmamba.ops import backend
from diffmamba.ops.cpu import build
from diffmamba.ops.step import difference_step
backend.select("cpu")
class Library(ctypes.CDLL):
    def __getitem__(self, name):
        called.add(name)
        return super().__getitem__(name)

called = set()
library = Library(sys.argv[2])
build.load = lambda: library
torch.manual_seed(0)
torch.set_num_threads(2)

def both(operator, *tensors):  # with gradients and without
    leaves = [t.requires_grad_() if isinstance(t, torch.Tensor) else t for t in tensors]
    found = operator(*leaves)
    sum(t.sum() for t in (found if isinstance(found, tuple) else (found,))).backward()
    with torch.no_grad():
        operator(*leaves)

def columns(tensor):  # the last ones of wider rows
    return torch.cat([tensor, tensor], -1)[..., tensor.shape[-1]:].detach()

def block(length, heads, groups, headdim, states, width, dtype, given):
    inner, channels = heads * headdim, heads * headdim + 2 * groups * states
    parameters = randn(channels, width), randn(channels), randn(heads), -torch.rand(heads), randn(heads), randn(inner)
    before = (randn(2, width - 1, channels, dtype=dtype), randn(2, heads, headdim, states)) if given else ()
    def whole(*tensors):
        u, after = ops.conv_scan_norm(*tensors[:7], headdim, groups, tensors[7:] or None, given)
        return (u, *after) if given else u
    both(whole, columns(randn(2, length, inner + channels + heads, dtype=dtype)), *parameters, *before)

def scan(length, heads, groups, headdim, states):
    B, C = (columns(randn(2, length, groups, states)) for _ in range(2))
    x, dt = columns(randn(2, length, heads, headdim)), torch.rand(2, length, heads)
    both(ops.ssd, x, dt, -torch.rand(heads), B, C, randn(heads), randn(2, heads, headdim, states))
    both(ops.ssd, x, dt, -torch.rand(heads), B, C, randn(heads))

def convolution(length, channels, width, dtype):
    x, past = columns(randn(2, length, channels, dtype=dtype)), randn(2, width - 1, channels, dtype=dtype)
    for parameters in (float32, dtype):
        weight, bias = randn(channels, width, dtype=parameters), randn(channels, dtype=parameters)
        both(ops.causal_conv, x, weight, bias, past)
        both(ops.causal_conv, x, weight, bias)

def norms(groups, size, dtype):
    y, z = (columns(randn(67, groups, size, dtype=dtype)) for _ in range(2))
    both(ops.gated_rms_norm, y, z, randn(groups, size, dtype=dtype))
    both(ops.rms_norm, columns(randn(67, size)), randn(size))

def selective(length, channels, groups, states, dtype):
    x, dt, z = (columns(randn(2, length, channels, dtype=dtype)) for _ in range(3))
    B, C = (columns(randn(2, length, groups, states, dtype=dtype)) for _ in range(2))
    A, D, h, bias = -torch.rand(channels, states), randn(channels), randn(2, channels, states), randn(channels)
    both(ops.gated_selective_scan, x, dt, A, B, C, D, bias, z, h)
    both(ops.selective_scan, x, dt, A, B, C, D)

@torch.no_grad()
def steps(batch, dtype):
    for sizes in ((1, 1, 1, 1, 1, 1), (6, 5, 2, 7, 3, 2), (4, 33, 1, 17, 4, 1)):
        heads, headdim, groups, states, width, sharing = sizes
        inner, projected = heads * headdim, groups * states
        own, channels = (inner + 2 * projected) // sharing, inner + 2 * projected
        parameters = randn(own, 1, width), randn(own), *randn(3, heads), randn(inner // sharing)
        before = randn(batch, width - 1, channels, dtype=dtype), randn(batch, heads, headdim, states)
        given = columns(randn(batch, inner + channels + heads, dtype=dtype))
        ops.conv_scan_norm_step(given, *parameters, headdim, groups, *before, sharing)
    for sizes in ((1, 1, 1, 1, 1, 1), (42, 2, 7, 3, 3, 2), (37, 1, 17, 5, 4, 1)):
        channels, branches, states, rank, width, sharing = sizes
        parameters = randn(channels // sharing, 1, width), randn(channels // sharing)
        projections = randn(branches * (rank + 2 * states), channels // branches), randn(channels, rank)
        scan = randn(channels), randn(channels, states), randn(channels)
        before = randn(batch, width - 1, channels, dtype=dtype), randn(batch, channels, states)
        given = columns(randn(batch, 2 * channels, dtype=dtype))
        ops.conv_selective_scan_step(given, *parameters, *projections, *scan, branches, *before, sharing)
    for inner, outputs in ((1, 1), (37, 21), (260, 260)):  # the last with two threads
        difference_step(columns(randn(batch, 2 * inner)), randn(outputs, 2 * inner), randn(outputs), -0.5, 0.4)
        difference_step(columns(randn(batch, 2 * inner)), None, None, -0.5, 0.4)

for call in sys.argv[3:]:
    exec(call)
print(*sorted(called))
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


def sanitized(program: str, library: Path, calls: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Runs a program with a library that was compiled with sanitizers, which must be loaded before anything else."""
    words = [*compiler.compiler(), "-print-file-name=libasan.so"]
    first = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    options = {"LD_PRELOAD": first, "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "2"}
    words = [sys.executable, "-c", program, "", str(library), *calls]
    return subprocess.run(words, env=os.environ | options, capture_output=True, text=True)


def compiled(folder: Path, instructions: str, sources: Path = compiler.SOURCES) -> Path:
    try:
        content = compiler.compile_library(compiler.compiler(), instructions, SANITIZERS, sources)
    except compiler.CompileError as error:
        pytest.skip(f"no sanitizers here: {error}")
    library = folder / f"{instructions}.so"
    library.write_bytes(content)
    return library


@pytest.mark.parametrize("instructions", sorted({*processor.available()[:1], *processor.available()[-1:]}))
def test_no_operator_reads_or_writes_beside_its_memory(instructions: str, tmp_path: Path) -> None:
    library = compiled(tmp_path, instructions)
    done = sanitized(PROGRAM, library, CALLS)
    assert done.returncode == 0, done.stderr[-4000:]
    symbols = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    functions = {name for _, kind, name in map(str.split, symbols.splitlines()) if kind == "T" and name[0] != "_"}
    assert set(done.stdout.split()) == functions


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
    done = sanitized(program, compiled(tmp_path, processor.available()[0], tmp_path))
    assert done.returncode != 0
    assert says in done.stderr
