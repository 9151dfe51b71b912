"""What the tests on a GPU say at the end: the worst errors they saw, and which of mamba-ssm's kernels were checked."""

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress

import pytest

PARITY = "parity"  # the property under which a test leaves its errors
UNCHECKED = "a CUDA kernel went UNCHECKED"
Tell = Callable[[str, str, dict[str, float]], None]


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Called with a mixer, the way it was computed and its errors by name: they are told at the end."""
    return lambda mixer, way, errors: record_property(PARITY, (mixer, way, errors))


@pytest.fixture
def need_kernels() -> Callable[..., None]:
    """Called with names of kernels: skips the test where one of them is not there."""
    from diffmamba.ops import cuda

    def need(*names: str) -> None:
        for name in names:
            if isinstance(reason := cuda.load(name), str):
                pytest.skip(f"{UNCHECKED}: {name}, since {reason}")

    return need


@pytest.fixture(scope="session", autouse=True)
def _one_configuration() -> None:
    """Triton's autotuner takes one configuration of each kernel. To compile and time all of them takes minutes."""
    with suppress(ImportError):
        from triton.runtime.autotuner import Autotuner

        Autotuner.prune_configs = lambda self, arguments: self.configs[-1:]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs a CUDA device; `pytest -m gpu` runs these alone")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    stats = terminalreporter.stats
    worst: dict[str, dict[str, tuple[float, str]]] = defaultdict(dict)
    properties = [pair for kind in ("passed", "failed") for one in stats.get(kind, []) for pair in one.user_properties]
    for mixer, way, errors in (value for key, value in properties if key == PARITY):
        for what, error in errors.items():
            worst[way][what] = max(worst[way].get(what, (0.0, "")), (error, mixer))
    for way, errors in worst.items():
        told = ", ".join(f"{what} {error:.1e} ({mixer})" for what, (error, mixer) in errors.items())
        terminalreporter.write_line(f"worst errors, {way}: {told}")
    reasons = {str(one.longrepr[2]) for one in stats.get("skipped", []) if isinstance(one.longrepr, tuple)}
    for reason in (reason for reason in sorted(reasons) if UNCHECKED in reason):
        terminalreporter.write_line(reason.removeprefix("Skipped: "))
