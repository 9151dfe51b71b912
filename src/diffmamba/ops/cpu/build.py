"""The library of the compiled CPU operators: found in this package or in the user's cache, or compiled on first use.

A file's name says what it was made of: instruction set, sources and flags, compiler, and its own content. So an old one
or a damaged one is never loaded, since its name is another one. A file takes its name only when it is complete.
"""

import ctypes
import errno
import hashlib
import logging
import os
import tempfile
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from diffmamba import atomic
from diffmamba.ops.cpu import processor
from diffmamba.ops.cpu.compiler import SOURCES, CompileError, compile_library, compiler, file_name, name_of, version

VARIABLE = "DIFFMAMBA_CACHE"
"""Names a folder for the libraries in place of the user's cache."""
IN_PACKAGE = Path(__file__).parent / "built"
"""Where a wheel may carry libraries, compiled for its platform by `hatch_build.py`."""
WIDTHS = {"x86-64-v4": 16, "x86-64-v3": 8}
"""Numbers in a vector; 4 in the other sets."""
WAIT = 60.0
"""Seconds to wait for another process that compiles the same. Then this one compiles it too, which does no harm."""
HOUR, MONTH = 3600.0, 30 * 86400.0
"""Seconds. A compiler that failed is not asked again for an hour; a library that nobody used for a month is removed."""

log = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()


@torch.compiler.assume_constant_result
def load() -> ctypes.CDLL | str:
    """The library for this processor, or in one line why there is none. Compiles it the first time, in seconds.

    `torch.compile` calls it while it traces, and takes the answer as it is.

    Raises SettingError for a value of $DIFFMAMBA_CPU that cannot be used here.
    """
    with _one_at_a_time:
        return _load()


def describe() -> str:
    """What the loaded library was compiled for."""
    library = load()
    assert not isinstance(library, str)
    return f"{processor.chosen()}{'' if library.diffmamba_openmp() else ', one thread: compiled without OpenMP'}"


def build(retry: bool = False) -> Path:
    """The path of the library in the cache, compiled if it is not there. `retry`: also by a compiler that just failed.

    Raises CompileError, OSError where the cache cannot be written, and SettingError as `load` does.
    """
    instructions, folder, command = _instructions(), cache_folder(), compiler()
    name = f"{name_of(instructions, SOURCES)}-{_compiler_named(command)}"
    if found := _found(folder, name):
        return found
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{name}.lock")
    with suppress(Timeout, NotImplementedError):  # it only saves work
        lock.acquire(timeout=WAIT)
    try:
        return _found(folder, name) or _compiled(command, instructions, folder, name, retry)
    finally:
        lock.release()


def cache_folder() -> Path:
    """Where libraries are kept, for all environments and checkouts of a user."""
    return Path(os.environ.get(VARIABLE) or user_cache_path("diffmamba") / "cpu").expanduser()


@cache
def _load() -> ctypes.CDLL | str:
    try:
        instructions = _instructions()
        with suppress(OSError):  # it may need a newer C library than there is here
            if carried := _found(IN_PACKAGE, name_of(instructions, SOURCES)):
                return _opened(carried, instructions)
        path = build()
        try:
            return _opened(path, instructions)
        except OSError:  # whole, but not what its name says
            path.unlink()
            return _opened(build(), instructions)
    except CompileError as error:
        return _without_compiler(str(error))
    except OSError as error:
        return _for_this_process(f"{cache_folder()} cannot be used ({error.strerror or error})")


def _instructions() -> str:
    instructions = processor.chosen()
    if instructions is None:
        raise CompileError(f"{processor.VARIABLE}=none" if processor.available() else "unknown processor")
    return instructions


def _compiled(command: list[str], instructions: str, folder: Path, name: str, retry: bool) -> Path:
    failed = folder / f"{name}.failed"
    if not retry and failed.exists() and time.time() - failed.stat().st_mtime < HOUR:
        raise CompileError(f"{failed.read_text()} (asked again in an hour, or by python -m diffmamba.ops.cpu)")
    log.info("compiling the CPU operators for %s, once, which takes seconds", instructions)
    try:
        content = compile_library(command, instructions, sources=SOURCES)
    except CompileError as error:
        if os.strerror(errno.ENOSPC) not in str(error):  # of temporary files: that passes
            atomic.write(failed, str(error))
        raise
    path = folder / file_name(name, content)
    atomic.write(path, content)
    if reason := _lacks(path):
        path.unlink()
        atomic.write(
            failed, f"{Path(command[0]).name} makes a library that lacks {reason}; use a C++ compiler such as g++"
        )
        raise CompileError(failed.read_text())
    failed.unlink(missing_ok=True)
    _remove_unused(folder)
    return path


def _lacks(path: Path) -> str | None:
    """The name that a library looks for in vain, as one has that was linked by a compiler of C."""
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        return str(error).partition("undefined symbol: ")[2] or None
    return None


def _compiler_named(command: list[str]) -> str:
    return hashlib.sha256(repr((command, version(command))).encode()).hexdigest()[:8]


def _found(folder: Path, name: str) -> Path | None:
    """A whole library of this name: its content is what the end of its name says."""
    with suppress(OSError):
        for path in sorted(folder.glob(f"{name}-*.so")):
            if path.name == file_name(path.stem.rpartition("-")[0], path.read_bytes()):
                return path
    return None


def _opened(path: Path, instructions: str) -> ctypes.CDLL:
    """Raises OSError for a file that is no library of ours."""
    library = ctypes.CDLL(str(path))
    try:
        width = library.diffmamba_width()
    except AttributeError as error:
        raise OSError(None, f"{path.name} is not a library of diffmamba") from error
    if width != WIDTHS.get(instructions, 4):
        raise OSError(None, f"{path.name} was compiled for vectors of {width} numbers")
    with suppress(OSError):
        os.utime(path)  # used
    _tell_torch_compile(width)
    return library


def _tell_torch_compile(width: int) -> None:
    """It keeps graphs on disk. The sizes in them are those of this library and of the Python that calls it."""
    files = sorted(path for path in SOURCES.iterdir() if path.suffix in (".h", ".cpp", ".py"))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()
    with suppress(AttributeError):  # before PyTorch 2.7
        config = torch.compiler.config
        config.cache_key_tag = f"{config.cache_key_tag.partition(' diffmamba')[0]} diffmamba {width} {digest[:16]}"


def _without_compiler(reason: str) -> ctypes.CDLL | str:
    """A library that a compiler made which is not here any more, or which fails now."""
    with suppress(CompileError, OSError):
        instructions = _instructions()
        if found := _found(cache_folder(), name_of(instructions, SOURCES)):
            return _opened(found, instructions)
    return reason


def _for_this_process(reason: str) -> ctypes.CDLL | str:
    """A library of this process alone, where the cache cannot be used."""
    try:
        instructions = _instructions()
        log.info("compiling the CPU operators for this run alone, which takes seconds")
        with tempfile.TemporaryDirectory(prefix="diffmamba-") as place:
            path = Path(place, "library.so")
            atomic.write(path, compile_library(compiler(), instructions, sources=SOURCES))
            log.warning("the CPU operators were compiled for this run alone: %s; set %s", reason, VARIABLE)
            return _opened(path, instructions)
    except (CompileError, OSError) as error:
        return f"{reason}; {error}"


def _remove_unused(folder: Path) -> None:
    for path in folder.iterdir():
        with suppress(OSError):
            if path.suffix in (".so", ".lock", ".failed", ".new") and time.time() - path.stat().st_mtime > MONTH:
                path.unlink()
