"""What operators run: what each backend means, and the messages when it is not possible."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from diffmamba.ops import backend, causal_conv, conv_scan_norm, cuda, gated_rms_norm, selective_scan, ssd
from diffmamba.ops.cpu import build

CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    with backend.use("auto"):
        yield


def on_cuda(dtype: torch.dtype = torch.float32) -> Any:
    """A tensor on a CUDA device, as far as `backend.kernel` looks at it. No such device is needed."""
    return SimpleNamespace(is_cuda=True, device=CUDA, dtype=dtype)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that return their name, whatever this environment has."""
    monkeypatch.setattr(cuda, "load", lambda name: lambda: name)


@pytest.mark.parametrize("requested", ["auto", "torch", "cpu", "definition"])
@pytest.mark.usefixtures("installed")
def test_on_a_cpu_there_are_no_kernels(requested: str) -> None:
    with backend.use(requested):
        assert not any(backend.kernel(name, torch.ones(2)) for name in cuda.KERNELS)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> object:
    """In place of the compiled CPU operators."""
    found = SimpleNamespace()
    monkeypatch.setattr(build, "load", lambda: found)
    monkeypatch.setattr(build, "describe", lambda: "some set")
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_each_backend_on_a_cpu(dtype: torch.dtype, library: object) -> None:
    """What it takes, whether it is the definition, and what a record says."""
    tensor, cpu = torch.ones(2, dtype=dtype), torch.device("cpu")
    for name, found, definition, described in (
        ("auto", library, False, "cpu (some set)"),
        ("cpu", library, False, "cpu (some set)"),
        ("torch", None, False, "torch"),
        ("definition", None, True, "definition"),
    ):
        with backend.use(name):
            assert backend.compiled(tensor) is found
            assert backend.by_definition() is definition
            assert backend.describe(cpu, dtype) == described


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16], ids=str)
def test_the_compiled_operators_have_two_number_types(dtype: torch.dtype, library: object) -> None:
    name = str(dtype).removeprefix("torch.")
    lacks = f"the compiled operators have no {name}, only float32 and bfloat16"
    assert backend.compiled(torch.ones(2, dtype=dtype)) is None
    assert backend.describe(torch.device("cpu"), dtype) == f"torch ({lacks})"
    with backend.use("cpu"), pytest.raises(ValueError, match=f"^backend=cpu: {lacks}; use backend=auto or torch$"):
        backend.compiled(torch.ones(2, dtype=dtype))


def test_the_compiled_operators_cannot_be_insisted_on_for_another_device(library: object) -> None:
    assert backend.compiled(torch.ones(2, device="meta")) is None
    with (
        backend.use("cpu"),
        pytest.raises(ValueError, match=r"^backend=cpu needs tensors on the CPU, not on meta; use"),
    ):
        backend.compiled(torch.ones(2, device="meta"))


def calls() -> dict[str, Callable[[], Any]]:
    one = torch.ones
    ssd_arguments = (one(1, 3, 2, 4), one(1, 3, 2), one(2), one(1, 3, 1, 5), one(1, 3, 1, 5), one(2))
    scan_arguments = (one(1, 3, 2), one(1, 3, 2), one(2, 5), one(1, 3, 1, 5), one(1, 3, 1, 5), one(2))
    return {
        "ssd": lambda: ssd(*ssd_arguments),
        "selective_scan": lambda: selective_scan(*scan_arguments),
        "gated_rms_norm": lambda: gated_rms_norm(one(2, 3), one(2, 3), one(3)),
        "causal_conv": lambda: causal_conv(one(1, 3, 8), one(8, 4), one(8)),
        "conv_scan_norm": lambda: conv_scan_norm(
            one(1, 3, 40), one(24, 4), one(24), one(8), -one(8), one(8), one(8), headdim=1, groups=1
        ),
    }


@pytest.mark.parametrize("operator", calls())
def test_kernels_cannot_be_insisted_on_for_a_cpu(operator: str) -> None:
    with backend.use("cuda"), pytest.raises(ValueError, match=r"^backend=cuda .* CUDA device, not on cpu; .*") as told:
        calls()[operator]()
    assert "\n" not in str(told.value)
    assert "use auto or torch" in str(told.value)


@pytest.mark.parametrize("name", ["gpu", "triton", "", "CUDA"])
def test_an_unknown_backend_is_told_the_known(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^backend={name} is not known; use one of auto, torch, cpu, cuda, definition$"
    ):
        backend.select(name)
    assert backend._requested == "auto"


def test_a_backend_lasts_as_long_as_the_with_statement() -> None:
    backend.select("torch")
    with backend.use("cuda"):
        assert backend._requested == "cuda"
        with backend.use("auto"):
            assert backend._requested == "auto"
        assert backend._requested == "cuda"
    assert backend._requested == "torch"
    with pytest.raises(RuntimeError, match="mine"), backend.use("cuda"):
        raise RuntimeError("mine")
    assert backend._requested == "torch"
    with pytest.raises(ValueError, match="not known"), backend.use("gpu"):
        pass
    assert backend._requested == "torch"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("requested", ["auto", "cuda"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_where_all_is_there_each_name_is_its_kernel(dtype: torch.dtype, requested: str) -> None:
    for name in cuda.KERNELS:
        with backend.use(requested):
            kernel = backend.kernel(name, on_cuda(dtype))
        assert kernel is not None
        assert kernel() == name
        with backend.use("torch"):
            assert backend.kernel(name, on_cuda(dtype)) is None


@pytest.mark.usefixtures("installed")
def test_float64_has_no_kernels() -> None:
    assert backend.kernel("conv", on_cuda(torch.float64)) is None
    with backend.use("cuda"), pytest.raises(ValueError, match=r"^backend=cuda .* float64; use float32, .*=torch$"):
        backend.kernel("conv", on_cuda(torch.float64))
