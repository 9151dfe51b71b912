"""Compiles the C++ of this folder into one library, for one instruction set.

It needs nothing but Python's own library: `hatch_build.py` loads this file alone, to put libraries into a wheel.
"""

import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

SOURCES = Path(__file__).parent
FLAGS = ("-O2", "-std=c++20", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-Wno-psabi")
OPENMP = "-fopenmp"
INSTRUCTIONS = {
    "x86-64-v4": ("-march=x86-64-v4",),  # AVX-512
    "x86-64-v3": ("-march=x86-64-v3",),  # AVX2
    "x86-64-v2": ("-march=x86-64-v2",),  # SSE
    "armv8-a": (),  # NEON, which every 64-bit ARM has
    "generic": (),
}
"""Flags by instruction set. What they make must run on every processor that has the set: no `native`."""
PATIENCE = 120.0
"""Seconds after which a compiler that has not come to an end is stopped."""
AT_ONCE = 2
"""Compilers that run side by side."""


class CompileError(Exception):
    """Why there is no library, in one line."""


class StoppedError(CompileError):
    """The compiler did not come to an end."""


def sets_of(machine: str = platform.machine()) -> list[str]:
    """The instruction sets that a kind of machine may have, the fastest first."""
    if machine.lower() in ("x86_64", "amd64"):
        return [name for name in INSTRUCTIONS if name.startswith("x86")]
    return ["armv8-a"] if machine.lower() in ("aarch64", "arm64") else ["generic"]


def compiler() -> list[str]:
    """The command of the C++ compiler: $CXX, or the first of c++, g++ and clang++. Raises CompileError without one."""
    if sys.platform == "win32":
        raise CompileError("they are not compiled on Windows")
    if given := os.environ.get("CXX", "").strip():
        try:
            command = shlex.split(given)
        except ValueError as error:
            raise CompileError(f"CXX={given} cannot be read ({error})") from error
        if shutil.which(command[0]):
            return command
        raise CompileError(f"the C++ compiler of CXX={given} is not found")
    found = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if found is None:
        raise CompileError("no C++ compiler is found")
    return [found]


def version(command: Sequence[str]) -> str:
    """The first line that a compiler says of itself."""
    return _run_all([[*command, "--version"]], time.monotonic() + 10)[0].partition("\n")[0]


def name_of(instructions: str, sources: Path = SOURCES) -> str:
    """A name for what the sources, our flags and an instruction set make, by whatever compiler, on this platform."""
    digest = hashlib.sha256(repr((FLAGS, OPENMP, INSTRUCTIONS[instructions], platform.system())).encode())
    for path in sorted(path for path in sources.iterdir() if path.suffix in (".h", ".cpp")):
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return f"{instructions}-{digest.hexdigest()[:16]}"


def file_name(name: str, content: bytes) -> str:
    """The name of the file of a library: it also says what the content is."""
    return f"{name}-{hashlib.sha256(content).hexdigest()[:16]}.so"


def compile_library(
    command: Sequence[str], instructions: str, extra: Sequence[str] = (), sources: Path = SOURCES
) -> bytes:
    """The content of the library. `extra`: further flags, e.g. of a sanitizer.

    It is compiled without OpenMP, for one thread, where the compiler has none. Raises CompileError, and OSError where
    there is no place for temporary files.
    """
    flags = [*FLAGS, *INSTRUCTIONS[instructions], *extra]
    try:
        return _compile([*command, *flags, OPENMP], sources)
    except StoppedError:
        raise
    except CompileError:
        with suppress(CompileError):
            return _compile([*command, *flags], sources)
        raise


def _compile(command: list[str], sources: Path) -> bytes:
    deadline = time.monotonic() + PATIENCE
    files = sorted(sources.glob("*.cpp"), key=lambda path: -path.stat().st_size)
    with tempfile.TemporaryDirectory(prefix="diffmamba-") as place:
        objects = [str(Path(place, f"{path.stem}.o")) for path in files]
        library = Path(place, "library.so")
        _run_all([[*command, "-c", str(file), "-o", to] for file, to in zip(files, objects, strict=True)], deadline)
        _run_all([[*command, "-shared", *objects, "-o", str(library)]], deadline)
        return library.read_bytes()


def _run_all(commands: list[list[str]], deadline: float) -> list[str]:
    """Runs commands, AT_ONCE side by side, and returns what they print. Raises CompileError if one fails."""
    printed = []
    for first in range(0, len(commands), AT_ONCE):
        running = [_start(command) for command in commands[first : first + AT_ONCE]]
        try:
            printed += [_finish(process, deadline) for process in running]
        finally:
            for process in running:
                _stop(process)
    return printed


def _start(command: list[str]) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    try:  # in a session of its own: a compiler starts processes, which are stopped together with it
        return subprocess.Popen(command, **pipes, start_new_session=True, text=True, errors="replace")  # type: ignore[call-overload]
    except OSError as error:
        raise CompileError(f"{command[0]} cannot be started ({error.strerror})") from error


def _finish(process: subprocess.Popen[str], deadline: float) -> str:
    name = Path(process.args[0]).name  # type: ignore[index, arg-type]
    try:
        printed, _ = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise StoppedError(f"{name} did not come to an end and was stopped") from None
    if process.returncode:
        lines = [line.strip() for line in printed.splitlines() if line.strip()] or [f"status {process.returncode}"]
        raise CompileError(f"{name} fails: {next((line for line in lines if 'error' in line), lines[-1])[:200]}")
    return printed


def _stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout:
        process.stdout.close()
