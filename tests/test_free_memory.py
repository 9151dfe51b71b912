"""What is free for a process in its control groups, and which errors say that memory was not enough."""

import pytest

from diffmamba import free_memory


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: out of memory",
        "Triton Error [CUDA]: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "std::bad_alloc",
        "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9",
    ],
)
def test_what_says_that_memory_was_not_enough(text):
    assert free_memory.exhausted(RuntimeError(text))


@pytest.mark.parametrize("text", ["Triton Error [CUDA]: out of resource: shared memory", "CUDA error: bad argument"])
def test_other_errors_do_not(text):
    assert not free_memory.exhausted(RuntimeError(text))


def group(place, most, taken, cached, version=2):
    names = ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    place.mkdir(parents=True, exist_ok=True)
    (place / names[0]).write_text(f"{most}\n")
    (place / names[1]).write_text(f"{taken}\n")
    (place / "memory.stat").write_text(f"anon 5\n{names[2]} {cached}\n")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where control groups are; `meminfo` says that 1,000 kB of the machine are free."""
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 1000 kB\n")
    monkeypatch.setattr(free_memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(free_memory, "GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(free_memory, "GROUPS", tmp_path / "groups")
    return tmp_path


def test_the_least_of_all_groups_above_counts_without_cached_files(place):
    (place / "cgroup").write_text("0::/slice/job/step\n")
    group(place / "groups/slice", 9000, 1000, 0)
    group(place / "groups/slice/job", 5000, 4000, 1500)
    group(place / "groups/slice/job/step", "max", 100, 0)
    assert free_memory.free() == 2500
    group(place / "groups/slice", 3000, 2000, 200)
    assert free_memory.free() == 1200


def test_groups_of_version_1_are_read(place):
    (place / "cgroup").write_text("5:cpu,memory:/job\n2:cpuset:/job\n0::/\n")
    group(place / "groups/memory", 2**63 - 4096, 100, 0, version=1)
    group(place / "groups/memory/job", 6000, 4000, 500, version=1)
    assert free_memory.free() == 2500


def test_without_a_limit_it_is_what_the_machine_has(place):
    assert free_memory.free() == 1000 * 1024
    (place / "cgroup").write_text("0::/job\n")
    group(place / "groups/job", "max", 100, 0)
    assert free_memory.free() == 1000 * 1024
