"""What operators run: what each backend means, and the messages when it is not possible."""

from collections.abc import Callable, Iterator
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from diffmamba.ops import backend, causal_conv, conv_scan_norm, cuda, gated_rms_norm, selective_scan, ssd
from diffmamba.ops.cpu import build

CUDA = torch.device("cuda")
PACKAGES = {"mamba-ssm": "mamba_ssm", "causal-conv1d": "causal_conv1d"}


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    cuda.load.cache_clear()
    with backend.use("auto"):
        yield
    cuda.load.cache_clear()


def on_cuda(dtype: torch.dtype = torch.float32) -> Any:
    """A tensor on a CUDA device, as far as `backend.kernel` looks at it. No such device is needed."""
    return SimpleNamespace(is_cuda=True, device=CUDA, dtype=dtype)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretends that packages of these versions are installed, with kernels that return their name."""

    def arrange(broken: dict[str, Exception] | None = None, **versions: str) -> None:
        there = {name.replace("_", "-"): version for name, version in versions.items()}

        def version(name: str) -> str:
            if name not in there:
                raise metadata.PackageNotFoundError(name)
            return there[name]

        def import_module(name: str) -> Any:
            if broken and name in broken:
                raise broken[name]
            functions = {function: (lambda function=function: function) for _, function in cuda.KERNELS.values()}
            return SimpleNamespace(**functions)

        monkeypatch.setattr(cuda.metadata, "version", version)
        monkeypatch.setattr(cuda, "import_module", import_module)
        cuda.load.cache_clear()

    return arrange


@pytest.mark.parametrize("requested", ["auto", "torch", "cpu", "definition"])
def test_on_a_cpu_there_are_no_kernels(requested: str, installed: Callable[..., None]) -> None:
    installed(mamba_ssm="2.3.0", causal_conv1d="1.6.0")
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


@pytest.mark.parametrize("requested", ["auto", "cuda"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_where_all_is_there_each_name_is_its_kernel(
    dtype: torch.dtype, requested: str, installed: Callable[..., None]
) -> None:
    installed(mamba_ssm="2.3.0", causal_conv1d="1.5.2")
    assert cuda.missing() is None
    for name, (_, function) in cuda.KERNELS.items():
        with backend.use(requested):
            kernel = backend.kernel(name, on_cuda(dtype))
        assert kernel is not None
        assert kernel() == function
        with backend.use("torch"):
            assert backend.kernel(name, on_cuda(dtype)) is None


def test_float64_has_no_kernels(installed: Callable[..., None]) -> None:
    installed(mamba_ssm="2.3.0", causal_conv1d="1.6.0")
    assert backend.kernel("conv", on_cuda(torch.float64)) is None
    with backend.use("cuda"), pytest.raises(ValueError, match=r"^backend=cuda .* float64; use float32, .*=torch$"):
        backend.kernel("conv", on_cuda(torch.float64))


ABSENT = [
    ({"causal_conv1d": "1.6.0"}, None, "mamba-ssm is not installed"),
    ({"mamba_ssm": "2.3.0"}, None, "causal-conv1d is not installed"),
    ({}, None, "mamba-ssm is not installed"),
    ({"mamba_ssm": "2.2.6.post3", "causal_conv1d": "1.6.0"}, None, "mamba-ssm 2.2.6.post3 is older than 2.3"),
    ({"mamba_ssm": "1.2", "causal_conv1d": "1.6.0"}, None, "mamba-ssm 1.2 is older than 2.3"),
    ({"mamba_ssm": "2.3.2.post1", "causal_conv1d": "1.5.0"}, None, "causal-conv1d 1.5.0 is older than 1.5.2"),
    (
        {"mamba_ssm": "2.3.0", "causal_conv1d": "1.6.0"},
        {"selective_scan_cuda": ModuleNotFoundError("No module named 'selective_scan_cuda'")},
        "mamba-ssm cannot be used (ModuleNotFoundError: No module named 'selective_scan_cuda')",
    ),
    (
        {"mamba_ssm": "2.3.0", "causal_conv1d": "1.6.0"},
        {"causal_conv1d_cuda": OSError("libtorch.so: undefined symbol\nand much more\n")},
        "causal-conv1d cannot be used (OSError: libtorch.so: undefined symbol)",
    ),
]


@pytest.mark.parametrize(("versions", "broken", "reason"), ABSENT)
def test_what_is_missing_is_told_with_the_remedy(
    versions: dict[str, str], broken: dict[str, Exception] | None, reason: str, installed: Callable[..., None]
) -> None:
    installed(broken, **versions)
    found = cuda.missing()
    assert found is not None
    assert found.startswith(reason)
    assert "\n" not in found
    lacking = "conv" if reason.startswith("causal") else "chunk_scan"
    with backend.use("auto"):
        assert backend.kernel(lacking, on_cuda()) is None
    with backend.use("cuda"), pytest.raises(ValueError, match=r"^backend=cuda: ") as told:
        backend.kernel(lacking, on_cuda())
    assert str(told.value) == f"backend=cuda: {found}; {cuda.INSTALL}, or use backend=auto"
    assert "pip install --no-build-isolation -e '.[cuda]'" in str(told.value)


@pytest.mark.parametrize("version", ["2.3", "2.3.0", "2.3.2.post1", "2.10.1", "3.0.0rc1", "2.3.0+cu12torch2.6"])
def test_versions_are_compared_as_numbers(version: str, installed: Callable[..., None]) -> None:
    installed(mamba_ssm=version, causal_conv1d="1.10")
    assert cuda.missing() is None


def test_what_runs_on_a_gpu_is_described(installed: Callable[..., None]) -> None:
    installed(mamba_ssm="2.3.0", causal_conv1d="1.6.0")
    assert backend.describe(CUDA) == "cuda (mamba-ssm 2.3.0, causal-conv1d 1.6.0)"
    with backend.use("torch"):
        assert backend.describe(CUDA) == "torch"
    installed()
    assert backend.describe(CUDA) == "torch (mamba-ssm is not installed)"
    installed(mamba_ssm="2.3.0")
    described = backend.describe(CUDA)
    assert described.startswith("cuda for chunk_scan, gated_norm, selective_scan (causal-conv1d is not ")


def test_the_fused_block_needs_both_packages(installed: Callable[..., None]) -> None:
    """Without causal-conv1d, mamba-ssm can be imported, but its fused kernel then calls None."""
    installed(mamba_ssm="2.3.0")
    assert backend.kernel("split_scan", on_cuda()) is None
    assert backend.kernel("chunk_scan", on_cuda()) is not None


def test_kernels_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def version(name: str) -> str:
        asked.append(name)
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(cuda.metadata, "version", version)
    for _ in range(3):
        assert backend.kernel("chunk_scan", on_cuda()) is None
    assert asked == ["mamba-ssm"]


def test_the_compiler_leaves_kernels_alone(installed: Callable[..., None]) -> None:
    """Kernels need addresses of memory, so a graph must break around them."""
    installed(mamba_ssm="2.3.0", causal_conv1d="1.6.0")
    kernel = backend.kernel("conv", on_cuda())
    assert kernel is not None
    compiled = torch.compile(lambda x: x + len(kernel()), backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        compiled(torch.ones(2))
    torch.compiler.reset()
