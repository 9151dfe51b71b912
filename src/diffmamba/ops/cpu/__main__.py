"""Compiles the CPU operators now instead of on first use: `python -m diffmamba.ops.cpu`."""

import sys
import time

from diffmamba.errors import SettingError
from diffmamba.ops.cpu import build
from diffmamba.ops.cpu.compiler import CompileError


def main() -> int:
    """Compiles them if they are not there, and says where the library lies. Status 1: PyTorch's will run."""
    started, kept = time.monotonic(), ""
    try:
        build.build(retry=True)
    except SettingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (CompileError, OSError) as error:
        kept = f"; nothing is kept in the cache: {error}"
    loaded = build.load()
    if isinstance(loaded, str):
        print(f"the CPU operators cannot be loaded, so PyTorch's will run: {loaded}", file=sys.stderr)
        return 1
    print(f"CPU operators for {build.describe()}: {loaded._name} ({time.monotonic() - started:.1f} s){kept}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
