"""How the compiled CPU operators come to be: found, compiled, shared; and what happens where that is not possible."""

import ctypes
import errno
import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from filelock import FileLock

from diffmamba import atomic
from diffmamba.errors import SettingError
from diffmamba.ops import backend
from diffmamba.ops.cpu import __main__ as command
from diffmamba.ops.cpu import build, compiler, processor

HERE = Path(compiler.__file__).parent
ROOT = Path(__file__).resolve().parents[2]
EVERY = processor.available()
pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler, which is what is tested"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and a small library to be compiled."""
    small = tmp_path / "sources"
    small.mkdir()
    for name in ("library.cpp", "vectors.h"):
        shutil.copy(HERE / name, small)
    monkeypatch.setattr(build, "SOURCES", small)
    monkeypatch.setattr(build, "IN_PACKAGE", tmp_path / "carried")
    monkeypatch.setenv(build.VARIABLE, str(tmp_path / "cache"))
    for name in ("CXX", processor.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    forget()
    yield tmp_path / "cache"
    monkeypatch.undo()
    forget()


def forget() -> None:
    """What this process has found so far; as a new process."""
    build._load.cache_clear()
    processor.available.cache_clear()


@pytest.fixture
def as_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A C++ compiler of these lines of sh. Returns a file with one line for each time that it was to compile."""
    real, asked = compiler.compiler()[0], tmp_path / "asked"

    def arrange(lines: str = "") -> Path:
        script = tmp_path / "c++"
        asked.write_text("")
        script.write_text(
            f'#!/bin/sh\n[ "$1" = --version ] && exec {real} --version\n'
            f'echo "$@" >> {asked}\n{lines}\nexec {real} "$@"\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv("CXX", str(script))
        return asked

    return arrange


def libraries(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.so"))


def loaded() -> ctypes.CDLL:
    found = build.load()
    assert not isinstance(found, str), found
    return found


def reason() -> str:
    found = build.load()
    assert isinstance(found, str), found
    assert "\n" not in found
    with backend.use("auto"):
        assert backend.compiled(torch.ones(2)) is None
        assert backend.describe(torch.device("cpu")) == f"torch ({found})"
    with backend.use("cpu"), pytest.raises(ValueError, match=r"^backend=cpu: .*; use backend=auto or torch$") as told:
        backend.compiled(torch.ones(2))
    assert found in str(told.value)
    return found


# --- where all is well


def test_it_is_compiled_once_and_found_again(cache: Path, as_compiler: Callable[[str], Path]) -> None:
    asked = as_compiler("")
    first = loaded()
    assert len(asked.read_text().splitlines()) == 2  # a source, and the library
    [path] = libraries(cache)
    assert path.name.startswith(f"{EVERY[0]}-")
    forget()
    second = loaded()
    assert second._name == first._name == str(path)
    assert len(asked.read_text().splitlines()) == 2
    assert [path.suffix for path in cache.iterdir() if path.suffix != ".lock"] == [".so"]


@pytest.mark.parametrize("instructions", EVERY)
def test_each_instruction_set_of_this_machine_can_be_chosen(
    instructions: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(processor.VARIABLE, instructions)
    assert loaded().diffmamba_width() == {"x86-64-v4": 16, "x86-64-v3": 8}.get(instructions, 4)
    assert backend.describe(torch.device("cpu")) == f"cpu ({instructions})"
    assert [path.name.startswith(instructions) for path in libraries(cache)] == [True]


def test_a_process_has_one_openmp() -> None:
    """With two, each would have its own threads, and they would wait for each other."""
    assert loaded().diffmamba_openmp()
    torch.ones(100_000).exp()
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert len({line.split()[-1] for line in maps.read_text().splitlines() if "omp.so" in line}) == 1


def test_other_sources_and_another_compiler_make_another_file(cache: Path, as_compiler: Callable[[str], Path]) -> None:
    """A stale build is never loaded: it has another name."""
    loaded()
    (build.SOURCES / "more.cpp").write_text('extern "C" int diffmamba_more() { return 7; }\n')
    forget()
    assert loaded().diffmamba_more() == 7
    (build.SOURCES / "more.cpp").write_text('extern "C" int diffmamba_more() { return 8; }\n')
    forget()
    assert loaded().diffmamba_more() == 8
    assert len(libraries(cache)) == 3
    as_compiler("")
    forget()
    assert loaded().diffmamba_more() == 8
    assert len(libraries(cache)) == 4


def test_what_nobody_used_for_a_month_is_removed(cache: Path) -> None:
    cache.mkdir()
    names = ("x86-64-v2-0-0-0.so", "x86-64-v2-0-0.lock", "x86-64-v2-1-1-1.so", "mine.txt")
    for name, days in zip(names, (31, 31, 29, 99), strict=True):
        (cache / name).write_text("")
        os.utime(cache / name, (time.time() - days * 86400,) * 2)
    loaded()
    assert [(cache / name).exists() for name in names] == [False, False, True, True]


def test_a_library_that_a_wheel_carries_needs_no_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = compiler.compile_library(compiler.compiler(), EVERY[0], sources=build.SOURCES)
    build.IN_PACKAGE.mkdir()
    name = compiler.file_name(compiler.name_of(EVERY[0], build.SOURCES), content)
    (build.IN_PACKAGE / name).write_bytes(content)
    monkeypatch.setenv("CXX", "nothing-of-this-name")
    assert Path(loaded()._name) == build.IN_PACKAGE / name
    assert not cache.exists()
    (build.SOURCES / "library.cpp").write_text("// of another version\n")
    forget()
    assert "nothing-of-this-name" in reason()


def test_the_wheel_s_hook_compiles_for_its_platform_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sys.path.insert(0, str(ROOT))
    try:
        from hatch_build import FOLDER, CompiledOperators
    finally:
        sys.path.remove(str(ROOT))
    shutil.copytree(build.SOURCES, tmp_path / FOLDER)
    shutil.copy(HERE / "compiler.py", tmp_path / FOLDER)
    hook = CompiledOperators(str(tmp_path), {}, None, None, str(tmp_path), "wheel")
    data: dict = {"force_include": {}}
    hook.initialize("standard", data)
    assert data == {"force_include": {}}
    monkeypatch.setenv("DIFFMAMBA_WHEEL", "compiled")
    hook.initialize("standard", data)
    assert data["pure_python"] is False
    assert data["tag"].startswith("py3-none-")
    build.IN_PACKAGE.mkdir()
    for path, place in data["force_include"].items():
        assert place == f"diffmamba/ops/cpu/built/{Path(path).name}"
        shutil.copy(path, build.IN_PACKAGE)
    assert len(data["force_include"]) == len(compiler.sets_of())
    hook.finalize("standard", data, "")
    assert Path(loaded()._name).parent == build.IN_PACKAGE


def test_the_command_says_where_the_library_lies(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main() == 0
    assert str(libraries(cache)[0]) in capsys.readouterr().out


def test_the_compiler_of_pytorch_takes_the_choice_as_it_is() -> None:
    def operator(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if backend.compiled(x) is not None else x

    torch.compiler.reset()
    compiled = torch.compile(operator, backend="eager", fullgraph=True)
    assert compiled(torch.ones(2)).tolist() == [2, 2]


# --- the processor


def cpuinfo(flags: str) -> str:
    return f"processor : 0\nflags\t\t: fpu {flags}\nbugs :\n"


V2 = "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"
V3 = f"{V2} avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"


@pytest.mark.skipif(not EVERY[0].startswith("x86"), reason="levels of x86-64")
@pytest.mark.parametrize(
    ("text", "sets"),
    [
        (cpuinfo(f"{V3} avx512f avx512bw avx512cd avx512dq avx512vl"), ("x86-64-v4", "x86-64-v3", "x86-64-v2")),
        (cpuinfo(f"{V3} avx512f avx512cd"), ("x86-64-v3", "x86-64-v2")),  # Knights Landing
        (cpuinfo(V3.replace("movbe ", "")), ("x86-64-v2",)),  # as some virtual machines hide it
        (cpuinfo(V2), ("x86-64-v2",)),
        (cpuinfo("sse2"), ()),
        ("", ()),
    ],
)
def test_a_level_needs_all_that_belongs_to_it(
    text: str, sets: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    assert processor.available() == sets
    assert processor.chosen() == (sets[0] if sets else None)
    for name in set(EVERY) - set(sets):
        monkeypatch.setenv(processor.VARIABLE, name)
        with pytest.raises(
            SettingError, match=f"^DIFFMAMBA_CPU={name} is no instruction set of this processor; use one of .*none$"
        ):
            build.load()
        monkeypatch.delenv(processor.VARIABLE)
    if not sets:
        assert reason() == "unknown processor"


def test_none_forbids_the_library_and_other_words_are_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processor.VARIABLE, "none")
    assert reason() == "DIFFMAMBA_CPU=none"
    assert not cache.exists()
    forget()
    monkeypatch.setenv(processor.VARIABLE, "native")
    with pytest.raises(
        SettingError, match=r"^DIFFMAMBA_CPU=native is no instruction set of this processor; use one of "
    ):
        build.load()


@pytest.mark.parametrize(
    ("machine", "sets"),
    [("AMD64", ["x86-64-v4", "x86-64-v3", "x86-64-v2"]), ("arm64", ["armv8-a"]), ("riscv64", ["generic"])],
)
def test_each_kind_of_machine_has_sets(machine: str, sets: list[str]) -> None:
    assert compiler.sets_of(machine) == sets


# --- compilers that are missing, fail, hang, or can less


def test_without_a_compiler_there_is_a_reason_or_what_was_compiled_before(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("PATH", "")
        assert reason() == "no C++ compiler is found"
        patched.setenv("CXX", "clang++-99 -O3")
        forget()
        assert reason() == "the C++ compiler of CXX=clang++-99 -O3 is not found"
        patched.setenv("CXX", '"c++')
        forget()
        assert reason() == 'CXX="c++ cannot be read (No closing quotation)'
    forget()
    before = loaded()._name
    monkeypatch.setenv("PATH", "")
    forget()
    assert loaded()._name == before


def test_on_windows_they_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler.sys, "platform", "win32")
    with pytest.raises(compiler.CompileError, match="Windows"):
        compiler.compiler()


def test_a_compiler_that_fails_is_quoted_and_left_alone_for_an_hour(
    cache: Path, as_compiler: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = as_compiler("echo 'In file included:'; echo \"a.cpp:1:2: error: unknown type name 'Vector'\"; exit 1")
    assert reason() == "c++ fails: a.cpp:1:2: error: unknown type name 'Vector'"
    times = len(asked.read_text().splitlines())
    assert times == 2  # with OpenMP and without
    forget()
    assert reason().startswith(
        "c++ fails: a.cpp:1:2: error: unknown type name 'Vector' (asked again in an hour, or by "
    )
    assert len(asked.read_text().splitlines()) == times
    assert command.main() == 1  # which asks again
    assert "PyTorch's will run: c++ fails: a.cpp" in capsys.readouterr().err
    assert len(asked.read_text().splitlines()) == 2 * times
    [failed] = cache.glob("*.failed")
    os.utime(failed, (time.time() - 3601,) * 2)
    as_compiler("")
    forget()
    loaded()
    assert not failed.exists()


def test_a_full_disk_is_no_fault_of_the_compiler(cache: Path, as_compiler: Callable[[str], Path]) -> None:
    as_compiler("echo 'a.cpp:9:1: fatal error: error writing to /tmp/a.s: No space left on device'; exit 1")
    assert "No space left on device" in reason()
    as_compiler("")
    forget()
    loaded()


def test_a_library_that_lacks_a_name_is_the_compilers_fault(
    cache: Path, as_compiler: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a compiler of C links C++."""
    asked = as_compiler("")
    monkeypatch.setattr(build, "_lacks", lambda path: "_ZTISt9bad_alloc")
    assert reason() == "c++ makes a library that lacks _ZTISt9bad_alloc; use a C++ compiler such as g++"
    times = len(asked.read_text().splitlines())
    assert not libraries(cache)
    forget()
    assert "asked again in an hour" in reason()
    assert len(asked.read_text().splitlines()) == times


def test_a_compiler_that_hangs_is_stopped_with_all_that_it_started(
    tmp_path: Path, as_compiler: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_compiler(f"sleep 60 & echo $! > {tmp_path}/child; wait; exit 1")
    monkeypatch.setattr(compiler, "PATIENCE", 0.5)
    started = time.monotonic()
    assert reason() == "c++ did not come to an end and was stopped"
    assert time.monotonic() - started < 5
    child = int((tmp_path / "child").read_text())
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_a_compiler_without_openmp_makes_a_library_of_one_thread(as_compiler: Callable[[str], Path]) -> None:
    as_compiler('case "$*" in *-fopenmp*) echo "clang: error: unsupported option -fopenmp"; exit 1;; esac')
    assert loaded().diffmamba_openmp() == 0
    assert backend.describe(torch.device("cpu")) == f"cpu ({EVERY[0]}, one thread: compiled without OpenMP)"


def test_a_compiler_that_makes_no_library_is_a_reason(as_compiler: Callable[[str], Path]) -> None:
    as_compiler("exit 0")
    assert "No such file" in reason()


# --- places that cannot be written, files that are not what they seem


def test_where_the_cache_cannot_be_written_this_process_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv(build.VARIABLE, str(tmp_path / "a file" / "cache"))
    with caplog.at_level(logging.WARNING):
        library = loaded()
    assert not Path(library._name).exists()  # removed, and still loaded
    assert library.diffmamba_width() > 0
    [line] = caplog.messages
    assert "a file/cache cannot be used (Not a directory)" in line
    assert build.VARIABLE in line


def test_a_full_disk_is_a_reason_only_if_there_is_no_other(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, full = atomic.write, []

    def refuse(path: Path, content: bytes) -> None:
        if path.parent == cache or full:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(atomic, "write", refuse)
    loaded()
    assert libraries(cache) == []
    forget()
    full.append(True)
    assert reason().count("No space left on device") == 2


def test_a_cache_that_can_only_be_read_is_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = loaded()._name

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(build, "FileLock", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    forget()
    assert loaded()._name == before


@pytest.mark.parametrize("damage", ["cut", "empty", "changed"])
def test_a_damaged_library_is_not_opened_but_compiled_again(
    damage: str, cache: Path, as_compiler: Callable[[str], Path]
) -> None:
    """Opening a file that was cut off could end the process."""
    asked = as_compiler("")
    build.build()
    [path] = libraries(cache)
    whole = path.read_bytes()
    path.unlink()  # the file itself may be in use
    path.write_bytes({"cut": whole[:9000], "empty": b"", "changed": whole[:-1] + b"x"}[damage])
    loaded()
    assert len(asked.read_text().splitlines()) == 4
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", ["another instruction set", "another library", "text"])
def test_a_whole_file_that_is_not_ours_is_replaced(content: str, cache: Path, tmp_path: Path) -> None:
    path = build.build()
    name = path.stem.rpartition("-")[0]
    path.unlink()
    (tmp_path / "library.cpp").write_text('extern "C" long diffmamba_width() { return 3; }\n')
    other = {
        "another instruction set": lambda: compiler.compile_library(compiler.compiler(), EVERY[0], (), tmp_path),
        "another library": lambda: Path(sys.modules["_ctypes"].__file__ or "").read_bytes(),
        "text": lambda: b"not a library",
    }[content]()
    (cache / compiler.file_name(name, other)).write_bytes(other)
    assert loaded().diffmamba_width() == build.WIDTHS.get(EVERY[0], 4)
    assert len(libraries(cache)) == 1


# --- several at once


def _load_in_a_process(together: Any, names: Any) -> None:
    together.wait()
    names.put(loaded()._name)


def test_processes_that_start_together_compile_once(cache: Path, as_compiler: Callable[[str], Path]) -> None:
    asked = as_compiler("sleep 0.3")
    processes = multiprocessing.get_context("fork")  # which need not import PyTorch again
    together, names = processes.Barrier(3), processes.Queue()
    children = [processes.Process(target=_load_in_a_process, args=(together, names)) for _ in range(3)]
    for child in children:
        child.start()
    loaded_ones = [names.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    assert set(loaded_ones) == {str(path) for path in libraries(cache)}
    assert len(asked.read_text().splitlines()) == 2


def test_threads_of_a_process_get_one_library(as_compiler: Callable[[str], Path]) -> None:
    asked, found = as_compiler("sleep 0.1"), []
    threads = [threading.Thread(target=lambda: found.append(build.load())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(map(id, found))) == 1
    assert len(asked.read_text().splitlines()) == 2


def test_a_lock_of_a_dead_process_holds_nobody_up_and_of_a_stuck_one_not_for_ever(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.build()
    [lock] = cache.glob("*.lock")
    libraries(cache)[0].unlink()
    program = "import sys, filelock, os; filelock.FileLock(sys.argv[1]).acquire(); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", program, str(lock)]).returncode == -9
    started = time.monotonic()
    loaded()
    assert time.monotonic() - started < 30
    libraries(cache)[0].unlink()
    monkeypatch.setattr(build, "WAIT", 0.2)
    forget()
    with FileLock(lock):
        loaded()


def test_a_disk_without_locks_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(timeout: float) -> None:
        raise NotImplementedError

    monkeypatch.setattr(build, "FileLock", lambda path: SimpleNamespace(acquire=acquire, release=lambda: None))
    loaded()
