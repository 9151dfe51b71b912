"""Which CUDA kernels are found in installs of several kinds, and what is told about the others.

The packages are small ones of these names, in a folder that is put on the path.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from diffmamba.ops import backend, cuda

TRITON = {"chunk_scan", "gated_norm"}
NO_SCAN = "mamba-ssm is installed without its compiled part"
NO_CONV = "causal-conv1d is installed without its compiled part"
INIT = "from mamba_ssm.ops import selective_scan_interface\n"
OURS = {"mamba_ssm", "causal_conv1d", "selective_scan_cuda", "causal_conv1d_cuda"}
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs these versions, with or without the compiled modules; `changed` gives files another content."""

    def version(name: str) -> str:
        for found in metadata.distributions(name=name, path=[str(tmp_path)]):
            return found.version
        raise metadata.PackageNotFoundError(name)

    def arrange(compiled: tuple[str, ...] = (), changed: dict[str, str] | None = None, **versions: str) -> None:
        forget()
        files = {"mamba_ssm/__init__.py": INIT, "causal_conv1d/__init__.py": "", "mamba_ssm/ops/__init__.py": ""}
        for name, (module, function) in cuda.KERNELS.items():
            path = module.replace(".", "/") + ".py"
            imports = "import selective_scan_cuda\n" if name == "selective_scan" else ""
            files[path] = files.get(path, imports) + f"def {function}(): return '{name}'\n"
        files = {path: text for path, text in files.items() if path.partition("/")[0] in versions}
        files |= {f"{name}.py": "" for name in compiled} | (changed or {})
        for name, number in versions.items():
            files[f"{name}-{number}.dist-info/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n"
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        importlib.invalidate_caches()
        for name in ("selective_scan_cuda", "causal_conv1d_cuda"):
            if f"{name}.py" not in files:
                monkeypatch.setitem(sys.modules, name, None)  # whatever this environment has

    def forget() -> None:
        cuda.load.cache_clear()
        for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
            monkeypatch.delitem(sys.modules, name)

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cuda.metadata, "version", version)
    yield arrange
    forget()


def found() -> dict[str, Any]:
    """By kernel: its name if it is the right one, or the reason why it is not there."""
    return {name: one if isinstance(one := cuda.load(name), str) else f"the kernel {one()}" for name in cuda.KERNELS}


def kernels(names: set[str], **others: str) -> dict[str, str]:
    return {name: f"the kernel {name}" for name in names} | others


BOTH = ("selective_scan_cuda", "causal_conv1d_cuda")


def test_a_complete_install_has_all_and_stays_as_it_is(install: Install) -> None:
    install(BOTH, mamba_ssm="2.3.0", causal_conv1d="1.6.0")
    assert found() == kernels(set(cuda.KERNELS))
    assert cuda.missing() is None
    assert cuda.describe() == "cuda (mamba-ssm 2.3.0, causal-conv1d 1.6.0)"
    assert sys.modules["mamba_ssm"].selective_scan_interface.selective_scan_fn() == "selective_scan"


def test_a_source_only_install_has_the_triton_kernels(install: Install) -> None:
    install(mamba_ssm="2.3.0", causal_conv1d="1.6.0")
    assert found() == kernels(TRITON, selective_scan=NO_SCAN, split_scan=NO_CONV, conv=NO_CONV)
    assert cuda.missing() is None
    assert cuda.describe() == (
        f"cuda for chunk_scan, gated_norm (mamba-ssm 2.3.0), torch for split_scan, conv ({NO_CONV}), "
        f"selective_scan ({NO_SCAN})"
    )


def test_nobody_takes_the_half_of_a_package_for_the_package(install: Install) -> None:
    """As transformers would, which tries `import mamba_ssm` and goes on without it where that fails."""
    install(mamba_ssm="2.3.0")
    assert callable(cuda.load("chunk_scan"))
    assert "mamba_ssm" not in sys.modules
    with pytest.raises(ModuleNotFoundError, match="selective_scan_cuda"):
        importlib.import_module("mamba_ssm")
    assert callable(cuda.load("gated_norm"))


@pytest.mark.parametrize(
    ("compiled", "versions", "there", "others"),
    [
        (
            ("causal_conv1d_cuda",),
            {"mamba_ssm": "2.3.0", "causal_conv1d": "1.6.0"},
            {*TRITON, "split_scan", "conv"},
            {"selective_scan": NO_SCAN},
        ),
        (
            ("selective_scan_cuda",),
            {"mamba_ssm": "2.3.0"},
            {*TRITON, "selective_scan"},
            dict.fromkeys(("split_scan", "conv"), "causal-conv1d is not installed"),
        ),
        (
            ("causal_conv1d_cuda",),
            {"causal_conv1d": "1.5.2"},
            {"conv"},
            dict.fromkeys((*TRITON, "split_scan", "selective_scan"), "mamba-ssm is not installed"),
        ),
        ((), {}, set(), dict.fromkeys(set(cuda.KERNELS) - {"conv"}, "mamba-ssm is not installed") | {
            "conv": "causal-conv1d is not installed"
        }),
    ],
    ids=["causal-conv1d compiled", "mamba-ssm alone", "causal-conv1d alone", "nothing"],
)  # fmt: skip
def test_each_kernel_is_looked_for_by_itself(
    compiled: tuple[str, ...], versions: dict[str, str], there: set[str], others: dict[str, str], install: Install
) -> None:
    install(compiled, **versions)
    assert found() == kernels(there, **others)
    assert (cuda.missing() is None) == bool(there)


def test_kernels_are_there_where_only_the_models_of_the_package_fail(install: Install) -> None:
    """mamba-ssm's `__init__` imports its models, and these import names that some versions of transformers lack."""
    fails = {"mamba_ssm/__init__.py": f"{INIT}raise ImportError('cannot import name GreedySearch')\n"}
    install(BOTH, fails, mamba_ssm="2.3.0", causal_conv1d="1.6.0")
    assert found() == kernels(set(cuda.KERNELS))


@pytest.mark.parametrize(
    ("versions", "old", "reason"),
    [
        (
            {"mamba_ssm": "2.2.6.post3", "causal_conv1d": "1.6.0"},
            "chunk_scan",
            "mamba-ssm 2.2.6.post3 is older than 2.3",
        ),
        ({"mamba_ssm": "1.2", "causal_conv1d": "1.6.0"}, "gated_norm", "mamba-ssm 1.2 is older than 2.3"),
        ({"mamba_ssm": "2.3.0", "causal_conv1d": "1.5.0"}, "split_scan", "causal-conv1d 1.5.0 is older than 1.5.2"),
        ({"mamba_ssm": "2.3.0", "causal_conv1d": "1.5.0"}, "conv", "causal-conv1d 1.5.0 is older than 1.5.2"),
    ],
)
def test_an_old_version_is_refused(versions: dict[str, str], old: str, reason: str, install: Install) -> None:
    install(BOTH, **versions)
    assert found()[old] == f"{reason}, before which some gradients are wrong"


@pytest.mark.parametrize("version", ["2.3", "2.3.0", "2.3.2.post1", "2.10.1", "3.0.0rc1", "2.3.0+cu12torch2.6"])
def test_versions_are_compared_as_numbers(version: str, install: Install) -> None:
    install(BOTH, mamba_ssm=version, causal_conv1d="1.10")
    assert found() == kernels(set(cuda.KERNELS))


@pytest.mark.parametrize(
    ("changed", "lacking", "reason"),
    [
        (
            {"causal_conv1d_cuda.py": "raise OSError('libtorch.so: undefined symbol\\nand much more')"},
            "conv",
            "the compiled part of causal-conv1d cannot be used (OSError: libtorch.so: undefined symbol)",
        ),
        (
            {"mamba_ssm/ops/triton/layernorm_gated.py": "import einops_that_is_not_there"},
            "gated_norm",
            "mamba_ssm.ops.triton.layernorm_gated cannot be used "
            "(ModuleNotFoundError: No module named 'einops_that_is_not_there')",
        ),
    ],
)
def test_what_fails_is_told_in_a_line(changed: dict[str, str], lacking: str, reason: str, install: Install) -> None:
    install(BOTH, changed, mamba_ssm="2.3.0", causal_conv1d="1.6.0")
    assert found()[lacking] == reason
    assert callable(cuda.load("chunk_scan"))
    assert f"torch for {'split_scan, ' if lacking == 'conv' else ''}{lacking} ({reason})" in cuda.describe()


# --- what the backend makes of it


def on_cuda() -> Any:
    """A tensor on a CUDA device, as far as `backend.kernel` looks at it. No such device is needed."""
    return SimpleNamespace(is_cuda=True, device=torch.device("cuda"), dtype=torch.float32)


@pytest.mark.parametrize("requested", ["auto", "cuda"])
def test_the_backend_takes_the_kernels_that_are_there(requested: str, install: Install) -> None:
    install(mamba_ssm="2.3.0")
    with backend.use(requested):
        assert {name for name in cuda.KERNELS if backend.kernel(name, on_cuda())} == TRITON
        assert backend.describe(torch.device("cuda")) == cuda.describe()
    with backend.use("torch"):
        assert backend.describe(torch.device("cuda")) == "torch"


def test_one_kernel_at_least_must_be_there_for_the_backend_cuda(install: Install) -> None:
    install()
    assert cuda.describe() == "torch (mamba-ssm is not installed)"
    with backend.use("cuda"), pytest.raises(ValueError, match=r"^backend=cuda: ") as told:
        backend.kernel("conv", on_cuda())
    assert str(told.value) == f"backend=cuda: mamba-ssm is not installed; {cuda.INSTALL}, or use backend=auto"
    with backend.use("auto"):
        assert backend.kernel("conv", on_cuda()) is None


def test_kernels_are_looked_for_once(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install()
    first = cuda.load("chunk_scan")
    monkeypatch.setattr(cuda.metadata, "version", lambda name: "2.3.0")
    assert cuda.load("chunk_scan") is first


def test_the_compiler_leaves_kernels_alone(install: Install) -> None:
    """Kernels need addresses of memory, so a graph must break around them."""
    install(BOTH, mamba_ssm="2.3.0", causal_conv1d="1.6.0")
    kernel = cuda.load("conv")
    assert not isinstance(kernel, str)
    compiled = torch.compile(lambda x: x + len(kernel()), backend="eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        compiled(torch.ones(2))
    torch.compiler.reset()
