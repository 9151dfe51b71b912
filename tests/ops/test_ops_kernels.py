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
TRITON = HERE.parents[1] / ".triton"
FOLDERS = (TRITON, references.DIRECTORY)


def test_operators_and_mixers_by_the_kernels_give_what_they_give_by_pytorch() -> None:
    for folder in FOLDERS:
        if not folder.is_dir():
            missing = f"{folder} is not there; make setup installs it"
            pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    path = os.pathsep.join([*map(str, FOLDERS), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    files = ["interpreted.py", "../gpu/test_gpu_operators.py"]
    options = ["-p", "triton_on_cpu", "-p", "no:cacheprovider", "--tb=short", "-k", "not on_a_gpu"]
    command = [sys.executable, "-m", "pytest", *options, *files]
    environment = os.environ | {"PYTHONPATH": path, "TRITON_INTERPRET": "1"}
    child = subprocess.run(
        command, cwd=HERE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    last = child.stdout.rpartition("=====")[2] if child.returncode else child.stdout.splitlines()[-1]
    assert child.returncode == 0, child.stdout
    assert " passed" in last
    assert "skipped" not in last
