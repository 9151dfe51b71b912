"""Compiles the CPU operators now instead of on first use: `python -m diffmamba.ops.cpu`."""

import sys
import time

from diffmamba.errors import SettingError
from diffmamba.ops.cpu import build
from diffmamba.ops.cpu.compiler import CompileError


def main() -> int:
    """Compiles them if they are not there, and says where the library lies. Status 1: they could not be compiled."""
    started = time.monotonic()
    try:
        path = build.build(retry=True)
    except SettingError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (CompileError, OSError) as error:
        print(f"the CPU operators cannot be compiled, so PyTorch's will run: {error}", file=sys.stderr)
        return 1
    loaded = build.load()
    if isinstance(loaded, str):
        print(f"the CPU operators cannot be loaded, so PyTorch's will run: {loaded}", file=sys.stderr)
        return 1
    print(f"CPU operators for {build.describe()}: {path} ({time.monotonic() - started:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
