"""A function of the benchmarks in a process of its own: for peak memory, and for libraries that would disturb others.

The child is started as `python -m benchmarks.child MODULE:FUNCTION`, reads the keyword arguments as JSON from standard
input, and writes what the function returns as JSON to standard output. Whatever is printed goes to standard error.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import diffmamba

ROOT = Path(__file__).resolve().parents[1]


class ChildError(RuntimeError):
    """The child failed; why is on standard error."""


def call(function: Callable[..., Any], **arguments: Any) -> Any:
    """What a function of a module returns, called in a fresh process with as many threads as this one has.

    Arguments and result are plain data. Raises ChildError where the process fails.
    """
    paths = [str(ROOT), str(Path(diffmamba.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", f"{function.__module__}:{function.__qualname__}"],
        input=json.dumps({"threads": torch.get_num_threads(), "arguments": arguments}),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    if done.returncode:
        raise ChildError(f"the process that ran {function.__qualname__} ended with status {done.returncode}")
    return json.loads(done.stdout)


def main() -> None:
    """The child's side."""
    module, function = sys.argv[1].split(":")
    output = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is not the result
    asked = json.loads(sys.stdin.read())
    torch.set_num_threads(asked["threads"])
    result = getattr(importlib.import_module(module), function)(**asked["arguments"])
    with os.fdopen(output, "w") as stream:
        json.dump(result, stream)


if __name__ == "__main__":
    main()
