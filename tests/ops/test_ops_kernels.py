"""The CUDA path without a GPU: `interpreted.py` and the operators of `tests/gpu`, in a process of their own.

Triton, whose interpreter runs the kernels, and the NumPy that it needs lie in `.triton`, mamba-ssm and causal-conv1d in
`.reference`, both outside the environment. `make setup` brings them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import references

HERE = Path(__file__).parent
PACKAGES = (HERE.parents[1] / ".triton" / "triton", references.DIRECTORY / "mamba_ssm")


def test_operators_and_mixers_by_the_kernels_give_what_they_give_by_pytorch() -> None:
    for package in PACKAGES:
        if not package.is_dir():
            missing = f"{package} is not there; make setup installs it"
            pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    folders = [*(str(package.parent) for package in PACKAGES), str(HERE)]
    path = os.pathsep.join([*folders, *filter(None, [os.environ.get("PYTHONPATH")])])
    files = ["interpreted.py", "../gpu/test_gpu_operators.py"]
    options = ["-p", "triton_on_cpu", "-p", "no:cacheprovider", "--tb=short", "-k", "not on_a_gpu"]
    command = [sys.executable, "-m", "pytest", *options, *files]
    environment = os.environ | {"PYTHONPATH": path, "TRITON_INTERPRET": "1"}
    child = subprocess.run(
        command, cwd=HERE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert child.returncode == 0, child.stdout
    assert "skipped" not in child.stdout.splitlines()[-1]
